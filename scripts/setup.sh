#!/usr/bin/env bash
# usage: scripts/setup.sh [--gpu]
#
# Makes .venv in the repository with everything pinned in requirements.txt, and compiles the engine
# (facelet/engine); does nothing when both are there and up to date. `--gpu` takes mxnet-cu112 and
# its CUDA libraries in place of the CPU wheel (untried: no machine with an NVIDIA card was at hand).
# PYTHON=... names an interpreter.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)

stamp=$root/.venv/installed
requirements=requirements.txt
case "${1:-}" in
    "") # keep the kind that was chosen before
        if grep -qs gpu "$stamp"; then requirements=requirements-gpu.txt; fi ;;
    --gpu) requirements=requirements-gpu.txt ;;
    *) echo "error: unknown option $1: the only one is --gpu" >&2; exit 2 ;;
esac

compile_engine() { # at once where that is done; without it all runs on onnxruntime and MXNet
    "$root/.venv/bin/python" "$root/facelet/engine/build.py" || true
    (cd "$root" && .venv/bin/python -m core.train.trunk.build) || true
}

wanted="$requirements $(cksum < "$root/$requirements")"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$root/.venv/bin/python" -c '' 2>/dev/null; then
    compile_engine
    exit 0
fi

# MXNet 1.9.1 needs NumPy below 2, which Python 3.13 does not have.
fits='import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))'
python=
for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3.9 python3}; do
    if "$candidate" -c "$fits" 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.9 to 3.12 with venv among: ${PYTHON:-python3.9 .. python3.12 python3}." \
         "Install one, e.g. 'apt-get install python3 python3-venv' on Debian or Ubuntu, or name" \
         "one: PYTHON=/path/to/python3.11 scripts/setup.sh" >&2
    exit 2
fi

# du of the wheels and of .venv, with Python 3.11 on 2 busy cores and a near mirror.
echo "setting up $root/.venv with $("$python" --version)"
if [ "$requirements" = requirements.txt ]; then
    echo "it downloads 270 MB and takes 1.0 GB of disk; about 2 minutes, more on a slow line"
fi
rm -rf "$root/.venv"
"$python" -m venv "$root/.venv"
# A line for each package as it comes, and one before the longest silence.
"$root/.venv/bin/python" -m pip install --disable-pip-version-check --no-deps --progress-bar off \
    -r "$root/$requirements" |
    sed -un -e 's/^ *\(Downloading\|Using cached\) \([^ ]*\)/  \2/p' \
        -e 's/^Installing collected packages.*/  unpacking all of them/p'
"$root/.venv/bin/python" -m pip check --disable-pip-version-check
compile_engine
echo "$wanted" > "$stamp"
