"""What is found out about a file, as lines."""

SHOWN = 3  # names in a line


class Report:
    """What was found out about one file: its kind, then facts, a table of values, warnings and
    damage, a line each."""

    def __init__(self, path):
        self.path, self.title = path, None
        self.facts, self.table, self.warnings, self.damages = [], [], [], []

    def fact(self, about, text):
        self.facts.append(f"  {about:<13}{text}")

    def warn(self, text):
        self.warnings.append(f"  ! {text}")

    def damage(self, problem):
        if self.title is None:  # then there is nothing else to print
            named = str(problem).startswith(str(self.path))
            self.title = str(problem) if named else f"{self.path}: {problem}"
            problem = None
        self.damages.append(problem)

    def lines(self):
        """What is to be printed. What came out of the file, names for one, is shown in characters
        that any terminal has."""
        wrong = (f"  wrong: {problem}" for problem in self.damages if problem)
        for line in (self.title, *self.facts, *self.table, *self.warnings, *wrong):
            yield "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def some(names):
    """A few names of several."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(kinds):
    """A Counter as text."""
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
