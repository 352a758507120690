#!/usr/bin/env bash
# usage: scripts/docs.sh [serve]
#
# Builds the documentation as a site, into site/; `serve` shows it on http://127.0.0.1:8000 and
# renews it as files change. Its tools have an environment of their own, .venv-docs, which is made
# first. PYTHON=... names an interpreter.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-build}" in
    build) command=(build --strict --quiet) ;;
    serve) command=(serve) ;;
    *) echo "error: unknown command $1: it is serve, or nothing" >&2; exit 2 ;;
esac

. "$root/scripts/environment.sh"
environment .venv-docs requirements-docs.txt \
    "it downloads 28 MB and takes 170 MB of disk; about a minute"
cd "$root"
export NO_MKDOCS_2_WARNING=1 # that Material's makers have begun another program
.venv-docs/bin/mkdocs "${command[@]}"
echo "the site begins with $root/site/index.html"
