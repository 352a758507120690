#!/usr/bin/env bash
# usage: scripts/web.sh [--nets DIR] [--port N | --build DIR]
#
# Builds the page that finds faces in a browser, into web/site/, and shows it on
# http://127.0.0.1:8008 until ctrl-C. `--build` builds it into another folder and ends: the folder is
# all that a web server needs. `--nets` takes the nets of a detector of your own, as `facelet` does.
# Its tools have an environment of their own, .venv-web, which is made first. PYTHON=... names an
# interpreter.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"
environment .venv-web requirements-web.txt \
    "it downloads 180 MB and takes 780 MB of disk; about two minutes"
exec "$root/.venv-web/bin/python" "$root/scripts/web.py" "$@"
