"""A secrets backend that knows nothing of signatures: it wants a bearer token and records what it hears.

It speaks the part of the SikkerKey API that machines read with.
"""

import hashlib
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_HEADER = "X-Vault-Token"
TOKEN = "the-token-that-only-the-gateway-holds"
PROJECT = "proj_web"
SECRETS = {
    "sk_db": {
        "name": "db-prod",
        "value": '{"host": "db.internal", "password": "correct horse"}',
        "fieldNames": "host,password",
    },
    "sk_api": {"name": "api-key", "value": "a-very-secret-value", "fieldNames": None},
}


@dataclass(frozen=True)
class Heard:
    """One request as it reached the backend."""

    method: str
    path: str
    headers: list
    body: bytes

    def all(self, name):
        """Every value sent under `name`, whatever its case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # as many connections at once wait for a busy machine


class Backend:
    """The backend on a free port of the loopback address, from construction until `close`."""

    def __init__(self):
        self._heard = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self._record))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def heard(self):
        with self._lock:
            return list(self._heard)

    def forget(self):
        with self._lock:
            self._heard.clear()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _record(self, heard):
        with self._lock:
            self._heard.append(heard)


# What stands below it answers every method with what arrived.
ECHO = "/v1/echo/"

# Where machines log in, as OpenBao's jwt method has it; this one takes any assertion.
LOGIN = "/v1/auth/jwt/login"


def _handler(record):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            heard = Heard(self.command, self.path, self.headers.items(), body)
            record(heard)
            if (self.command, self.path) == ("POST", LOGIN):
                auth = {"client_token": TOKEN, "accessor": "accessor", "lease_duration": 600}
                self._answer(200, {"auth": auth})
                return
            if heard.all(TOKEN_HEADER) != [TOKEN]:
                self._answer(401, {"error": "the backend wants its token"})
                return
            if self.path.startswith(ECHO):
                digest = hashlib.sha256(body).hexdigest()
                self._answer(200, {"method": self.command, "path": self.path, "body_sha256": digest})
                return
            self._answer(*_answer(self.command, self.path.partition("?")[0], json.loads(body or b"{}")))

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = do_OPTIONS = _serve

        def _answer(self, status, answer):
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        def log_message(self, *_):
            """The record is the log."""

    return Handler


def _answer(method, path, asked):
    """The status and the JSON of one answer."""
    if method == "GET" and path.startswith("/v1/secret/"):
        secret = SECRETS.get(path.removeprefix("/v1/secret/"))
        return (200, {"value": secret["value"]}) if secret else (404, {"error": "no such secret"})

    listing = [
        {"id": id, "name": it["name"], "fieldNames": it["fieldNames"], "projectId": PROJECT, "projectName": "web"}
        for id, it in SECRETS.items()
    ]
    exported = [item | {"value": SECRETS[item["id"]]["value"]} for item in listing]
    answers = {
        ("GET", "/v1/secrets"): {"secrets": listing},
        ("GET", "/v1/cli/secrets"): {"secrets": listing},
        ("GET", "/v1/cli/projects"): {"projects": [{"projectId": PROJECT, "projectName": "web"}]},
        ("POST", "/v1/secrets/list"): {"secrets": listing},
        ("POST", "/v1/secrets/export"): {"secrets": exported},
        ("POST", "/v1/secrets/poll"): {"changes": {id: {"status": "changed"} for id in asked.get("watch", [])}},
        ("POST", "/v1/verify-access"): {"valid": True, "projectName": "web", "error": None},
    }
    answer = answers.get((method, path))
    return (200, answer) if answer is not None else (404, {"error": "no such resource"})
