#!/usr/bin/env bash
# From pictures to a trained Pnet20: sets up, makes samples, trains, measures, draws. Without
# --data it draws a sample set to work on; `scripts/P20_train.sh --help` lists the options.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
PYTHONPATH=$root exec "$root/.venv/bin/python" -m core.pipeline "$@"
