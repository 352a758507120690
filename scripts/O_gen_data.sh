#!/usr/bin/env bash
# Samples for the Onet.
exec "$(dirname "$0")/run.sh" core.pipeline --upto samples_onet "$@"
