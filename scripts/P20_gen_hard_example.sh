#!/usr/bin/env bash
# What the Pnet wrongly takes for faces, for itself to learn from.
exec "$(dirname "$0")/run.sh" core.pipeline --upto mine_pnet "$@"
