#!/bin/sh
# Runs a section of a document as it stands there: every ```sh block, in order, in an empty
# directory, with the given binary on PATH. What a ```text block of the section shows must come out,
# line by line in that order; `...` stands for anything. Without a document, the README's ten minutes.
#
#   sh tests/readme.sh target/debug/countersign [DOCUMENT SECTION]
set -eu

binary=${1:?usage: sh tests/readme.sh BINARY [DOCUMENT SECTION]}
binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")
document=${2:-README.md}
section="## ${3:-Ten minutes}"
file=$(cd "$(dirname "$0")/.." && pwd)/$document
limit=120 # seconds; the section takes about fifteen

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/empty"
ln -s "$binary" "$work/bin/countersign"

# blocks LANGUAGE: the lines of the section's blocks in that language.
blocks() {
    awk -v section="$section" -v fence="\`\`\`$1" '
        !inside && !other && /^## / { here = index($0, section) == 1 }
        !here { next }
        inside && $0 == "```" { inside = 0; next }
        inside { print; next }
        other && $0 == "```" { other = 0; next }
        $0 == fence { inside = 1; next }
        /^```/ { other = 1 }
    ' "$file"
}

{
    # Whatever happens, what was started in the background ends with the script.
    echo "trap 'kill \$(jobs -p) 2>/dev/null || true' EXIT"
    blocks sh
} >"$work/script"
blocks text >"$work/expected"
for part in script expected; do
    if [ "$(wc -l <"$work/$part")" -lt 3 ]; then
        echo "readme: found no blocks in the section '$section' of $document" >&2
        exit 1
    fi
done

fail() {
    echo "readme: $document: $1; what came out:" >&2
    sed 's/^/    /' "$work/output" >&2
    exit 1
}

# A proxy in the environment is not for a gateway on loopback.
status=0
(
    cd "$work/empty"
    unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY || true
    PATH=$work/bin:$PATH exec timeout "$limit" bash -euo pipefail "$work/script"
) >"$work/output" 2>&1 </dev/null || status=$?
[ "$status" -ne 124 ] || fail "the commands did not end within $limit s"
[ "$status" -eq 0 ] || fail "a command failed (exit $status)"

# Each expected line in turn is looked for behind the one before it.
missing=$(awk '
    function matches(line, pattern,    parts, count, i, at) {
        count = split(pattern, parts, /\.\.\./)
        if (count == 1) return line == pattern
        if (index(line, parts[1]) != 1) return 0
        line = substr(line, length(parts[1]) + 1)
        for (i = 2; i < count; i++) {
            at = index(line, parts[i])
            if (!at) return 0
            line = substr(line, at + length(parts[i]))
        }
        at = length(line) - length(parts[count])
        return at >= 0 && substr(line, at + 1) == parts[count]
    }
    NR == FNR { if ($0 != "") expected[++total] = $0; next }
    found < total && matches($0, expected[found + 1]) { found++ }
    END { if (found < total) print expected[found + 1] }
' "$work/expected" "$work/output")
[ -z "$missing" ] || fail "this line is shown, and it did not come out: $missing"

echo "readme: the commands of $document ($section) work as written"
