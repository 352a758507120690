#!/usr/bin/env bash
# Trains Lnet_v2, 5 points on crops of 48 px, cut as training goes, and measures it.
# Without --faces it draws a sample set to work on; --help lists the options.
exec "$(dirname "$0")/run.sh" core.landmarks --net Lnet_v2 "$@"
