#!/usr/bin/env python3
"""Breaks OpenBao in each way that it breaks, and shows what a client of the gateway gets meanwhile.

    tests/clients/.venv/bin/python tests/clients/backend_faults.py

prints the table of docs/vault.md, and exits with 0 if no fault of the backend's was a final answer (401, 403, 404)
and each was over within two seconds of its cause. COUNTERSIGN names the binary.
"""

import collections
import http.client
import json
import signal
import ssl
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from machine import Machine
from openbao import AUDIENCE, Cluster, OpenBao
from vault_gateway import VaultGateway

PAUSE_SECONDS = 0.05  # between two requests
BROKEN_SECONDS = 1.5  # how long a fault lasts
RECOVERY_SECONDS = 2.0
GIVE_UP_SECONDS = 15
FINAL = {401, 403, 404}
READ_TIMEOUT = "idle_timeout: 60s", "idle_timeout: 60s\n    read_timeout: 1s\n    connect_timeout: 1s"


class Client(threading.Thread):
    """A machine that reads its secret again and again, until `stop`. It tries nothing twice."""

    def __init__(self, gateway, machine):
        super().__init__(daemon=True)
        self._port = gateway.port
        self._trust = ssl.create_default_context(cafile=gateway.ca)
        self._machine = machine
        self._path = f"/v1/secret/data/{machine.id}/db"
        self._over = threading.Event()
        self.answers = []  # when it was asked and answered, the status, and the gateway's code or OpenBao's text

    def run(self):
        while not self._over.wait(PAUSE_SECONDS):
            asked = time.monotonic()
            status, told = self.read()
            self.answers.append((asked, time.monotonic(), status, told))

    def stop(self):
        self._over.set()
        self.join()

    def read(self):
        connection = http.client.HTTPSConnection("localhost", self._port, timeout=60, context=self._trust)
        try:
            connection.request("GET", self._path, headers=self._machine.sign("GET", self._path))
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status == 200:
            assert content["data"]["data"] == {"value": self._machine.id}, content
            return 200, ""
        return answer.status, content.get("code") or "OpenBao's own"


class Fault:
    """One way to break the backend: `breaks` does, and `mends` repairs it, where it does not repair itself.

    `seconds` is how long it lasts, if not as long as the others; `after` makes the backend what it was.
    """

    def __init__(self, name, breaks, mends=None, is_the_policy=False, seconds=None, after=None):
        self.name, self.breaks, self.mends, self.is_the_policy = name, breaks, mends, is_the_policy
        self.seconds, self.after = seconds, after


class Outcome:
    """What came of a fault."""

    def __init__(self, fault, answers, broken, mended):
        self.name = fault.name
        counted = [it for it in answers if it[1] >= broken]
        self.count = len(counted)
        self.failures = collections.Counter((status, told) for _, _, status, told in counted if status != 200)
        passed = [answered for asked, answered, status, _ in counted if status == 200 and asked >= mended]
        failed = [answered for _, answered, status, _ in counted if status != 200]
        self.slowest = max(answered - asked for asked, answered, _, _ in counted)
        # From the repair until the first answer after the last failure.
        last = max(failed, default=0)
        self.recovered = next((answered - mended for answered in passed if answered > last), None)
        self.final = {status for status, _ in self.failures if status in FINAL}
        self.is_good = (
            self.recovered is not None
            and (self.recovered <= RECOVERY_SECONDS or not self.failures)
            and (not self.final or fault.is_the_policy)
        )

    def row(self):
        told = ", ".join(f"{status} {code}" for status, code in sorted(self.failures)) or "200 throughout"
        recovered = "not" if self.recovered is None else f"{self.recovered:.1f} s"
        return f"| {self.name} | {told} | {sum(self.failures.values())} of {self.count} | {recovered} |"


TABLE = "| fault | client got | requests that failed | first 200 after the repair |\n|---|---|---|---|"


class Site:
    """OpenBao, whose storage survives a restart if it is on disk, the gateway with conf/vault.yaml, and one machine."""

    def __init__(self, folder, on_disk=True):
        self.vault = OpenBao(folder / "openbao", on_disk)
        self._start(folder)

    def _start(self, folder, servers=None):
        try:
            self.machine = Machine("web-1")
            self.vault.put("web-1/db", value="web-1")
            self.gateway = VaultGateway(
                folder / "gateway", self.vault, [self.machine], changes=[READ_TIMEOUT], servers=servers
            )
        except BaseException:
            self.vault.kill()
            raise

    def close(self):
        try:
            self.gateway.stop()
        finally:
            self.vault.kill()

    def revoke(self):
        self.vault.write("/v1/sys/leases/revoke-prefix/auth/jwt/login", None)

    def suffer(self, fault, seconds=BROKEN_SECONDS):
        """The fault, with a client that reads before it, during it and after it."""
        client = Client(self.gateway, self.machine)
        self._until_it_reads(client)
        client.start()
        time.sleep(5 * PAUSE_SECONDS)
        broken = mended = time.monotonic()
        try:
            fault.breaks()
            time.sleep(fault.seconds or seconds)
            if fault.mends:
                fault.mends()
                mended = time.monotonic()
            self._until_it_read_since(client, mended)
        finally:
            client.stop()
        if fault.after:
            fault.after()
        return Outcome(fault, client.answers, broken, mended)

    def _until_it_reads(self, client):
        until = time.monotonic() + GIVE_UP_SECONDS
        while client.read()[0] != 200:
            assert time.monotonic() < until, self.gateway.log()
            time.sleep(PAUSE_SECONDS)

    def _until_it_read_since(self, client, moment):
        """Until five requests in a row passed, or it takes too long."""
        until = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < until:
            last = client.answers[-5:]
            if len(last) == 5 and all(asked >= moment and status == 200 for asked, _, status, _ in last):
                return
            time.sleep(PAUSE_SECONDS)

    # The faults.

    def all(self):
        """Every fault, the ones that take longest last."""
        return [*self.quick(), *self.slow()]

    def quick(self):
        vault = self.vault
        role = vault.administer("GET", "/v1/auth/jwt/role/machine")["data"]
        rules = vault.administer("GET", "/v1/sys/policies/acl/machine")["data"]["policy"]
        set_role = lambda **more: vault.write("/v1/auth/jwt/role/machine", role | more)
        revoke = self.revoke

        def with_no_token(change):
            def run():
                change()
                revoke()

            return run

        def expire():
            """Has the lease of each machine's token end in a second, against what the gateway was told."""
            set_role(token_ttl=1)
            for accessor in vault.administer("LIST", "/v1/auth/token/accessors")["data"]["keys"]:
                name = vault.administer("POST", "/v1/auth/token/lookup-accessor", {"accessor": accessor})
                if name["data"]["display_name"].startswith("jwt-"):
                    vault.write("/v1/auth/token/renew-accessor", {"accessor": accessor})
            set_role()

        return [
            Fault("token revoked, within 5 s of its grant", revoke),
            # Over with the first login after it.
            Fault("token expires while in use", expire, lambda: None, seconds=2.5),
            Fault("role removed, tokens revoked", with_no_token(lambda: vault.delete("/v1/auth/jwt/role/machine")), set_role),
            Fault(
                "login refused: another audience",
                with_no_token(lambda: set_role(bound_audiences=["another"])),
                lambda: set_role(bound_audiences=[AUDIENCE]),
            ),
            Fault(
                "policy removed",
                lambda: vault.delete("/v1/sys/policies/acl/machine"),
                lambda: vault.policy("machine", rules),
                is_the_policy=True,
            ),
            Fault("sealed", vault.seal, vault.unseal),
            Fault("tokens revoked, then leases of two seconds", lambda: set_role(token_ttl=2) or revoke(), set_role),
        ]

    def slow(self):
        vault = self.vault

        def restart():
            vault.start()
            vault.unseal()

        return [
            Fault("stopped (SIGTERM), started", vault.stop, restart),
            Fault("killed (SIGKILL), started", vault.kill, restart),
            Fault("frozen (SIGSTOP), continued", lambda: vault.signal(signal.SIGSTOP), lambda: vault.signal(signal.SIGCONT)),
        ]


class SlowLogin(ThreadingHTTPServer):
    """Stands between the gateway and OpenBao, and holds each login up."""

    daemon_threads = True

    def __init__(self, vault):
        super().__init__(("127.0.0.1", 0), SlowLoginHandler)
        self.vault, self.seconds = vault, 0
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(vault.folder / "cert.pem", vault.folder / "tls-key.pem")
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class SlowLoginHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/login"):
            time.sleep(self.server.seconds)
        connection = http.client.HTTPConnection(self.server.vault.url.removeprefix("http://"))
        kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_POST = do_GET

    def log_message(self, *_):
        pass


class SlowSite(Site):
    """A site whose logins can be slow."""

    def __init__(self, folder):
        self.vault = OpenBao(folder / "openbao")
        self._proxy = SlowLogin(self.vault)
        self._start(folder, servers=[self._proxy.url])

    def all(self):
        def slow(seconds):
            def run():
                self._proxy.seconds = seconds
                self.revoke()

            return run

        def quick():
            self._proxy.seconds = 0

        return [Fault("each login takes 2.5 s, tokens revoked", slow(2.5), quick)]


class ClusterSite(Site):
    """A site with three nodes of OpenBao, all of which the gateway knows."""

    def __init__(self, folder):
        self.vault = Cluster(folder)
        self._start(folder, servers=self.vault.tls_urls)

    def all(self):
        cluster = self.vault
        broken = []

        def on_active(does):
            def run():
                broken[:] = [cluster.active()]
                does(broken[0])

            return run

        def taken_over():
            """When a standby has taken over."""
            until = time.monotonic() + GIVE_UP_SECONDS
            while not any(node.is_active() for node in cluster.nodes if node not in broken):
                assert time.monotonic() < until, "no standby took over"
                time.sleep(0.02)

        def restart():
            broken[0].start()
            broken[0].unseal(becomes=(200, 429))
            time.sleep(2)  # it catches up

        def unseal():
            broken[0].unseal(becomes=(200, 429))
            time.sleep(2)

        return [
            Fault("three nodes: the active one is sealed, a standby takes over", on_active(lambda node: node.seal()),
                  taken_over, seconds=0.01, after=unseal),
            Fault("three nodes: the active one is killed, a standby takes over", on_active(lambda node: node.kill()),
                  taken_over, seconds=0.01, after=restart),
            Fault("three nodes: the active one is frozen, a standby takes over",
                  on_active(lambda node: node.signal(signal.SIGSTOP)), taken_over, seconds=0.01,
                  after=lambda: broken[0].signal(signal.SIGCONT)),
            Fault("three nodes: a standby is killed", lambda: next(
                node for node in cluster.nodes if not node.is_active()).kill()),
        ]


def main():
    print(TABLE, flush=True)
    outcomes = []
    for kind in Site, SlowSite, ClusterSite:
        with tempfile.TemporaryDirectory(prefix="countersign-faults-") as folder:
            site = kind(Path(folder))
            try:
                for fault in site.all():
                    outcomes.append(site.suffer(fault))
                    print(outcomes[-1].row(), flush=True)
            finally:
                site.close()
    bad = [outcome.name for outcome in outcomes if not outcome.is_good]
    print(f"{len(outcomes)} faults, {len(bad)} of them wrong{': ' if bad else ''}{', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
