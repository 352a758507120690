#!/usr/bin/env bash
# The whole test suite; arguments go to pytest (e.g. -k zoo).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
cd "$root"
exec .venv/bin/python -m pytest tests "$@"
