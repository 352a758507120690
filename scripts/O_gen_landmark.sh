#!/usr/bin/env bash
# Samples with landmarks for the Onet: those of the drawn set, or of --faces FACES.
exec "$(dirname "$0")/run.sh" core.pipeline --upto landmarks_onet "$@"
