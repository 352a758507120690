#!/usr/bin/env bash
# What the Pnet is trained on, by kind. No list is written: training draws from the store.
exec "$(dirname "$0")/run.sh" core.pipeline --mix pnet "$@"
