#!/usr/bin/env bash
# Samples for the Pnet.
exec "$(dirname "$0")/run.sh" core.pipeline --upto samples_pnet "$@"
