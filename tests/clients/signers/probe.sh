#!/bin/sh
# What a script may do with the signer for the shell: probe.sh CASE URL, with the key in $COUNTERSIGN_KEY.
set -eu

. "$(dirname "$0")/../../../clients/shell/countersign.sh"
COUNTERSIGN_MACHINE_ID=web-1
url=$2

told() {
    countersign_curl "$@" --output /dev/null --write-out '%{http_code}\n' 2>&1 || true
}

case $1 in
many)
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        told GET "$url"
    done | sort -u
    ;;
twice)
    told GET "$url"
    (told GET "$url") # a subshell is a process of its own
    told GET "$url"
    ;;
streamed)
    told POST "$url" --upload-file -
    told POST "$url" --header 'Accept: text/plain' --data body
    ;;
kinds)
    told POST "$url" --data-binary text
    printf 'from standard input' | told POST "$url" --data-binary @-
    told POST "$url" --data-binary "@$0" --header 'Content-Type: text/plain'
    told POST "$url" --data-binary ''
    told GET "$url../echo/"
    told GET "$url?a={b,c}&d=[1-2]"
    told GET "$url/é"
    ;;
redirected)
    told GET "$url" --location
    told GET "$url" --location-trusted
    ;;
esac
