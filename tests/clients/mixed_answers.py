#!/usr/bin/env python3
"""Puts wrong backends behind the gateway, and looks for answers that reach the wrong machine.

A backend that sends bytes after its answer was complete, such as a body in answer to HEAD, leaves them on a connection
that the gateway may use for the next request. Whoever that is from must never read them.

    tests/clients/.venv/bin/python tests/clients/mixed_answers.py [--seconds N]

prints what each machine got, and exits with 0 if each got its own. COUNTERSIGN names the binary.
"""

import argparse
import collections
import http.client
import itertools
import json
import random
import socket
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gateway import Gateway
from machine import Machine

ANSWER_SECONDS = 30
LATE_SECONDS = (0.0001, 0.02)  # after a complete answer
REST_SECONDS = 0.05  # how long a connection rests after an answer that may have no body
NOBODY = "nobody"  # on the open route
BODY = '{{"machine":"{machine}","path":"{path}"}}'


class Stock:
    """Python's own server with its most common mistake: HEAD is answered with the body of GET.

    That body may be any bytes that a machine has stored. Here it is the text of another answer.
    """

    kinds = {"web-1": ["HEAD"], "web-2": ["HEAD"], "web-3": ["GET"], "web-4": ["GET"], "web-5": ["GET"], NOBODY: ["HEAD"]}
    late = None

    def __init__(self):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                machine = self.headers.get("X-Machine-Identity", NOBODY)
                body = BODY.format(machine=machine, path=self.path).encode()
                if self.command == "HEAD":
                    body = _with_length(body.decode(), "200 OK")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """A connection that the gateway does not use again is closed with the body in it."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Late:
    """Sends every kind of complete answer, and a moment later the bytes of another one, which nobody asked for.

    `wait` tells when the late bytes that follow a machine's answer are out.
    """

    kinds = dict.fromkeys([f"web-{n}" for n in range(1, 6)] + [NOBODY], ["HEAD", "length", "chunked", "204", "304"])

    def __init__(self):
        self.late = self
        self._out = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def wait(self, path):
        """Whether the late bytes after the answer for `path` are out; bounded."""
        return self._event(path).wait(ANSWER_SECONDS)

    def _event(self, path):
        with self._lock:
            return self._out.setdefault(path, threading.Event())

    def _accept(self):
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return  # closed
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        path = None
        try:
            with stream, stream.makefile("rb") as reader:
                while line := reader.readline():
                    method, path, _ = line.decode().split(" ")
                    headers = http.client.parse_headers(reader)
                    machine = headers.get("X-Machine-Identity", NOBODY)
                    stream.sendall(self._answer(method, machine, path))
                    answered = time.monotonic()
                    time.sleep(random.uniform(*LATE_SECONDS))
                    took = time.monotonic() - answered
                    poison = f'{{"poison":"{machine}","after":{took:.4f}}}'
                    stream.sendall(_with_length(poison, "200 OK"))
                    self._event(path).set()
        except OSError:
            pass  # the gateway has closed the connection: the late bytes go nowhere
        finally:
            if path:
                self._event(path).set()

    @staticmethod
    def _answer(method, machine, path):
        body = BODY.format(machine=machine, path=path)
        kind = path.split("/")[2]
        if method == "HEAD":
            return _with_length(body, "200 OK").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if kind == "204":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if kind == "304":
            return b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
        if kind == "chunked":
            return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
        return _with_length(body, "200 OK")


def _with_length(body, status):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Sender(threading.Thread):
    """Sends one machine's requests, one after another, and tallies what it gets."""

    def __init__(self, gateway, backend, name, machine, until):
        super().__init__(daemon=True)
        self._gateway, self._backend, self._name, self._machine, self._until = gateway, backend, name, machine, until
        self._connection = None
        self.got = collections.Counter()
        self.examples = []

    def run(self):
        kinds = itertools.cycle(self._backend.kinds[self._name])
        prefix = "/v1" if self._machine else "/open"
        for number in itertools.count():
            if time.monotonic() > self._until:
                return
            kind = next(kinds)
            method = "HEAD" if kind == "HEAD" else "GET"
            path = f"{prefix}/{kind}/{self._name}/{number}"
            what = self._judge(kind, path, *self._send(method, path))
            self.got[what] += 1
            if what != "own":
                self.examples = self.examples[:4] + [f"{self._name}: {method} {path}: {self._last[:300]}"]
            if self._backend.late and what == "own" and kind in ("length", "chunked"):
                # The gateway cannot know what a machine's own connection will bring. What it brings while the
                # machine rests must not be taken for an answer.
                self._backend.late.wait(path)

    def _send(self, method, path):
        """The status and the body of one answer; no status where there is no answer."""
        headers = self._machine.sign(method, path) if self._machine else {}
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=ANSWER_SECONDS)
            self._connection.request(method, path, headers=headers)
            answer = self._connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._connection = None
            return 0, repr(error).encode()
        return status, body

    def _judge(self, kind, path, status, body):
        """What an answer is: the machine's own, another's, bytes that are nobody's answer, or a failure."""
        self._last = f"{status} {body!r}"
        expected = BODY.format(machine=self._name, path=path).encode()
        if status in (0, 502, 503, 504):
            return "no HEAD" if kind == "HEAD" else "failed"
        if kind in ("HEAD", "204", "304"):
            return "own" if body == b"" and status == {"204": 204, "304": 304}.get(kind, 200) else "poison"
        if status == 200 and body == expected:
            return "own"
        try:
            said = json.loads(body)
        except ValueError:
            return "poison"
        if said.get("poison") == self._name and said["after"] > REST_SECONDS:
            return "slow"  # its own, by a backend that was held up for longer than any connection rests
        return "another's" if said.get("machine", self._name) != self._name else "poison"


def besiege(folder, backend, seconds):
    """What each machine got in so many seconds, and examples of what it should not have got."""
    machines = {name: None if name == NOBODY else Machine(name) for name in backend.kinds}
    more = {
        "routes": [
            {"path": "/v1", "upstream": "secrets"},
            {"path": "/open", "upstream": "secrets", "mode": "open"},
        ],
        "throttle": {"failures_per_minute": 0},
    }
    gateway = Gateway(folder, backend.url, [it for it in machines.values() if it], more=more)
    try:
        until = time.monotonic() + seconds
        senders = [Sender(gateway, backend, name, machine, until) for name, machine in machines.items()]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    finally:
        gateway.stop()
    return {it._name: it.got for it in senders}, [example for it in senders for example in it.examples]


def is_clean(got):
    """Whether nobody got anything but its own, and everybody did; of what failed, only requests by HEAD."""
    wrong = any(tally[what] for tally in got.values() for what in ("another's", "poison", "failed"))
    return not wrong and all(tally["own"] > 10 for tally in got.values())


def table(got):
    columns = ("own", "another's", "poison", "slow", "failed", "no HEAD")
    rows = [f"{'':<10}" + "".join(f"{name:>11}" for name in columns)]
    for name, tally in got.items():
        rows.append(f"{name:<10}" + "".join(f"{tally[column]:>11}" for column in columns))
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long each backend is asked (60)")
    seconds, clean = parser.parse_args().seconds, True
    for kind in (Stock, Late):
        backend = kind()
        with tempfile.TemporaryDirectory(prefix="countersign-mixed-") as folder:
            got, examples = besiege(Path(folder), backend, seconds)
        backend.close()
        print(kind.__doc__.splitlines()[0], table(got), *examples, "", sep="\n", flush=True)
        clean = clean and is_clean(got)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
