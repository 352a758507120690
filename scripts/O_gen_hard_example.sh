#!/usr/bin/env bash
# What Pnet and Rnet wrongly hold for faces, for the Onet to learn from.
exec "$(dirname "$0")/run.sh" core.pipeline --upto mine_onet "$@"
