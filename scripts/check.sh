#!/usr/bin/env bash
# usage: scripts/check.sh [--fix]
#
# Lint, format and types, of everything. `--fix` mends what ruff can mend.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-}" in
    "") fix=() format=(--check) ;;
    --fix) fix=(--fix) format=() ;;
    *) echo "error: unknown option $1: the only one is --fix" >&2; exit 2 ;;
esac
"$root/scripts/setup.sh"
cd "$root"
.venv/bin/ruff check "${fix[@]}"
.venv/bin/ruff format "${format[@]}"
.venv/bin/mypy # facelet, strictly
.venv/bin/mypy --config-file scripts/mypy.ini
