#!/usr/bin/env bash
# From pictures to a trained Pnet20: sets up, makes samples, trains, measures, draws. Without
# --data it draws a sample set to work on; `scripts/P20_train.sh --help` lists the options.
exec "$(dirname "$0")/run.sh" core.pipeline --upto pnet "$@"
