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
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from machine import Machine
from openbao import AUDIENCE, OpenBao
from vault_gateway import VaultGateway

PAUSE_SECONDS = 0.05  # between two requests
BROKEN_SECONDS = 1.5  # how long a fault lasts
RECOVERY_SECONDS = 2.0
GIVE_UP_SECONDS = 15
FINAL = {401, 403, 404}
READ_TIMEOUT = "idle_timeout: 60s", "idle_timeout: 60s\n    read_timeout: 1s"


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
    """One way to break the backend: `breaks` does, and `mends` repairs it, where it does not repair itself."""

    def __init__(self, name, breaks, mends=None, is_the_policy=False):
        self.name, self.breaks, self.mends, self.is_the_policy = name, breaks, mends, is_the_policy


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
        # From the repair until the first answer, and no failure later.
        self.recovered = passed[0] - mended if passed and not [it for it in failed if it > passed[0]] else None
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
        try:
            self.machine = Machine("web-1")
            self.vault.put("web-1/db", value="web-1")
            self.gateway = VaultGateway(folder / "gateway", self.vault, [self.machine], changes=[READ_TIMEOUT])
        except BaseException:
            self.vault.kill()
            raise

    def close(self):
        try:
            self.gateway.stop()
        finally:
            self.vault.stop()

    def suffer(self, fault, seconds=BROKEN_SECONDS):
        """The fault, with a client that reads before it, during it and after it."""
        client = Client(self.gateway, self.machine)
        self._until_it_reads(client)
        client.start()
        time.sleep(5 * PAUSE_SECONDS)
        broken = mended = time.monotonic()
        try:
            fault.breaks()
            time.sleep(seconds)
            if fault.mends:
                fault.mends()
                mended = time.monotonic()
            self._until_it_read_since(client, mended)
        finally:
            client.stop()
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
        revoke = lambda: vault.write("/v1/sys/leases/revoke-prefix/auth/jwt/login", None)

        def with_no_token(change):
            def run():
                change()
                revoke()

            return run

        return [
            Fault("token revoked", revoke),
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
        revoke = lambda: vault.write("/v1/sys/leases/revoke-prefix/auth/jwt/login", None)
        keys = vault.administer("GET", "/v1/auth/jwt/config")["data"]

        def restart():
            vault.start()
            vault.unseal()

        return [
            Fault("stopped (SIGTERM), started", vault.stop, restart),
            Fault("killed (SIGKILL), started", vault.kill, restart),
            Fault("frozen (SIGSTOP), continued", lambda: vault.signal(signal.SIGSTOP), lambda: vault.signal(signal.SIGCONT)),
        ]


def main():
    with tempfile.TemporaryDirectory(prefix="countersign-faults-") as folder:
        site = Site(Path(folder))
        try:
            outcomes = []
            print(TABLE, flush=True)
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
