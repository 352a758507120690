#!/usr/bin/env bash
# Trains L14_heatmap, 14 joints of bodies as heat maps, from a list of its own:
# scripts/L_train_onlylandmark14_heatmap.sh --faces LIST --out RUN; --help lists the options.
exec "$(dirname "$0")/run.sh" core.train --net L14_heatmap "$@"
