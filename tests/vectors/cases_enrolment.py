"""The proofs of new keys, in enrolment-proofs.json: the message of each, its signature, and whether it proves the key."""

import base64
import hashlib
import json

from signer import NOW, public_key, seed, sign

TOKEN = "cse_" + base64.urlsafe_b64encode(hashlib.sha256(b"countersign test token").digest()).rstrip(b"=").decode()
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ3ZWIifQ.AAAA"


def enrolment(about, *, vault="vault_prod", secret=TOKEN, key="alice", signed=None, signer=None, is_good=True):
    """`signed`: parts of the message that the client got wrong; `signer`: the label of the key that signs."""
    fields = {"vault": vault, "secret": secret, "public_key": public_key(key), "timestamp": NOW}
    over = {**fields, **(signed or {})}
    digest = hashlib.sha256(over["secret"].encode()).hexdigest()
    message = f"countersign-enrol-1:{over['vault']}:{digest}:{over['public_key']}:{over['timestamp']}"
    return finish("enrolment", about, fields, message, signer or key, is_good)


def renewal(about, *, machine="web-1", key="bob", signed=None, signer=None, is_good=True):
    fields = {"machine": machine, "public_key": public_key(key), "timestamp": NOW}
    over = {**fields, **(signed or {})}
    message = f"countersign-renew-1:{over['machine']}:{over['public_key']}:{over['timestamp']}"
    return finish("renewal", about, fields, message, signer or key, is_good)


def finish(kind, about, fields, message, signer, is_good):
    proof = base64.b64encode(sign(signer, message.encode())).decode()
    seed_of = seed(signer).hex()
    return {"kind": kind, "about": about, **fields, "seed": seed_of, "signed": message, "proof": proof, "good": is_good}


def proofs():
    cases = [
        enrolment("a token"),
        enrolment("a JWT, whose text takes the place of the token", secret=JWT),
        enrolment("a vault of every kind of character", vault="V-a.u_l7"),
        enrolment("signed by another key than the one that is registered", signer="bob", is_good=False),
        enrolment("signed for another vault", signed={"vault": "vault_test"}, is_good=False),
        enrolment("signed for another secret", signed={"secret": JWT}, is_good=False),
        enrolment("signed for another key", signed={"public_key": public_key("bob")}, is_good=False),
        enrolment("signed for another time", signed={"timestamp": NOW + 1}, is_good=False),
        renewal("a machine gets a new key"),
        renewal("signed by the old key", signer="alice", is_good=False),
        renewal("signed for another machine", signed={"machine": "web-2"}, is_good=False),
    ]
    return (json.dumps(cases, indent=1) + "\n").encode()
