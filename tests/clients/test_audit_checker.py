"""The audit trail, checked by a program that was written from its description."""

import subprocess
import sys
from pathlib import Path

from sikkerkey import SikkerKey

from gateway import BINARY
from stage import ThroughTheGateway

CHECKER = Path(__file__).resolve().parents[1] / "audit" / "check.py"


class TheAuditTrail(ThroughTheGateway):
    signs = True

    def setUp(self):
        super().setUp()
        sdk = SikkerKey(str(self.identity(self.web).file))
        for _ in range(20):
            sdk.get_secret("sk_api")

    def check(self, log):
        registry = self._folder / "gateway" / "machines.yaml"
        command = [sys.executable, str(CHECKER), str(log), str(registry), self.gateway.public_key]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def verify(self, log):
        registry = self._folder / "gateway" / "machines.yaml"
        command = [BINARY, "audit", "verify", "--log", str(log), "--registry", str(registry)]
        command += ["--gateway-key", self.gateway.public_key]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def copy(self, change=lambda text: text):
        log = self._folder / "copy.jsonl"
        log.write_text(change(self.gateway.audit()))
        return log

    def test_an_independent_checker_and_audit_verify_come_to_the_same_head(self):
        log = self.copy()
        ours, theirs = self.verify(log), self.check(log)
        self.assertEqual((ours.returncode, theirs.returncode), (0, 0), ours.stdout + theirs.stderr)
        self.assertEqual(ours.stdout.splitlines()[-1], theirs.stdout.strip())

    def test_both_find_what_was_changed(self):
        for change in (
            lambda text: text.replace("sk_api", "sk_apj", 1),
            lambda text: "".join(text.splitlines(keepends=True)[:9] + text.splitlines(keepends=True)[10:]),
            lambda text: text.replace('"signature":"', '"signature":"A', 1),
        ):
            log = self.copy(change)
            self.assertEqual((self.verify(log).returncode, self.check(log).returncode), (1, 1))
