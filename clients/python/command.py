"""usage: run sign METHOD PATH TIMESTAMP NONCE [BODYFILE]    prints X-Signature
       run METHOD URL [BODYFILE]                          signs, sends, prints the body; exit 0 for 2xx, else 1

COUNTERSIGN_KEY         the private key: PKCS#8 PEM, or the file that holds it
COUNTERSIGN_MACHINE_ID  the machine's id
COUNTERSIGN_QUERY       strip: leave the query unsigned; else it is signed
COUNTERSIGN_HTTP        requests (the default) or httpx
"""

import os
import sys
from pathlib import Path

ASKED = "" if sys.argv[1:2] == ["sign"] else os.environ.get("COUNTERSIGN_HTTP", "requests")
for library in {"requests", "httpx"} - {ASKED}:
    sys.modules[library] = None  # of the two only one is loaded: that halves the time to start

from countersign import HttpxAuth, RequestsAuth, Signer, SigningError  # noqa: E402


def main(arguments):
    signing = arguments[:1] == ["sign"]
    given = arguments[1:] if signing else arguments
    if len(given) not in ((4, 5) if signing else (2, 3)) or "COUNTERSIGN_KEY" not in os.environ:
        print(__doc__, file=sys.stderr)
        return 64
    key = os.environ["COUNTERSIGN_KEY"]
    key = key.encode() if "-----BEGIN" in key else Path(key).read_bytes()
    query = os.environ.get("COUNTERSIGN_QUERY") != "strip"
    signer = Signer(os.environ.get("COUNTERSIGN_MACHINE_ID", ""), key, sign_query=query)
    if signing:
        body = Path(given[4]).read_bytes() if len(given) == 5 else b""
        print(signer.sign(*given[:4], body))
        return 0
    body = Path(given[2]).read_bytes() if len(given) == 3 else None
    status, answer = send(signer, *given[:2], body)
    good = 200 <= status < 300
    (sys.stdout if good else sys.stderr).buffer.write(answer if good or answer else b"HTTP %d\n" % status)
    return 0 if good else 1


def send(signer, method, url, body):
    if ASKED == "httpx":
        import httpx

        try:
            answer = httpx.request(method, url, content=body, auth=HttpxAuth(signer), timeout=60)
        except httpx.HTTPError as error:
            raise OSError(error) from error
    else:
        import requests  # its errors are OSErrors

        answer = requests.request(method, url, data=body, auth=RequestsAuth(signer), timeout=60)
    return answer.status_code, answer.content


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, SigningError) as error:
        sys.exit(f"run: {error}")
