"""The independent signer: one `case(..)` call makes one folder of golden files.

Written from the protocol text and `cryptography` alone. It shares nothing with the gateway, so that a bug cannot
hide in both. Nothing here is random or reads a clock: the same source always gives the same bytes.
"""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1752000000  # the gateway's clock in every case: 2025-07-08T18:40:00Z
MACHINE = "5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b"
PATH = "/v1/secret/db-password"
WINDOW = {"past": 300, "future": 300}
SIGNING_HEADERS = ("X-Machine-Id", "X-Timestamp", "X-Nonce", "X-Signature")


def seed(label):
    return hashlib.sha256(f"countersign test key {label}".encode()).digest()


def sign(label, message):
    return Ed25519PrivateKey.from_private_bytes(seed(label)).sign(message)


def public_key(label):
    key = Ed25519PrivateKey.from_private_bytes(seed(label)).public_key()
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def machine(machine_id=MACHINE, keys=("alice",), enabled=True, not_before=None, expires=None):
    """A registry entry, as it stands in case.json."""
    return {
        "id": machine_id,
        "public_keys": [public_key(key) for key in keys],
        "enabled": enabled,
        "not_before": not_before,
        "expires": expires,
    }


def nonce_for(name):
    return base64.b64encode(hashlib.sha256(f"countersign test nonce {name}".encode()).digest()[:16]).decode()


def raw(text):
    return text if isinstance(text, bytes) else text.encode()


def body_hash(body):
    return hashlib.sha256(body).hexdigest()


def message(fields):
    """{method}:{path}:{timestamp}:{nonce}:{bodyHash}"""
    digest = fields.get("body_hash", body_hash(fields["body"]))
    parts = (fields["method"], fields["path"], fields["timestamp"], fields["nonce"], digest)
    return b":".join(raw(part) for part in parts) + raw(fields.get("suffix", b""))


def request(method, target, headers, body, framing):
    """HTTP/1.1 bytes. `framing`: "length", "none", or the list of chunk sizes that the body is cut into."""
    lines = [b" ".join((raw(method), raw(target), b"HTTP/1.1")), b"Host: gateway.example"]
    lines += [raw(name) + b": " + raw(value) for name, value in headers]
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing != "none":
        lines.append(b"Transfer-Encoding: chunked")
        body = chunked(body, framing)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body, sizes):
    out = b""
    for size in sizes:
        chunk, body = body[:size], body[size:]
        out += b"%x\r\n%b\r\n" % (len(chunk), chunk)
    assert not body, "the chunk sizes must cover the body"
    return out + b"0\r\n\r\n"


def case(
    name,
    about,
    verdict="accepted",
    *,
    method="GET",
    target=PATH,
    timestamp=NOW,
    nonce=None,
    body=b"",
    framing=None,  # default: a length where there is a body
    machine_id=MACHINE,
    key="alice",  # the label of the key that signs
    signed=(),  # fields that the client signed differently from what it sent
    forge=None,  # (seed, message) -> signature bytes, in place of an honest one
    send=(),  # header name -> function from its one honest value to the list of values sent
    rename=(),  # header name -> the name it is sent under
    extra=(),  # headers sent besides the four
    machines=None,  # the registry; default: MACHINE with the key "alice"
    query="strip",
    max_body=1 << 20,
    methods=(),
    forward_headers=(),  # headers that the route lets cross besides the usual ones
    window=None,
):
    """The files of one case: a name, and what the file of each name holds."""
    path = raw(target) if query == "signed" else raw(target).partition(b"?")[0]
    fields = {
        "method": method,
        "path": path,
        "timestamp": str(timestamp),
        "nonce": nonce_for(name) if nonce is None else nonce,
        "body": body,
    }
    canonical, over = message(fields), message({**fields, **dict(signed)})
    signature = forge(seed(key), over) if forge else sign(key, over)
    honest = dict(
        zip(SIGNING_HEADERS, (machine_id, fields["timestamp"], fields["nonce"], base64.b64encode(signature).decode()))
    )
    sent = {header: dict(send).get(header, lambda value: [value])(value) for header, value in honest.items()}
    rename = dict(rename)
    headers = [(rename.get(header, header), value) for header, values in sent.items() for value in values] + list(extra)
    route = {"query": query, "max_body": max_body, "methods": list(methods)}
    if forward_headers:
        route["forward_headers"] = list(forward_headers)
    framing = framing or ("length" if body else "none")
    description = {
        "about": about,
        "now": NOW,
        "window": window or WINDOW,
        "route": route,
        "machines": [machine()] if machines is None else machines,
        "signed_by": {"seed": seed(key).hex(), "public_key": public_key(key)},
    }
    files = {
        "request.http": request(method, target, headers, body, framing),
        "case.json": raw(json.dumps(description, indent=2) + "\n"),
        "message.txt": canonical,
        "signature.txt": raw(sent["X-Signature"][0] if len(sent["X-Signature"]) == 1 else honest["X-Signature"]),
        "verdict.txt": raw(verdict),
    }
    if over != canonical:
        files["signed.txt"] = over
    return name, files
