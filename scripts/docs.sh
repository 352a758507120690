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

venv=$root/.venv-docs stamp=$root/.venv-docs/installed
wanted=$(cksum < "$root/requirements-docs.txt")
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=
    for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3.9 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' \
            2>/dev/null; then python=$candidate; break; fi
    done
    if [ -z "$python" ]; then
        echo "error: no Python 3.9 or newer with venv; name one: PYTHON=/path/to/python3.11" \
             "scripts/docs.sh" >&2
        exit 2
    fi
    echo "setting up $venv: it downloads 28 MB and takes 170 MB of disk; about a minute"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        -r "$root/requirements-docs.txt"
    echo "$wanted" > "$stamp"
fi
cd "$root"
export NO_MKDOCS_2_WARNING=1 # that Material's makers have begun another program
"$venv/bin/mkdocs" "${command[@]}"
echo "the site begins with $root/site/index.html"
