#!/usr/bin/env python3
"""Checks every vector as a reader would: from its files alone, with none of the code that made them."""
import base64
import hashlib
import json
import pathlib
import sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

STRICT_ONLY = {"signature-small-order-r-solved"}  # the equation holds; OpenSSL does not look at the order of R
BEYOND_PARSING = {"accepted", "bad_signature", "machine_disabled", "machine_expired"}


def verifies(key, signature, message):
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signature, message) is None
    except InvalidSignature:
        return False


def read_request(raw, query):
    """The message that a gateway builds, the machine's id and the signature, out of the bytes on the wire."""
    head, body = raw.split(b"\r\n\r\n", 1)
    method, target, _ = head.split(b"\r\n")[0].split(b" ")
    header = {name.lower(): value for name, value in (line.split(b": ") for line in head.split(b"\r\n")[1:])}
    if b"transfer-encoding" in header:
        chunks, body = body, b""
        while (size := int(chunks.split(b"\r\n", 1)[0], 16)) > 0:
            start = chunks.index(b"\r\n") + 2
            body, chunks = body + chunks[start : start + size], chunks[start + size + 2 :]
    path = target if query == "signed" else target.split(b"?")[0]
    digest = hashlib.sha256(body).hexdigest().encode()
    message = b":".join((method, path, header[b"x-timestamp"], header[b"x-nonce"], digest))
    return message, header[b"x-machine-id"].decode(), header[b"x-signature"]


def problem(folder):
    case = json.loads((folder / "case.json").read_bytes())
    text = {path.stem: path.read_bytes() for path in folder.glob("*.txt")}
    verdict, message = text["verdict"].decode(), text["message"]
    signature = base64.b64decode(text["signature"] + b"==")  # lenient, so the next line has something to catch
    if len(signature) != 64 or base64.b64encode(signature) != text["signature"]:
        return None if verdict == "malformed_header" else "the signature is not canonical base64 of 64 bytes"
    forged = folder.name.startswith("signature-")
    if not forged and not verifies(case["signed_by"]["public_key"], signature, text.get("signed", message)):
        return "the client's own signature does not verify over what it signed"
    if verdict in BEYOND_PARSING:
        built, claimed, sent = read_request((folder / "request.http").read_bytes(), case["route"]["query"])
        keys = [key for machine in case["machines"] if machine["id"] == claimed for key in machine["public_keys"]]
        if (built, sent) != (message, text["signature"]):
            return "request.http does not say what message.txt and signature.txt say"
        good = any(verifies(key, signature, message) for key in keys) and folder.name not in STRICT_ONLY
        if good == (verdict == "bad_signature"):
            return f"{verdict}, but the signature is {'good' if good else 'bad'}"


def wrong_proof(case):
    """What is wrong with a proof of a new key, read from its own fields."""
    secret = hashlib.sha256(case.get("secret", "").encode()).hexdigest()
    key, at = case["public_key"], case["timestamp"]
    if case["kind"] == "enrolment":
        message = f"countersign-enrol-1:{case['vault']}:{secret}:{key}:{at}"
    else:
        message = f"countersign-renew-1:{case['machine']}:{key}:{at}"
    return verifies(key, base64.b64decode(case["proof"]), message.encode()) != case["good"]


HERE = pathlib.Path(__file__).resolve().parent
folders = sorted(path.parent for path in HERE.glob("*/case.json"))
problems = [f"{folder.name}: {found}" for folder in folders if (found := problem(folder))]
proofs = json.loads((HERE / "enrolment-proofs.json").read_bytes())
problems += [f"enrolment-proofs.json: {case['about']}" for case in proofs if wrong_proof(case)]
sys.exit("\n".join(problems) or (0 if folders else "no vectors found"))
