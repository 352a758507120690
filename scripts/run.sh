#!/usr/bin/env bash
# usage: scripts/run.sh PROGRAM [ARGUMENT ...]
#
# Runs a program of the repository in its environment, which is set up first:
# scripts/run.sh core.detect picture.jpg --nets nets --out found
# Help does not wait for that: before the first set-up it comes from docs/reference/programs.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)

help=
for word in "$@"; do
    case $word in -h | --help) help=yes ;; --) break ;; esac
done
page=$root/docs/reference/programs/${1:-}.md
if [ -n "$help" ] && [ ! -x "$root/.venv/bin/python" ] && [ -f "$page" ]; then
    # What stands in the fence under its heading; a command has one of its own (core.bench train).
    wanted="## $1"
    if grep -qx "## $1 ${2:-}" "$page"; then wanted="## $1 $2"; fi
    exec awk -v wanted="$wanted" '
        /^```/ { if (inside) exit; inside = at; next }
        inside { print; next }
        /^## / { at = ($0 == wanted) }' "$page"
fi
if [ -z "$help" ] || [ ! -f "$root/.venv/installed" ]; then "$root/scripts/setup.sh"; fi
PYTHONPATH=$root exec "$root/.venv/bin/python" -m "$@"
