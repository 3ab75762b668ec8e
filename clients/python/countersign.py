"""Signs the requests of `requests` and `httpx` for a Countersign gateway. Copy this file into your project.

    signer = Signer("web-1", Path("key.pem").read_bytes())
    requests.get("https://gateway.example/v1/secret/db", auth=RequestsAuth(signer), timeout=10)
    httpx.get("https://gateway.example/v1/secret/db", auth=HttpxAuth(signer))

Besides one of the two it needs `cryptography`: Python's standard library has no Ed25519.
"""

import base64
import hashlib
import itertools
import os
import secrets
import threading
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

try:
    from requests.auth import AuthBase as _RequestsBase
except ImportError:
    _RequestsBase = object
try:
    import httpx
    from httpx import Auth as _HttpxBase
except ImportError:
    _HttpxBase = object

NO_KEY = "the key is not an Ed25519 key in PKCS#8 PEM without passphrase. Make one: countersign keygen --out key.pem"
STREAMED = "cannot sign a streamed body: its hash is part of the signature. Pass bytes, a string, or json="
REDIRECTED = "redirect refused: a signature is good for one request to one server. Use the final URL: "


class SigningError(Exception):
    """The request cannot be signed, or was about to be sent elsewhere with its signature."""


class Signer:
    """Makes the four signing headers of a request. Threads may share it."""

    def __init__(self, machine_id, key, *, sign_query=True):
        """`key` is PKCS#8 PEM. Pass `sign_query=False` if the gateway's route has `query: strip`."""
        self._machine_id = machine_id
        try:
            self._key = load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:  # TypeError: it has a passphrase
            raise ValueError(NO_KEY) from error
        if not isinstance(self._key, Ed25519PrivateKey):
            raise ValueError(NO_KEY)
        self._sign_query = sign_query

    def headers(self, method, target, body):
        """The headers of a request with this target (path and query, as sent): new ones at each call."""
        path = target if self._sign_query else target.partition("?")[0]
        timestamp, nonce = str(int(time.time())), _nonces.next()
        signature = self.sign(method, path, timestamp, nonce, body)
        return {"X-Machine-Id": self._machine_id, "X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": signature}

    def sign(self, method, path, timestamp, nonce, body):
        message = f"{method}:{path}:{timestamp}:{nonce}:{hashlib.sha256(body).hexdigest()}"
        return base64.b64encode(self._key.sign(message.encode())).decode()


class RequestsAuth(_RequestsBase):
    """`auth=` of requests. A prepared request is signed once: prepare it again for each try."""

    def __init__(self, signer):
        self._signer = signer

    def __call__(self, request):
        body = b"" if request.body is None else request.body
        if isinstance(body, str):
            body = request.body = body.encode()
        if not isinstance(body, bytes):
            raise SigningError(STREAMED)
        target = "/" + request.path_url.lstrip("/")  # requests sends `//a` as `/a`
        request.headers.update(self._signer.headers(request.method, target, body))
        request.register_hook("response", self._refuse_redirect)
        return request

    @staticmethod
    def _refuse_redirect(response, **_):
        """requests would send the same headers to wherever the answer points."""
        if response.is_redirect:
            response.close()
            raise SigningError(REDIRECTED + response.headers["Location"].partition("?")[0])


class HttpxAuth(_HttpxBase):
    """`auth=` of httpx: clients and async clients, HTTP/1.1 and HTTP/2."""

    def __init__(self, signer):
        self._signer = signer

    def sync_auth_flow(self, request):
        request.extensions = {**request.extensions, "trace": self._sign(request)}
        yield request

    async def async_auth_flow(self, request):
        trace = self._sign(request)

        async def awaited(event, info):
            if waits := trace(event, info):
                await waits

        request.extensions = {**request.extensions, "trace": awaited}
        yield request

    def _sign(self, request):
        """Signs, and returns a trace that lets these headers out once: httpx sends them on to where an answer points."""
        try:
            body = request.content
        except httpx.RequestNotRead:
            raise SigningError(STREAMED) from None
        headers = self._signer.headers(request.method, request.url.raw_path.decode(), body)
        request.headers.update(headers)
        nonce, sent, callers = headers["X-Nonce"].encode(), [], request.extensions.get("trace")

        def trace(event, info):
            if event.endswith("send_request_headers.started") and nonce in dict(info["request"].headers).values():
                if sent:
                    raise SigningError(REDIRECTED + info["request"].url.target.decode().partition("?")[0])
                sent.append(nonce)
            return callers and callers(event, info)

        return trace


class _Nonces:
    """`CS1`, a random name of this process, a counter, and 96 random bits, each as base64url.

    The gateway tells a process that goes on from a copied key that is used beside it.
    """

    def __init__(self):
        self._lock, self._instance, self._counter = threading.Lock(), secrets.token_urlsafe(8), itertools.count()

    def next(self):
        with self._lock:
            count = next(self._counter) % 2**48
        counter = base64.urlsafe_b64encode(count.to_bytes(6, "big")).decode()
        return f"CS1{self._instance}{counter}{secrets.token_urlsafe(12)}"


_nonces = _Nonces()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_nonces.__init__)  # a forked child is a process of its own
