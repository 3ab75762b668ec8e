"""A machine: its key, what the gateway knows of it, and the identity that the clients read from disk."""

import base64
import hashlib
import json
import os
import secrets
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VAULT = "vault_test"


class Machine:
    """A machine with a fresh key."""

    def __init__(self, id, enabled=True, credential=None, groups=()):
        self.id = id
        self.enabled = enabled
        self.credential = credential
        self.groups = list(groups)
        self._key = Ed25519PrivateKey.generate()

    def renew(self):
        """A new key in place of the old one."""
        self._key = Ed25519PrivateKey.generate()

    def entry(self):
        """Its entry in the registry."""
        raw = self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        entry = {
            "id": self.id,
            "name": f"the-{self.id}-machine",
            "public_keys": [base64.b64encode(raw).decode()],
            "enabled": self.enabled,
        }
        if self.credential:
            entry["credential"] = self.credential
        if self.groups:
            entry["groups"] = self.groups
        return entry

    def sign(self, method, path, body=b""):
        """The four headers of a request, with a fresh nonce."""
        stamp, nonce = str(int(time.time())), secrets.token_hex(16)
        message = f"{method}:{path}:{stamp}:{nonce}:{hashlib.sha256(body).hexdigest()}"
        signature = base64.b64encode(self._key.sign(message.encode())).decode()
        return {"X-Machine-Id": self.id, "X-Timestamp": stamp, "X-Nonce": nonce, "X-Signature": signature}

    def settle(self, home, api_url):
        """Writes its identity below `home`, as an enrolment would have, and returns the identity."""
        folder = Path(home) / "vaults" / VAULT
        folder.mkdir(parents=True)
        key = folder / "private.pem"
        key.touch(mode=0o600)
        key.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        file = folder / "identity.json"
        content = {
            "machineId": self.id,
            "machineName": f"the-{self.id}-machine",
            "vaultId": VAULT,
            "apiUrl": api_url,
            "privateKeyPath": str(key),
        }
        file.write_text(json.dumps(content))
        return Identity(Path(home), file, key)


class Identity:
    """Where a machine's identity lies on disk."""

    def __init__(self, home, file, key):
        self.home = home
        self.file = file
        self.key = key

    def environment(self):
        """The environment of a client that runs as this machine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SIKKERKEY_")}
        return kept | {"SIKKERKEY_HOME": str(self.home)}
