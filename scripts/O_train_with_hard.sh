#!/usr/bin/env bash
# The Onet, without a landmark head.
exec "$(dirname "$0")/run.sh" core.pipeline --no-landmarks --upto onet "$@"
