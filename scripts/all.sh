#!/usr/bin/env bash
# From pictures to a detector: all steps, and a page about them. Without --data it draws a sample
# set to work on; `scripts/all.sh --help` lists the options, --dry-run shows the plan.
exec "$(dirname "$0")/run.sh" core.pipeline "$@"
