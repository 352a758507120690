"""The engine of this source, as scripts/setup.sh compiles it."""

from facelet.engine import build

if not build.up_to_date(build.HERE / build.LIBRARY):
    build.build()
