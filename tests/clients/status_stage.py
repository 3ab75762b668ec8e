"""Gateways in each state that the status page has words for: `stage(name, folder)` sets one up.

    tests/clients/.venv/bin/python tests/clients/screenshots.py FOLDER
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import backend
from gateway import BINARY, certificate, free_ports
from machine import Machine

SECONDS = 20  # the longest wait for a state

# A person's name, a team and a folder that would be markup, script, or another direction of text.
SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(1)>"
TURNED = "\u202egnp.exe"


class Stage:
    """A gateway in front of a backend, from construction until `close`."""

    def __init__(self, folder, machines=(), servers=None, routes=None, tls_name=None, days=90, ready=True, admin_tls=None, **more):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.backend = backend.Backend()
        self.port, tls_port, admin = free_ports(3)
        self.admin = f"http://127.0.0.1:{admin}"
        self.machines = list(machines)
        (self.folder / "token").write_text(backend.TOKEN)
        (self.folder / "token").chmod(0o600)
        self.configuration = {
            "listeners": [{"address": f"127.0.0.1:{self.port}", "health": "/livez"}],
            "admin": {"address": f"127.0.0.1:{admin}"},
            "registry": {"file": "machines.yaml"},
            "upstreams": {
                "secrets": {
                    "servers": servers or [self.backend.url],
                    "credential": {"header": backend.TOKEN_HEADER, "file": "token"},
                    "check": "GET /v1/secrets",
                    "connect_timeout": "200ms",
                }
            },
            "routes": routes or [{"path": "/", "upstream": "secrets"}],
            "replay": {"state_dir": "state"},
            "audit": {"file": "audit.jsonl"},
            "shutdown": {"delay": "0s", "grace": "1s"},
        } | more
        if admin_tls:
            self.configuration["admin"]["tls"] = admin_tls
        if tls_name:
            certificate(self.folder, tls_name, days)
            listener = {"address": f"127.0.0.1:{tls_port}", "tls": {"cert": "cert.pem", "key": "tls-key.pem"}}
            self.configuration["listeners"].append(listener)
        self.write_configuration()
        self.write_registry()
        self.process = None
        self.start(ready)

    def start(self, ready=True):
        with (self.folder / "log").open("ab") as log:
            command = [BINARY, "serve", "--config", str(self.folder / "countersign.yaml")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until(lambda: self.answers("/readyz" if ready else "/livez"), "it does not start")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.stop()
        self.backend.close()

    def write_configuration(self, text=None):
        self._replace("countersign.yaml", text or json.dumps(self.configuration, indent=2))  # JSON is YAML

    def write_registry(self, text=None):
        self._replace("machines.yaml", text or json.dumps({"machines": self.machines}, indent=2))

    def _replace(self, name, text):
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.replace(self.folder / name)

    def request(self, machine, path="/v1/secrets", **changed):
        """The status of a signed request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=machine.sign("GET", path) | changed)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                answer.read()  # who hangs up before the end counts as a failure
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    def get(self, path, **headers):
        """A page of the admin listener: status, headers and text."""
        request = urllib.request.Request(self.admin + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode()

    def answers(self, path):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}\n{self.log()}")
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    def status(self):
        return json.loads(self.get("/status.json")[2])

    def until(self, condition, complaint):
        end = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{complaint} after {SECONDS} s\n{self.log()}")
            time.sleep(0.05)

    def until_verdict(self, verdict):
        self.until(lambda: self.status()["verdict"] == verdict, f"the verdict is not {verdict}")

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


def after(**span):
    """An instant from now, as the registry has it."""
    return (datetime.now(timezone.utc) + timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def date(days):
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y-%m-%d")


FLEET = [
    ("build-runner-07", "Build runner 7", "ci"),
    ("payments-api-1", "Payments API", "payments"),
    ("payments-api-2", "Payments API", "payments"),
    ("backup-nightly", "Nightly backup", "platform"),
    ("web-eu-1", "Web, Europe", "web"),
]


def fleet(**changed):
    """Machines, and their entries in the registry. `changed` has more fields by id, with _ for -."""
    machines = [Machine(id) for id, _, _ in FLEET]
    entries = []
    for machine, (id, name, owner) in zip(machines, FLEET):
        entries.append(machine.entry() | {"name": name, "owner": owner} | changed.get(id.replace("-", "_"), {}))
    return machines, entries


@contextmanager
def staged(*arguments, **more):
    stage = Stage(*arguments, **more)
    try:
        yield stage
    finally:
        stage.close()


@contextmanager
def well(folder):
    """Everything works, with a little traffic."""
    machines, entries = fleet()
    routes = [
        {"path": "/", "upstream": "secrets"},
        {"path": "/v1/legacy", "upstream": "secrets", "bearer_until": date(21)},
        {"path": "/healthz", "upstream": "secrets", "mode": "open"},
    ]
    with staged(folder, entries, routes=routes, tls_name="localhost") as stage:
        for machine in machines[:4]:
            for _ in range(3):
                assert stage.request(machine) == 200
        assert stage.request(machines[0], **{"X-Nonce": "0123456789abcdef"}) == 401
        assert stage.request(Machine("nobody")) == 401
        stage.until_verdict("well")
        yield stage


@contextmanager
def quarantine(folder):
    """The journal was lost, and what it remembered may be replayed for a while."""
    machines, entries = fleet()
    with staged(folder, entries) as stage:
        assert stage.request(machines[0]) == 200
        stage.stop()
        for file in (stage.folder / "state").iterdir():
            if file.name != "token-hash.key":
                file.unlink()
        (stage.folder / "state" / "nonces").mkdir(exist_ok=True)
        stage.start(ready=False)
        yield stage


@contextmanager
def starting(folder):
    """Another gateway holds the journal."""
    _, entries = fleet()
    with staged(Path(folder) / "first", entries) as first:
        state = str(first.folder / "state")
        with staged(Path(folder) / "second", entries, ready=False, replay={"state_dir": state}) as stage:
            stage.until_verdict("not_ready")
            yield stage


@contextmanager
def server_down(folder):
    """One of two servers takes no connections."""
    machines, entries = fleet()
    dead, = free_ports(1)
    with staged(folder, entries) as stage:
        stage.configuration["upstreams"]["secrets"]["servers"] = [stage.backend.url, f"http://127.0.0.1:{dead}"]
        stage.write_configuration()
        stage.until(lambda: stage.status()["servers"]["total"] == 2, "the second server is not there")
        while stage.status()["verdict"] == "well":
            assert stage.request(machines[0]) == 200
        yield stage


@contextmanager
def no_server(folder):
    """The only server takes no connections: requests fail."""
    machines, entries = fleet()
    dead, = free_ports(1)
    with staged(folder, entries, servers=[f"http://127.0.0.1:{dead}"]) as stage:
        for _ in range(4):
            assert stage.request(machines[0]) == 502
        stage.until_verdict("failing")
        yield stage


@contextmanager
def credential_refused(folder):
    """The backend does not take the credential any more."""
    machines, entries = fleet()
    with staged(folder, entries) as stage:
        (stage.folder / "token").write_text("a-token-that-was-revoked")
        stage.until(lambda: stage.request(machines[0]) == 503, "the credential is still accepted")
        stage.until_verdict("failing")
        yield stage


@contextmanager
def mistakes(folder):
    """Registry and configuration were written with mistakes."""
    machines, entries = fleet()
    with staged(folder, entries) as stage:
        assert stage.request(machines[1]) == 200
        broken = [entries[0] | {"enabled": "maybe"}, entries[1] | {"id": "build-runner-07"}, entries[2] | {"nmae": "typo"}]
        stage.write_registry(json.dumps({"machines": broken}))
        stage.write_configuration(json.dumps(stage.configuration | {"routs": [], "limits": {"keepalive": "0s"}}))
        out = lambda: [reload for reload in stage.status()["reloads"] if not reload["in_force"]]
        stage.until(lambda: len(out()) == 2, "the mistakes are not noticed")
        yield stage


@contextmanager
def expiring(folder):
    """Machines, keys and a certificate end soon, and a clock is off."""
    second = Machine("spare").entry()["public_keys"][0]
    machines, entries = fleet(
        build_runner_07={"expires": after(hours=5)},
        payments_api_1={"expires": after(days=3, hours=2)},
        web_eu_1={"enabled": False},
    )
    entries[2]["public_keys"] = [{"key": entries[2]["public_keys"][0], "not_after": after(days=2)}, second]
    entries[3]["public_keys"] = [{"key": entries[3]["public_keys"][0], "not_after": after(hours=20)}]
    with staged(folder, entries, tls_name="localhost", days=4) as stage:
        for machine in machines[:3]:
            assert stage.request(machine) == 200
        assert stage.request(machines[3].at(180)) == 200
        stage.until_verdict("attention")
        yield stage


@contextmanager
def hostile(folder):
    """Names that would be markup, in every place that takes such names."""
    machines, entries = fleet(
        build_runner_07={"name": SCRIPT, "owner": IMAGE, "vault": "</style>{{7*7}}${7*7}"},
        payments_api_1={"name": IMAGE, "expires": after(hours=3), "owner": SCRIPT},
    )
    routes = [
        {"path": "/", "upstream": "secrets"},
        {"path": "/a'&b=(c)", "upstream": "secrets", "bearer_until": date(2)},
    ]
    place = Path(folder) / f"{TURNED}{IMAGE}".replace("/", "")
    with staged(place, entries, routes=routes, tls_name="localhost", days=3) as stage:
        assert stage.request(machines[0]) == 200
        assert stage.request(machines[1]) == 200
        stage.write_registry(json.dumps({"machines": [entries[0] | {SCRIPT: IMAGE}], TURNED: 1}))
        stage.configuration["upstreams"]["secrets"]["servers"].append("http://no-such-name.invalid:1")
        stage.configuration["credentials"] = {"lost": {"header": "X-Lost", "file": f"{IMAGE}{SCRIPT}".replace("/", "")}}
        stage.write_configuration()
        stage.until_verdict("failing")
        stage.until(lambda: SCRIPT in stage.get("/status.json")[2], "the mistake is not told")
        yield stage


STATES = {
    "well": well,
    "starting": starting,
    "quarantine": quarantine,
    "server-down": server_down,
    "no-server": no_server,
    "credential-refused": credential_refused,
    "mistakes": mistakes,
    "expiring": expiring,
    "hostile": hostile,
}
