#!/usr/bin/env bash
# Trains Lnet106_80r, 106 points on crops of 80 px, cut as training goes, and measures it.
# Without --faces it draws a sample set to work on; --help lists the options.
exec "$(dirname "$0")/run.sh" core.landmarks --net Lnet106_80r "$@"
