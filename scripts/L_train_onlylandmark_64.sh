#!/usr/bin/env bash
# Trains Lnet_v3, 5 points on crops of 64 px, cut as training goes, and measures it.
# Without --faces it draws a sample set to work on; --help lists the options.
exec "$(dirname "$0")/run.sh" core.landmarks --net Lnet_v3 "$@"
