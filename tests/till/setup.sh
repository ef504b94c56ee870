# shellcheck shell=bash
# Sourced by run and run-tests: Django in an environment of its own, and a server for the shop.

till=$root/tests/till
export PYTHONDONTWRITEBYTECODE=1 DJANGO_SETTINGS_MODULE=shop.settings

# till_python REQUIREMENTS: sets python, that of an environment with these installed, and compiles the
# translations.
till_python() {
    local requirements=$till/$1 venv=$SOFTLOCK_CACHE/till-${1%.txt}
    python=$venv/bin/python
    if ! cat "$till"/requirements*.txt | cmp -s - "$venv/complete"; then
        say "installing Django into $venv"
        logged venv /usr/bin/python3 -m venv --clear "$venv"
        logged pip "$venv/bin/pip" install -q -r "$requirements"
        cat "$till"/requirements*.txt >"$venv/complete"
    fi
    (cd "$till" && logged compilemessages "$python" manage.py compilemessages)
}

manage() { (cd "$till" && "$python" manage.py "$@"); }
