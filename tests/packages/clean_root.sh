#!/bin/sh
# Installs a package in a clean Debian that systemd boots, with no network but loopback, and runs the
# commands of docs/install.md there as they stand in the document. Then it upgrades and purges.
#
#   [SUITE=trixie] sh tests/packages/clean_root.sh target/package/countersign_VERSION_ARCH.deb
#
# Takes root. The Debian, bookworm unless SUITE says otherwise, is made once, in target/tools.
set -eu

cd "$(dirname "$0")/../.."
package=${1:?usage: sh tests/packages/clean_root.sh PACKAGE}
suite=${SUITE:-bookworm}
base=${CARGO_TARGET_DIR:-target}/tools/clean-root-$suite.tar
limit=300 # seconds, for everything inside; it takes about forty

fail() {
    echo "clean root: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || fail "it takes root"

# blocks FILE HEADING LANGUAGE: the first block in that language of a section.
block() {
    awk -v heading="## $2" -v fence="\`\`\`$3" '
        /^## / { here = index($0, heading) == 1 }
        inside && $0 == "```" { exit }
        inside { print }
        here && $0 == fence { inside = 1 }
    ' "$1"
}

if [ ! -f "$base" ]; then
    echo "clean root: making a Debian for $base"
    mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,dbus,python3 --aptopt='APT::Install-Recommends "0"' \
        "$suite" "$base.new"
    mv "$base.new" "$base"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar -C "$root" --extract --file "$base"
cp "$package" "$root/root/"
block docs/install.md Package sh >"$root/root/commands"
# The backend is that of the README: it wants a token, and names who read.
block README.md Ten sh | sed -n '/^import json/,/^ThreadingHTTPServer/p' >"$root/root/backend.py"
grep -q serve_forever "$root/root/backend.py" || fail "README.md shows no backend"
count=$(grep -c . "$root/root/commands")
[ "$count" -ge 3 ] && [ "$count" -le 6 ] || fail "docs/install.md has $count commands; it promises six at most"

cp tests/packages/inside.sh "$root/root/inside.sh"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
cat >"$root/etc/systemd/system/inside.service" <<END
[Unit]
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/root
Environment=HOME=/root
ExecStart=/bin/sh -c 'bash /root/inside.sh >/root/output 2>&1; echo \$? >/root/status; systemctl --no-block poweroff'
TimeoutStartSec=$limit
END
ln -s /etc/systemd/system/inside.service "$root/etc/systemd/system/multi-user.target.wants/"
# A root has no identity before its first start, and asks nobody for one.
rm -f "$root/etc/machine-id"
: >"$root/etc/machine-id"

timeout --kill-after=10 $((limit + 60)) systemd-nspawn --quiet --directory="$root" --private-network \
    --register=no --keep-unit --machine="countersign-$$" --boot </dev/null >"$work/console" 2>&1 || true
if [ "$(cat "$root/root/status" 2>/dev/null)" != 0 ]; then
    cat "$root/root/output" >&2 || tail -30 "$work/console" >&2
    fail "it failed"
fi
cat "$root/root/output"
