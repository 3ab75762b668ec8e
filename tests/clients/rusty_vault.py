"""A real Vault-compatible server: RustyVault, initialised, unsealed, with tokens."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from gateway import free_ports

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[2] / "target")
BINARY = TARGET / "tools" / "rusty_vault" / "bin" / "rvault"
START_SECONDS = 15

CONFIGURATION = """
storage "file" {{
  path = "{folder}/data"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = "true"
}}
api_addr = "http://127.0.0.1:{port}"
"""


class RustyVault:
    """The server in a folder of its own, from construction until `stop`."""

    def __init__(self, folder):
        folder = Path(folder)
        (folder / "data").mkdir(parents=True)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "server.log"
        file = folder / "server.hcl"
        file.write_text(CONFIGURATION.format(folder=folder, port=port))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BINARY, "server", "--config", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._open()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self._process.kill()
        self._process.wait()

    def ask(self, method, path, content=None, token=None):
        """The status and the JSON of one answer, straight from the server."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, body, method=method)
        if token:
            request.add_header("X-Vault-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or b"null")

    def token(self, policy):
        """A new token with this policy."""
        wanted = {"policies": [policy], "no_parent": True}
        status, answer = self.ask("POST", "/v1/auth/token/create", wanted, self._root)
        assert status == 200, answer
        return answer["auth"]["client_token"]

    def write(self, path, content):
        status, answer = self.ask("POST", path, content, self._root)
        assert status == 204, answer

    def revoke(self, token):
        status, answer = self.ask("POST", f"/v1/auth/token/revoke/{token}", token=self._root)
        assert status == 204, answer

    def _open(self):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                status, answer = self.ask("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"RustyVault does not answer\n{self._log.read_text()}") from None
                time.sleep(0.05)
        assert status == 200, answer
        self._root = answer["root_token"]
        status, answer = self.ask("PUT", "/v1/sys/unseal", {"key": answer["keys"][0]})
        assert (status, answer["sealed"]) == (200, False), answer
