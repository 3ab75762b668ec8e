"""The commands of clients/, and what every one of them is run on."""

import base64
import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"
VECTORS = ROOT / "tests" / "vectors"
RUN_SECONDS = 60  # of which a first compilation takes some

# RFC 8410, section 7: what stands before the 32 bytes of a private key in PKCS#8.
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


@dataclass(frozen=True)
class Signer:
    """One of the clients, and the variables that it is run with."""

    folder: str
    environment: dict = field(default_factory=dict)

    def run(self, *arguments, key, machine_id="", **environment):
        """Runs `clients/<folder>/run`; the finished process, with bytes as its output."""
        environment = os.environ | self.environment | environment
        environment |= {"COUNTERSIGN_KEY": str(key), "COUNTERSIGN_MACHINE_ID": machine_id}
        command = [str(CLIENTS / self.folder / "run"), *map(str, arguments)]
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_SECONDS
        )


def has_java():
    """scripts/setup installs it where it can."""
    return shutil.which("javac") is not None


def accepted_vectors():
    """The vectors that a gateway accepts: their names, the arguments of `sign`, body, key (PEM) and signature."""
    for folder in sorted(VECTORS.glob("accepted-*")):
        message = (folder / "message.txt").read_text()
        method, rest = message.split(":", 1)
        path, timestamp, nonce, _ = rest.rsplit(":", 3)
        seed = json.loads((folder / "case.json").read_text())["signed_by"]["seed"]
        key = base64.b64encode(PKCS8 + bytes.fromhex(seed)).decode()
        key = f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"
        body = _body((folder / "request.http").read_bytes())
        yield folder.name, (method, path, timestamp, nonce), body, key, (folder / "signature.txt").read_text()


def _body(request):
    head, body = request.split(b"\r\n\r\n", 1)
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    joined = b""
    while size := int(body.partition(b"\r\n")[0], 16):
        start = body.index(b"\r\n") + 2
        joined, body = joined + body[start : start + size], body[start + size + 2 :]
    return joined


def redirect(test, status, target):
    """A server that sends everybody on to `target`, and its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Location", target + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            """The test looks at the client."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    return f"http://127.0.0.1:{server.server_address[1]}"
