#!/usr/bin/env bash
# The Pnet again, from scratch, with hard examples.
exec "$(dirname "$0")/run.sh" core.pipeline --upto pnet_hard "$@"
