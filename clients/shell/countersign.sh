# Signs requests for a Countersign gateway with OpenSSL 3, and sends them with curl. Copy this file into your
# project, and source it from a POSIX shell:
#
#   . ./countersign.sh
#   COUNTERSIGN_KEY=key.pem COUNTERSIGN_MACHINE_ID=web-1
#   countersign_curl GET https://gateway.example/v1/secret/db --max-time 10
#   countersign_curl POST https://gateway.example/v1/secret/db --data-binary @body.json
#
# $COUNTERSIGN_KEY is a private key in PKCS#8 PEM, or the file that holds it. With COUNTERSIGN_QUERY=strip the query
# is not signed, for a route with `query: strip`.

# countersign_curl METHOD URL [--data-binary @FILE] [OPTION OF CURL ..]: signs one request, and sends it.
countersign_curl() {
    _countersign_next_nonce || return
    _countersign_send "$@"
}

# In a subshell, so that its trap is its own.
_countersign_send() (
    method=$1 url=$2
    shift 2
    target=$(_countersign_target "$url") || exit
    work=$(mktemp -d) || exit
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    case ${1-} in
    --data-binary)
        case ${2-} in
        @-) cat >"$work/body" ;;
        @*) cat <"${2#@}" >"$work/body" ;; # read once: what is hashed is what is sent
        *) printf %s "${2-}" >"$work/body" ;;
        esac || exit
        shift 2
        set -- --data-binary "@$work/body" "$@"
        ;;
    esac
    for option; do
        case $option in
        -d* | --data | --data-[!b]* | --json | -F* | --form* | -T* | --upload-file*)
            echo "countersign: cannot sign a body by $option: pass --data-binary @FILE, right behind the URL" >&2
            exit 1
            ;;
        esac
    done
    timestamp=$(date +%s)
    body=$work/body
    [ -e "$body" ] || body=/dev/null
    signature=$(countersign_sign "$method" "$target" "$timestamp" "$_countersign_nonce" "$body") || exit
    printf '%s\n' "X-Machine-Id: $COUNTERSIGN_MACHINE_ID" "X-Timestamp: $timestamp" \
        "X-Nonce: $_countersign_nonce" "X-Signature: $signature" >"$work/headers"
    [ "$method" != HEAD ] || set -- "$@" --head # or curl waits for a body
    # The last word is ours: redirects and retries would go out with this signature. Sign each by a call of its own.
    curl --silent --show-error "$@" --globoff --path-as-is --no-location --retry 0 --request "$method" \
        --header @"$work/headers" --url "$url"
)

# countersign_sign METHOD PATH TIMESTAMP NONCE [BODYFILE]: prints X-Signature. The key never is an argument.
countersign_sign() (
    hash=$(openssl dgst -sha256 -r <"${5:-/dev/null}") || exit
    message=$(mktemp) || exit # a file: openssl must know its length
    trap 'rm -f "$message"' EXIT
    printf %s "$1:$2:$3:$4:${hash%% *}" >"$message"
    case $COUNTERSIGN_KEY in
    *-----BEGIN*) printf '%s\n' "$COUNTERSIGN_KEY" ;;
    *) cat <"$COUNTERSIGN_KEY" ;;
    esac | openssl pkeyutl -sign -rawin -passin pass: -inkey /dev/stdin -in "$message" | # it asks for no passphrase
        openssl base64 -A | grep -x '.\{88\}' && exit
    echo "countersign: cannot sign with \$COUNTERSIGN_KEY: is it an Ed25519 key in PKCS#8 PEM without passphrase?" >&2
    exit 1
)

# The path and query of a URL, as curl sends them.
_countersign_target() (
    LC_ALL=C
    url=${1%%#*}
    case $url in
    *[!!-~]*) echo "countersign: percent-encode the URL $url" >&2; exit 1 ;;
    esac
    rest=${url#*://}
    target=${rest#"${rest%%[/?]*}"}
    [ "${COUNTERSIGN_QUERY-}" != strip ] || target=${target%%\?*}
    case $target in
    /*) printf %s "$target" ;;
    *) printf %s "/$target" ;;
    esac
)

# Sets $_countersign_nonce: `CS1`, a random name of this process, a counter, and 96 random bits, each as base64url.
# The gateway tells a process that goes on from a copied key that is used beside it. A subshell is a process.
_countersign_next_nonce() {
    _countersign_now=$(exec sh -c 'echo $PPID')
    if [ "$_countersign_now" != "${_countersign_process-}" ]; then
        _countersign_process=$_countersign_now _countersign_count=0
        _countersign_instance=$(_countersign_random 8) || return
    fi
    _countersign_counter=$(awk -v n="$_countersign_count" 'BEGIN {
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for (i = 0; i < 8; i++) { text = substr(digits, n % 64 + 1, 1) text; n = int(n / 64) }
        print text
    }') && _countersign_random=$(_countersign_random 12) || return
    _countersign_count=$((_countersign_count + 1))
    _countersign_nonce=CS1$_countersign_instance$_countersign_counter$_countersign_random
}

_countersign_random() {
    openssl rand -base64 "$1" | tr '+/' '-_' | tr -d '=\n'
}
