#!/usr/bin/env bash
# usage: scripts/test.sh [PYTEST-ARGUMENT ...]
#
# The whole test suite, a file to a core; arguments go to pytest (e.g. -k zoo; -n 0 for one process).
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
cd "$root"
exec .venv/bin/python -m pytest tests -n auto --maxprocesses 4 --dist loadfile "$@"
