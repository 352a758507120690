#!/usr/bin/env bash
# What an Onet with landmarks is trained on. No list is written: training draws from the stores.
exec "$(dirname "$0")/run.sh" core.pipeline --mix onet "$@"
