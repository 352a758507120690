# Sourced by scripts that have an environment of their own beside .venv:
#
#     environment NAME REQUIREMENTS "what it downloads"
#
# makes the folder NAME in the repository with what the file REQUIREMENTS pins, unless it is there
# and up to date. It reads $root, and $PYTHON, the interpreters to try.
environment() {
    local venv=$root/$1 requirements=$root/$2 wanted python= candidate
    wanted=$(cksum < "$requirements")
    if [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ] &&
        "$venv/bin/python" -c '' 2>/dev/null; then return; fi
    for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3.9 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' \
            2>/dev/null; then python=$candidate; break; fi
    done
    if [ -z "$python" ]; then
        echo "error: no Python 3.9 or newer with venv; name one: PYTHON=/path/to/python3.11" \
             "scripts/$(basename "$0")" >&2
        exit 2
    fi
    echo "setting up $venv: $3"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        -r "$requirements"
    echo "$wanted" > "$venv/installed"
}
