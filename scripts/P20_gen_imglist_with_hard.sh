#!/usr/bin/env bash
# What the Pnet is trained on with hard ones. No list is written: training draws from the stores.
exec "$(dirname "$0")/run.sh" core.pipeline --mix pnet_hard "$@"
