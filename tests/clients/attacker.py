"""Whoever has listened in on a machine, or has found a token, and tries what they can."""

import http.client

SIGNING = ("x-machine-id", "x-timestamp", "x-nonce", "x-signature")
ANSWER_SECONDS = 30


class Captured:
    """The first request that a wire has carried: one that some machine signed, without a body."""

    def __init__(self, wire):
        head, end, _ = bytes(wire.sent).partition(b"\r\n\r\n")
        assert end, "no request was captured"
        line, *fields = head.decode().split("\r\n")
        self.method, self.path, _ = line.split(" ")
        pairs = (field.split(":", 1) for field in fields)
        self.headers = {name.strip().lower(): value.strip() for name, value in pairs}
        missing = [name for name in SIGNING if name not in self.headers]
        assert not missing, f"the captured request has no {missing}"

    def send(self, url, keep=SIGNING, path=None, **more):
        """Sends it to `url`, of the signing headers only those in `keep`; status and body of the answer."""
        held = {name: value for name, value in self.headers.items() if name not in SIGNING or name in keep}
        return send(url, self.method, path or self.path, held | more)


def send(url, method, path, headers):
    """Sends one request with these headers and none besides `Host`; status and body of the answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_SECONDS)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in ("host", "connection"):
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
