"""Build hook of the package: compiles the engine into the wheel (facelet.engine.build).

The library is loaded through ctypes, so that one wheel fits every Python 3 on a platform. Without
a C compiler, the one of the package ziglang is asked for; where that fails too, the wheel has no
library, and a line says so.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _builder(root):
    """facelet/engine/build.py by itself: the package needs NumPy, which isn't there yet."""
    spec = importlib.util.spec_from_file_location(
        "facelet_engine_build", Path(root, "facelet", "engine", "build.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class EngineHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def dependencies(self):
        builder = _builder(self.root)
        try:
            builder.compiler()
        except builder.CannotBuild:
            return ["ziglang"]
        return []

    def initialize(self, version, build_data):
        builder = _builder(self.root)
        library = builder.HERE / builder.LIBRARY
        try:
            if not builder.up_to_date(library):
                builder.build()
        except builder.CannotBuild as problem:
            print(f"the engine is not compiled, {problem}", file=sys.stderr)
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = f"facelet/engine/{library.name}"
