#!/bin/sh
# Signs a request with openssl alone and sends it with curl: any machine can be a client.
# usage: openssl.sh KEY.pem MACHINE-ID METHOD URL PATH [BODY]
set -eu
key=$1 id=$2 method=$3 url=$4 path=$5 body=${6-}

time=$(date +%s)
nonce=$(openssl rand -base64 16)
hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d' ' -f1)
message=$(mktemp)
trap 'rm -f "$message"' EXIT
printf %s "$method:$path:$time:$nonce:$hash" >"$message" # a file: openssl must know its length
signature=$(openssl pkeyutl -sign -rawin -inkey "$key" -in "$message" | openssl base64 -A)

curl -sS -X "$method" ${body:+--data-binary "$body"} -H "X-Machine-Id: $id" -H "X-Timestamp: $time" \
    -H "X-Nonce: $nonce" -H "X-Signature: $signature" "$url$path"
