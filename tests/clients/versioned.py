"""A key/value store with versions, as Vault's engine of that name (version 2) answers hvac.

RustyVault has the engine without versions only; this has as much of the other as the agent's tests ask
for, and wants the gateway's token.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from backend import TOKEN, TOKEN_HEADER

DATA = "/v1/kv/data/"
METADATA = "/v1/kv/metadata/"


class Versioned:
    """The store on a free port of the loopback address, from construction until `close`."""

    def __init__(self):
        self.headers = []  # of each request that came
        self._secrets = {}  # versions by name, the first one first
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, method, target, headers, body):
        with self._lock:
            self.headers.append({name.lower(): value for name, value in headers})
        if [value for name, value in headers if name.lower() == TOKEN_HEADER.lower()] != [TOKEN]:
            return 403, {"errors": ["permission denied"]}
        target = urlsplit(target)
        query = parse_qs(target.query)
        with self._lock:
            if target.path.startswith(DATA):
                return self._data(method, target.path.removeprefix(DATA), query, body)
            if target.path.startswith(METADATA):
                return self._metadata(method, target.path.removeprefix(METADATA))
        return 404, {"errors": []}

    def _data(self, method, name, query, body):
        versions = self._secrets.setdefault(name, [])
        if method in ("POST", "PUT"):
            versions.append(json.loads(body)["data"])
            return 200, {"data": {"version": len(versions)}}
        number = int(query.get("version", ["0"])[0]) or len(versions)
        if not 1 <= number <= len(versions):
            return 404, {"errors": []}
        return 200, {"data": {"data": versions[number - 1], "metadata": {"version": number}}}

    def _metadata(self, method, name):
        if method == "LIST":
            folder = name.rstrip("/") + "/"
            names = [it.removeprefix(folder) for it in self._secrets if it.startswith(folder)]
            return 200, {"data": {"keys": sorted(names)}}
        versions = self._secrets.get(name)
        if not versions:
            return 404, {"errors": []}
        numbers = {str(number): {} for number in range(1, len(versions) + 1)}
        return 200, {"data": {"current_version": len(versions), "versions": numbers}}


def _handler(answer):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = answer(self.command, self.path, self.headers.items(), body)
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PUT = do_LIST = do_DELETE = _serve

        def log_message(self, *_):
            pass

    return Handler
