#!/usr/bin/env bash
# What the Rnet is trained on, by kind. No list is written: training draws from the stores.
exec "$(dirname "$0")/run.sh" core.pipeline --mix rnet "$@"
