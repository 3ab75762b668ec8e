#!/bin/sh
# Uploads with curl: upload.sh URL COUNT SIZE 1.1|2
#
# Prints a line for each upload: the status and the body of the answer, or `lost` and why there was none.
# Headers are the lines of $UPLOAD_HEADERS; $UPLOAD_CA is the authority of the server's certificate.
set -eu

url=$1 count=$2 size=$3 version=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c "$size" /dev/zero >"$work/body"
printf '%s\n' "$UPLOAD_HEADERS" >"$work/headers"

while [ "$count" -gt 0 ]; do
    count=$((count - 1))
    status=0
    # Without Expect, which has curl wait for the refusal before it sends a byte.
    curl --silent --show-error --max-time 60 "--http$version" --cacert "$UPLOAD_CA" \
        --header @"$work/headers" --header Expect: --data-binary @"$work/body" \
        --write-out '%{http_code} %{http_version}\n' --output "$work/answer" "$url" \
        >"$work/code" 2>"$work/error" || status=$?
    if [ "$status" -ne 0 ]; then
        echo "lost exit $status $(tr '\n' ' ' <"$work/error")"
    elif ! grep -q " $version\$" "$work/code"; then
        echo "lost spoke HTTP/$(cut -d' ' -f2 "$work/code")"
    else
        echo "$(cut -d' ' -f1 "$work/code") $(cat "$work/answer")"
    fi
done
