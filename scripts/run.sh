#!/usr/bin/env bash
# Runs a program of the repository in its environment, which is set up first:
# scripts/run.sh core.detect picture.jpg --nets nets --out found
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
PYTHONPATH=$root exec "$root/.venv/bin/python" -m "$@"
