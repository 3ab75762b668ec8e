"""OpenBao as a development server, for the tests of SikkerKey's clients before it: in memory, with KV
version 2 at secret/.
"""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from gateway import free_ports

TARGET = os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[2] / "target"
PROGRAM = Path(TARGET) / "tools" / "usr" / "bin" / "bao"
ROOT = "root-of-the-test"
START_SECONDS = 30


class AdapterStore:
    """The server on a free port of the loopback address, from construction until `close`."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="countersign-openbao-")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        log = open(Path(self._folder.name) / "log", "wb")
        command = [PROGRAM, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}",
                   f"-dev-listen-address=127.0.0.1:{port}"]
        environment = os.environ | {"HOME": self._folder.name}
        with log:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                raise AssertionError("OpenBao did not start")
            time.sleep(0.1)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"X-Vault-Token": ROOT}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def write(self, path, **fields):
        self.ask("POST", f"/v1/secret/data/{path}", {"data": fields})

    def delete(self, path):
        self.ask("DELETE", f"/v1/secret/data/{path}")

    def token(self, policy):
        """A token with this policy, and the default one, with which it can be looked up."""
        self.ask("PUT", "/v1/sys/policies/acl/machine", {"policy": policy})
        body = {"policies": ["machine"], "no_parent": True}
        return self.ask("POST", "/v1/auth/token/create", body)["auth"]["client_token"]

    def _answers(self):
        try:
            self.ask("GET", "/v1/secret/config")
            return True
        except (urllib.error.URLError, OSError):
            return False
