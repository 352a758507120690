#!/usr/bin/env bash
# usage: scripts/train_zoo.sh small|medium|large|board --data DIR [--faces FACES] [OPTION ...]
#
# Trains one of the cascades for hard faces: all steps of scripts/all.sh with the recipe of that name.
# DIR is laid out like WIDER FACE; `prepare_data.combine` makes one of several. Options are those of
# scripts/all.sh.
case "${1:--h}" in -*) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
exec "$(dirname "$0")/run.sh" core.pipeline --recipe "$@"
