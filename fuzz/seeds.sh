#!/bin/sh
# Makes fuzz/corpus from the golden vectors and the reference configurations.
set -eu
cd "$(dirname "$0")/.."
for vector in tests/vectors/*/; do
    name=$(basename "$vector")
    for file in "$vector"*; do
        case $(basename "$file") in
        *request*)
            mkdir -p fuzz/corpus/request fuzz/corpus/target fuzz/corpus/headers
            cp "$file" "fuzz/corpus/request/$name"
            head -n 1 "$file" | cut -d ' ' -f 2 | tr -d '\n' >"fuzz/corpus/target/$name"
            # The four values, as the target wants them: each behind a line end.
            tr -d '\r' <"$file" | sed -n 's/^X-\(Machine-Id\|Timestamp\|Nonce\|Signature\): //Ip' \
                >"fuzz/corpus/headers/$name"
            ;;
        esac
    done
done
mkdir -p fuzz/corpus/registry fuzz/corpus/configuration fuzz/corpus/rule
printf '/v1/secret/a/b\nread,LIST /v1/secret/*/b' >fuzz/corpus/rule/star
printf '/a/b/\nany /a/**' >fuzz/corpus/rule/stars
cp conf/machines.yaml fuzz/corpus/registry/
cp conf/*.yaml fuzz/corpus/configuration/
