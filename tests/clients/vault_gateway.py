"""Starts and stops the real countersign with the shipped conf/vault.yaml, in front of OpenBao."""

import json
import shutil
import subprocess
from pathlib import Path

from gateway import BINARY, Gateway, certificate, free_ports

SHIPPED = Path(__file__).resolve().parents[2] / "conf" / "vault.yaml"
SERVERS = '["https://vault-1.internal:8200", "https://vault-2.internal:8200", "https://vault-3.internal:8200"]'


class VaultGateway(Gateway):
    """`countersign serve` with the shipped file; only addresses, and where the audit log is, are other ones.

    OpenBao gets to know its key, and a role with these settings. `changes` are further texts of the file, each
    with what stands in its place. `servers` are the URLs of OpenBao's servers, if there are several or others.
    """

    def __init__(self, folder, vault, machines, changes=(), servers=None, **role):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.port, admin_port = free_ports(2)
        self.url = f"https://localhost:{self.port}"
        self._admin = f"http://127.0.0.1:{admin_port}"
        self._log = self.folder / "gateway.log"
        self._environment = None  # this process's own
        self.file = self.folder / "vault.yaml"

        self.ca = certificate(self.folder)
        (self.folder / "tls-key.pem").rename(self.folder / "key.pem")
        shutil.copy(vault.ca, self.folder / "vault-ca.pem")
        key = self.folder / "assertion.pem"
        subprocess.run([BINARY, "keygen", "--out", key], check=True, capture_output=True)
        vault.trust(subprocess.check_output(["openssl", "pkey", "-in", key, "-pubout"], text=True), **role)
        self._write_registry(machines)
        text = SHIPPED.read_text()
        for old, new in (
            ("0.0.0.0:8443", f"127.0.0.1:{self.port}"),
            (SERVERS, json.dumps(servers or [vault.tls_url])),
            ("/var/log/countersign/audit.jsonl", "audit.jsonl"),
            *changes,
        ):
            assert text.count(old) == 1, f"conf/vault.yaml has {old} {text.count(old)} times"
            text = text.replace(old, new)
        self.file.write_text(f"{text}\nadmin: {{ address: 127.0.0.1:{admin_port} }}\n")
        self._launch()
