#!/bin/sh
# Installs the client packages that run.py drives, at the versions pinned beside this file:
# the Python SDK, hvac and httpx into .venv, the Go CLI, the client for agents and node-vault into node_modules. Does nothing when
# both are right.
set -eu

cd "$(dirname "$0")"

fail() {
    echo "tests/clients/setup.sh: $*" >&2
    exit 1
}

for tool in python3 node npm curl openssl go; do
    command -v "$tool" >/dev/null || fail "$tool is missing: install it and run this again"
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "the SDK needs Python 3.10 or later, and python3 is $(python3 -V 2>&1)"

# A stamp says what was asked for, running the thing says that it is still there and whole.
sdk_is_right() {
    cmp -s requirements.txt .venv/installed.txt && .venv/bin/python -c 'import hvac, httpx, h2, playwright, prometheus_client, sikkerkey' 2>/dev/null
}

cli=node_modules/@sikkerkey/cli-linux-x64/sikkerkey
agents=node_modules/@sikkerkey/mcp-linux-x64/sikkerkey-mcp
cli_is_right() {
    cmp -s package-lock.json node_modules/installed.json && [ -d node_modules/node-vault ] &&
        "$cli" version >/dev/null 2>&1 && [ -x "$agents" ]
}

if ! sdk_is_right; then
    python3 -m venv --clear .venv ||
        fail "python3 cannot make a virtual environment (on Debian: apt-get install python3-venv)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt ||
        fail "pip could not install requirements.txt"
    cp requirements.txt .venv/installed.txt
    sdk_is_right || fail "the SDK is installed, but Python cannot import it"
fi

if ! cli_is_right; then
    npm ci --no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error >&2 ||
        fail "npm could not install package-lock.json (the CLI exists for Linux on x86-64 only)"
    # The package has it without the right to run it.
    chmod +x "$agents"
    cp package-lock.json node_modules/installed.json
    cli_is_right || fail "the CLI is installed, but does not run: $cli"
fi
