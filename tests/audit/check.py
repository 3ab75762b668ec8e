#!/usr/bin/env python3
"""Checks an audit trail by docs/audit.md alone, with none of the gateway's own code.

    check.py AUDIT.JSONL MACHINES.YAML [GATEWAY-KEY]     (the registry as JSON, which is YAML)

Prints the head of the log; says what is wrong and ends with 1 otherwise.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MARK = b',"hash":"'


def signed(key, signature, message):
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
        key.verify(base64.b64decode(signature), message.encode())
    except InvalidSignature:
        raise ValueError(f"the signature of {message} does not verify") from None


def check(lines, owners, gateway_key):
    number, before, torn, spent = 0, bytes(32), False, set()
    for line in lines:
        if not line.endswith(b'"}\n'):
            torn = True
            continue
        body, _, rest = line.rpartition(MARK)
        record = json.loads(line)
        if torn and not record.get("torn"):
            raise ValueError(f"a line before record {record['seq']} is broken")
        torn = False
        digest = hashlib.sha256(before + body)
        if rest != digest.hexdigest().encode() + b'"}\n' or record["seq"] != number + 1:
            raise ValueError(f"record {number + 1} is not what was written")
        is_open = record.get("auth") in ("none", "bearer") and "machine" not in record
        if record["decision"] == "accepted" and not is_open:
            machine = record["machine"]
            if machine["public_key"] not in owners.get(machine["id"], []):
                raise ValueError(f"record {number + 1}: the key is not {machine['id']}'s")
            parts = ("method", "signed_path", "timestamp", "nonce", "body_sha256")
            message = ":".join(str(record[part]) for part in parts)
            signed(machine["public_key"], record["signature"], message)
            if (machine["public_key"], message) in spent:
                raise ValueError(f"record {number + 1} was accepted before")
            spent.add((machine["public_key"], message))
        if record["decision"] == "checkpoint" and gateway_key:
            if record["head"] != f"{number}:{before.hex()}":
                raise ValueError(f"record {number + 1} signs another log")
            message = f"countersign-audit-checkpoint-1:{record['head']}:{record['ts']}"
            signed(gateway_key, record["signature"], message)
        for owner in record.get("keys", []):
            owners.setdefault(owner["id"], []).extend(owner["public_keys"])
        number, before = record["seq"], digest.digest()
    return f"{number}:{before.hex()}"


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as registry:
        machines = json.load(registry)["machines"]
    known = {machine["id"]: list(machine["public_keys"]) for machine in machines}
    with open(sys.argv[1], "rb") as log:
        try:
            print("head", check(log, known, sys.argv[3] if len(sys.argv) > 3 else None))
        except (ValueError, KeyError) as fault:
            sys.exit(f"{sys.argv[1]}: {fault}")
