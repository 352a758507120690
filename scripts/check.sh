#!/usr/bin/env bash
# Lint, format and types, of everything. `scripts/check.sh --fix` mends what ruff can mend.
set -euo pipefail
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
