"""Uploads with Python's requests or httpx: upload.py requests|httpx URL COUNT SIZE 1.1|2

Prints a line for each upload: the status and the body of the answer, or `lost` and why there was none.
Headers are the lines of $UPLOAD_HEADERS; $UPLOAD_CA is the authority of the server's certificate.
"""

import os
import ssl
import sys

library, url, count, size, version = sys.argv[1:]
headers = dict(line.split(": ", 1) for line in os.environ["UPLOAD_HEADERS"].splitlines())
authority = os.environ["UPLOAD_CA"]
body = bytes(int(size))

if library == "requests":
    import requests

    Lost = requests.RequestException

    def upload():
        answer = requests.post(url, data=body, headers=headers, verify=authority, timeout=60)
        return answer.status_code, answer.text

else:
    import httpx

    Lost = httpx.HTTPError
    context = ssl.create_default_context(cafile=authority)

    def upload():
        with httpx.Client(verify=context, http1=version == "1.1", http2=version == "2", timeout=60) as client:
            answer = client.post(url, content=body, headers=headers)
            assert answer.http_version == f"HTTP/{version}", answer.http_version
            return answer.status_code, answer.text


for _ in range(int(count)):
    try:
        print(*upload(), flush=True)
    except Lost as error:
        print("lost", type(error).__name__, str(error).replace("\n", " ")[:200], flush=True)
