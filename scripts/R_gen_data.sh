#!/usr/bin/env bash
# Samples for the Rnet.
exec "$(dirname "$0")/run.sh" core.pipeline --upto samples_rnet "$@"
