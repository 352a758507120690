#!/usr/bin/env bash
# The Rnet.
exec "$(dirname "$0")/run.sh" core.pipeline --upto rnet "$@"
