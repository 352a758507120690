#!/usr/bin/env bash
# The Onet, with a landmark head where there are landmarks (the drawn set has them; --faces FACES).
exec "$(dirname "$0")/run.sh" core.pipeline --upto onet "$@"
