#!/usr/bin/env bash
# Trains Lnet106_112r_small, 106 points on crops of 112 px, cut as training goes, and measures it.
# Without --faces it draws a sample set to work on; --help lists the options.
exec "$(dirname "$0")/run.sh" core.landmarks --net Lnet106_112r_small "$@"
