#!/usr/bin/env bash
# What the Pnet wrongly holds for faces, for the Rnet to learn from.
exec "$(dirname "$0")/run.sh" core.pipeline --upto mine_rnet "$@"
