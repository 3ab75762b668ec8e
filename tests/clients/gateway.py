"""Starts and stops the real countersign in front of a backend."""

import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import backend

BINARY = os.environ.get("COUNTERSIGN") or str(
    Path(__file__).resolve().parents[2] / "target" / "debug" / "countersign"
)
START_SECONDS = 15
STOP_SECONDS = 10  # the grace of five and as much again
RELOAD_SECONDS = 10
COUNT_SECONDS = 2


class Gateway:
    """`countersign serve` in a folder of its own, from construction until `stop`."""

    def __init__(self, folder, backend_url, machines, replay=None, signs=False, credentials=None, check=None,
                 query=None, route=None):
        self.folder = Path(folder)
        self.port, admin_port = free_ports(2)
        self.url = f"http://localhost:{self.port}"  # the clients insist on this name
        self._admin = f"http://127.0.0.1:{admin_port}"
        self._log = self.folder / "gateway.log"

        (self.folder / "token").write_text(backend.TOKEN + "\n")
        (self.folder / "token").chmod(0o600)
        self._write_registry(machines)
        configuration = {
            "listeners": [{"address": f"127.0.0.1:{self.port}"}],
            "admin": {"address": f"127.0.0.1:{admin_port}"},
            "registry": {"file": "machines.yaml"},
            "upstreams": {
                "secrets": {
                    "servers": [backend_url],
                    "credential": {"header": backend.TOKEN_HEADER, "file": "token"},
                }
            },
            "routes": [{"path": "/", "upstream": "secrets"} | (route or {})],
            "audit": {"file": "audit.jsonl", "token_key": "token-hash.key"},
            "shutdown": {"delay": "0s", "grace": "5s"},
        }
        if query:
            configuration["routes"][0]["query"] = query
        if replay:
            configuration["replay"] = replay
        if credentials:
            configuration["credentials"] = credentials
        if check:
            configuration["upstreams"]["secrets"]["check"] = check
        if signs:
            configuration["audit"] |= {"signing_key": "key.pem", "checkpoint": {"records": 10}}
            command = [BINARY, "keygen", "--out", str(self.folder / "key.pem")]
            self.public_key = subprocess.check_output(command, text=True).strip()
        self._configuration = configuration
        self.file = self.folder / "countersign.yaml"
        self._write_configuration()

        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BINARY, "serve", "--config", str(self.file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait(self._ready, START_SECONDS, "the gateway is not ready")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def stop(self):
        """Asks the gateway to end, and insists that it ends well; nothing where it has."""
        if self._process.returncode == 0:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the gateway did not end on SIGTERM\n{self.log()}") from None
        if code != 0:
            raise AssertionError(f"the gateway ended with {code}\n{self.log()}")

    def register(self, machines):
        """Replaces the registry while the gateway runs, and returns when that is in force."""
        before = self.metric("registry_reloads_total")
        self._write_registry(machines)
        self._wait(
            lambda: self.metric("registry_reloads_total") > before,
            RELOAD_SECONDS,
            "the gateway did not reload the registry",
        )

    def route(self, **settings):
        """Gives the route these settings and no others while the gateway runs, by `countersign reload`."""
        self._configuration["routes"] = [{"path": "/", "upstream": "secrets"} | settings]
        self._write_configuration()
        command = [BINARY, "reload", "--admin", self._admin.removeprefix("http://")]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=RELOAD_SECONDS)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def refusals(self, code, more_than=-1):
        """How many requests were refused with this code, once these are `more_than` so many.

        A client may have its answer a moment before the gateway has counted it.
        """
        self._wait(
            lambda: self.metric("refusals_total", f'code="{code}"') > more_than,
            COUNT_SECONDS,
            f"the gateway refused nothing with {code}",
        )
        return self.metric("refusals_total", f'code="{code}"')

    def metric(self, name, label=""):
        """The sum of a metric's series, of those with the label."""
        series = re.compile(rf"countersign_{name}(\{{.*\}})? (\S+)")
        found = (series.fullmatch(line) for line in self.metrics().splitlines())
        return sum(float(it[2]) for it in found if it and label in (it[1] or ""))

    def metrics(self):
        with urllib.request.urlopen(f"{self._admin}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def audit(self):
        return (self.folder / "audit.jsonl").read_text()

    def records(self):
        """The whole lines of the trail; the gateway may be at its next one."""
        return [json.loads(line) for line in self.audit().splitlines(keepends=True) if line.endswith("\n")]

    def trails(self):
        """The audit trail, and the file of refusals, which is there once something was refused."""
        return [self.folder / "audit.jsonl", self.folder / "audit.refused.jsonl"]

    def token_hash(self, token):
        """The name of a bearer token in audit records, computed as docs/audit.md says."""
        key = bytes.fromhex((self.folder / "token-hash.key").read_text())
        return hmac.digest(key, token.encode(), hashlib.sha256)[:16].hex()

    def log(self):
        return self._log.read_text(errors="replace")

    def _write_configuration(self):
        new = self.folder / "countersign.yaml.new"
        new.write_text(json.dumps(self._configuration, indent=2))  # JSON is YAML
        new.replace(self.file)

    def _write_registry(self, machines):
        """By renaming, as editors do, so that no half of it is ever read."""
        new = self.folder / "machines.yaml.new"
        new.write_text(json.dumps({"machines": [machine.entry() for machine in machines]}, indent=2))
        new.replace(self.folder / "machines.yaml")

    def _ready(self):
        if self._process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self._process.returncode}\n{self.log()}")
        try:
            with urllib.request.urlopen(f"{self._admin}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _wait(self, condition, seconds, complaint):
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"{complaint} after {seconds} s\n{self.log()}")
            time.sleep(0.05)


def free_ports(count):
    """Ports of the loopback address that nobody listens on; all held at once, so they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports
