"""For the site (mkdocs.yml): the lists `name -- text` of docstrings become lists in Markdown."""

import re

import griffe


class DocstringLists(griffe.Extension):
    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^(\*{0,2}\w[\w, *]*) -- ", r"- `\1`: ", obj.docstring.value, flags=re.M
            )
