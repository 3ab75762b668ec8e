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
                 query=None, route=None, tls=False, more=None, environment=None):
        self.folder = Path(folder)
        self._environment = os.environ | (environment or {})
        self.port, tls_port, admin_port = free_ports(3)
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
        if tls:
            self.ca = certificate(self.folder)
            self.tls_url = f"https://localhost:{tls_port}"
            files = {"cert": "cert.pem", "key": "tls-key.pem"}
            configuration["listeners"].append({"address": f"127.0.0.1:{tls_port}", "tls": files})
        configuration |= more or {}
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

        self._launch()

    def _launch(self):
        """Starts the gateway, and returns once it is ready."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BINARY, "serve", "--config", str(self.file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment,
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

    @property
    def pid(self):
        return self._process.pid

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
        registry = {"machines": [machine.entry() for machine in machines]}
        # The gateway itself lets a group's machines do everything: what they may is for the backend to say.
        groups = sorted({name for machine in machines for name in machine.groups})
        if groups:
            registry["groups"] = [{"name": name, "allow": ["any /**"]} for name in groups]
        new.write_text(json.dumps(registry, indent=2))
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


_held = []  # what free_ports has reserved, until this process ends


def free_ports(count):
    """Ports of the loopback address that nobody listens on and that nobody else is given.

    Each stays bound here, without listening, and the kernel hands out no bound port. With SO_REUSEADDR on both
    sides a server can still listen there, as often as it is started.
    """
    ports = []
    for _ in range(count):
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        _held.append(held)
        ports.append(held.getsockname()[1])
    return ports


def certificate(folder, name="localhost"):
    """Writes `cert.pem` and `tls-key.pem`, self-signed for this name, and returns the path of the former."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
               "-addext", "basicConstraints=critical,CA:FALSE",
               "-keyout", str(folder / "tls-key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"
