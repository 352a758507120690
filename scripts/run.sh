#!/usr/bin/env bash
# usage: scripts/run.sh PROGRAM [ARGUMENT ...]
#
# Runs a program of the repository in its environment, which is set up first:
# scripts/run.sh core.detect picture.jpg --nets nets --out found
# Help does not wait for that: before the first set-up it comes from docs/reference/programs.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)

program=${1:-nothing}
page=$root/docs/reference/programs/$program.md
if [ ! -f "$page" ] && [ ! -f "$root/${program//.//}.py" ]; then
    echo "error: $program is no program of the repository: name one, e.g. core.detect" \
         "or prepare_data.samples; docs/reference/index.md lists them" >&2
    exit 2
fi

help=
for word in "$@"; do
    case $word in -h | --help) help=yes ;; --) break ;; esac
done
if [ -n "$help" ] && [ ! -x "$root/.venv/bin/python" ]; then
    # What stands in the fence under its heading; a command has one of its own (core.bench train).
    wanted="## $1"
    if grep -qx "## $1 ${2:-}" "$page"; then wanted="## $1 $2"; fi
    exec awk -v wanted="$wanted" '
        /^```/ { if (inside) exit; inside = at; next }
        inside { print; next }
        /^## / { at = ($0 == wanted) }' "$page"
fi
if [ -z "$help" ] || [ ! -f "$root/.venv/installed" ]; then "$root/scripts/setup.sh"; fi
# As python -m does it, but with the repository in place of the current folder at the head of the
# path: a config.py or core/ that lies there is somebody else's.
exec "$root/.venv/bin/python" -c '
import runpy, sys
root, program, *rest = sys.argv[1:]
sys.path[0], sys.argv = root, [program, *rest]
runpy.run_module(program, run_name="__main__", alter_sys=True)' "$root" "$@"
