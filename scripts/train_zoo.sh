#!/usr/bin/env bash
# usage: scripts/train_zoo.sh small|medium|large|board --data DIR [--faces FACES] [OPTION ...]
#
# Trains one of the cascades for hard faces: all steps of scripts/all.sh with the recipe of that name.
# DIR is laid out like WIDER FACE; `prepare_data.combine` makes one of several. Options are those of
# scripts/all.sh.
set -euo pipefail
case "${1:-}" in
    small | medium | large | board) ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; [ "${1:-}" = -h ] || [ "${1:-}" = --help ] || exit 2; exit ;;
esac
recipe=$1
shift
exec "$(dirname "$0")/run.sh" core.pipeline --recipe "$recipe" "$@"
