#!/usr/bin/env bash
# Trains Lnet106_64_v3, 106 points on crops of 64 px, cut as training goes, and measures it.
# Without --faces it draws a sample set to work on; --help lists the options.
exec "$(dirname "$0")/run.sh" core.landmarks --net Lnet106_64_v3 "$@"
