"""The whole move of docs/migration.md, in one go: bearer tokens, observe, bearer_until, enforce.

Two services, one with hvac and one with curl, stay as they are; what changes is the address that they ask, and
what the gateway's route says, while it runs. Whose token it was that came along is told by OpenBao's look-up of
the token itself, and by which token can be taken away.
"""

import json
import subprocess
import sys
import tempfile
import time
import unittest
from itertools import combinations
from pathlib import Path

import hvac

import attacker
from agent import Agent
from gateway import BINARY, Gateway
from machine import Machine
from migration_report import MADE_UP, MigrationReport, moment
from openbao import OpenBao, folder_policy
from wire import Wire

CHECKER = Path(__file__).resolve().parents[1] / "audit" / "check.py"
DAY = 86_400
LOOK_UP = "/v1/auth/token/lookup-self"
RUN_SECONDS = 30
SECRET = "/v1/secret/data/app/db"


class TheMigration(MigrationReport):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-migration-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.vault = OpenBao(self.folder / "openbao")
        self.addCleanup(self.vault.stop)
        # The services' own tokens. The attacker has curl's, and one that was taken away long ago.
        self.vault.policy("app", folder_policy("app"))
        self.tokens = {name: self.vault.token("app") for name in ("hvac", "curl", "revoked")}
        self.vault.revoke(self.tokens["revoked"])
        self.stolen = self.tokens["curl"]

    def test_two_services_move_from_bearer_tokens_to_signatures_while_an_attacker_watches(self):
        self.nobody_knows_of_a_gateway()
        self.both_services_are_observed()
        self.one_service_moves_while_the_route_observes()
        self.an_attacker_at_an_observed_route_is_worth_what_their_token_is()
        self.the_route_takes_signatures_and_until_a_date_tokens()
        self.an_attacker_cannot_turn_a_signed_request_into_another()
        self.the_date_comes_and_the_route_enforces_by_itself()
        self.the_route_enforces()
        self.the_old_tokens_are_taken_away()
        self.no_token_is_told_anywhere()
        self.both_checkers_accept_the_trail()

    # The steps, in their order.

    def nobody_knows_of_a_gateway(self):
        self.assert_hvac_works(self.vault.url)
        self.assertEqual(self.curl(self.vault.url), 200)

    def both_services_are_observed(self):
        self.start_gateway({"mode": "observe", "observe_until": moment(time.time() + 7 * DAY)})
        since = self.since()
        self.assert_hvac_works(self.gateway.url)
        self.assertEqual(self.curl(self.gateway.url), 200)
        self.assert_report(
            since,
            verdict="not_yet",
            mode="observe",
            observed={"missing_header"},
            tokens={"hvac", "curl"},
            never_signed={"hvac-1", "curl-1", "idle-1"},
        )
        self.assertGreater(self.gateway.metric("route_open_until_timestamp_seconds", 'mode="observe"'), time.time())

    def one_service_moves_while_the_route_observes(self):
        since = self.since()
        self.wire = Wire(self.gateway.port)
        self.addCleanup(self.wire.close)
        self.hvac_agent = self.start_agent("hvac-1", self.wire.url)
        self.assert_hvac_works(self.hvac_agent.url, token="hvs.nonsense")
        self.captured = self.capture()
        self.assertEqual(self.curl(self.gateway.url), 200)
        self.assert_report(
            since,
            verdict="not_yet",
            mode="observe",
            observed={"missing_header"},
            tokens={"curl"},
            signs={"hvac-1"},
            never_signed={"curl-1", "idle-1"},
        )

    def an_attacker_at_an_observed_route_is_worth_what_their_token_is(self):
        since = self.since()
        forged = {"X-Machine-Identity": "hvac-1", "X-Machine-Id": "hvac-1"}
        for headers in (
            {},
            {"X-Vault-Token": self.tokens["revoked"]},
            {"X-Vault-Token": self.stolen},
            {"X-Vault-Token": MADE_UP},
        ):
            for path in (SECRET, LOOK_UP):
                there = attacker.send(self.vault.url, "GET", path, headers)
                self.assertEqual(there[0] == 200, headers.get("X-Vault-Token") == self.stolen, there)
                for more in ({}, forged):
                    here = attacker.send(self.gateway.url, "GET", path, headers | more)
                    self.assert_same_answer(here, there)
        # A captured request is good for nothing a second time: without a token the backend refuses it.
        self.assert_same_answer(
            self.captured.send(self.gateway.url), attacker.send(self.vault.url, "GET", self.captured.path, {})
        )
        self.assert_report(
            since,
            verdict="not_yet",
            mode="observe",
            observed={"missing_header", "replayed"},
            tokens={"curl", "revoked", "made-up"},
            never_signed={"hvac-1", "curl-1", "idle-1"},
        )

    def the_route_takes_signatures_and_until_a_date_tokens(self):
        self.gateway.route(bearer_until=moment(time.time() + 7 * DAY))
        since = self.since()
        self.assertEqual(self.curl(self.gateway.url), 200)
        self.assert_hvac_works(self.hvac_agent.url, token="hvs.nonsense")
        self.assert_report(
            since,
            verdict="not_yet",
            mode="bearer",
            bearer=1,
            tokens={"curl"},
            signs={"hvac-1"},
            never_signed={"curl-1", "idle-1"},
        )
        self.assertGreater(self.gateway.metric("route_open_until_timestamp_seconds", 'mode="bearer"'), time.time())

    def an_attacker_cannot_turn_a_signed_request_into_another(self):
        since = self.since()
        self.captured = self.capture()
        bearer = {"x-vault-token": self.stolen}
        self.assert_refused(self.captured.send(self.gateway.url), "replayed")
        self.assert_refused(self.captured.send(self.gateway.url, **bearer), "replayed")
        self.assert_refused(self.captured.send(self.gateway.url, path="/v1/secret/data/other", **bearer), "bad_signature")
        for count in (1, 2, 3):
            for kept in combinations(attacker.SIGNING, count):
                self.assert_refused(self.captured.send(self.gateway.url, kept, **bearer))
        self.assert_refused(self.captured.send(self.gateway.url, keep=()), "missing_header")
        # What is left is the token itself, until the date; and the record names it.
        status, answer = attacker.send(self.gateway.url, "GET", LOOK_UP, bearer)
        self.assertEqual((status, json.loads(answer)["data"]["id"]), (200, self.stolen))
        report = self.assert_report(
            since,
            verdict="not_yet",
            mode="bearer",
            bearer=1,
            tokens={"curl"},
            signs={"hvac-1"},
            refused={"replayed", "bad_signature", "missing_header"},
            never_signed={"curl-1", "idle-1"},
        )
        self.assertEqual(report["tokens"]["rows"][0]["addresses"]["values"], ["127.0.0.1"])
        passed = [record for record in self.gateway.records() if record.get("path") == LOOK_UP][-1]
        told = (passed["decision"], passed["auth"], passed["token_hash"], "machine" in passed)
        self.assertEqual(told, ("accepted", "bearer", self.gateway.token_hash(self.stolen), False))

    def the_date_comes_and_the_route_enforces_by_itself(self):
        date = int(time.time()) + 3
        self.gateway.route(bearer_until=moment(date))
        while True:
            before, status, after = time.time(), self.curl(self.gateway.url), time.time()
            if status == 401:
                break
            self.assertEqual(status, 200)
            self.assertLess(before, date, "a token passed after the date")
            time.sleep(0.1)
        self.assertGreaterEqual(after, date, "a token was refused before the date")
        self.assert_hvac_works(self.hvac_agent.url, token="hvs.nonsense")

    def the_route_enforces(self):
        self.gateway.route()
        since = self.since()
        self.assertEqual(self.curl(self.gateway.url), 401)
        bearer = {"x-vault-token": self.stolen}
        self.assert_refused(attacker.send(self.gateway.url, "GET", SECRET, bearer), "missing_header")
        self.assert_refused(self.captured.send(self.gateway.url), "replayed")
        self.assert_refused(self.captured.send(self.gateway.url, **bearer), "replayed")
        self.curl_agent = self.start_agent("curl-1", self.gateway.url)
        self.assertEqual(self.curl(self.curl_agent.url), 200)
        self.assert_hvac_works(self.hvac_agent.url, token="hvs.nonsense")
        self.assert_report(
            since,
            verdict="clear",
            mode="enforce",
            signs={"hvac-1", "curl-1"},
            refused={"missing_header", "replayed"},
            never_signed={"idle-1"},
        )
        self.assertEqual(self.gateway.metric("route_open_until_timestamp_seconds"), 0)

    def the_old_tokens_are_taken_away(self):
        for name in ("hvac", "curl"):
            self.vault.revoke(self.tokens[name])
        self.assertEqual(self.curl(self.vault.url), 403)
        self.assertEqual(self.curl(self.curl_agent.url), 200)
        self.assert_hvac_works(self.hvac_agent.url, token=self.tokens["hvac"])

    def no_token_is_told_anywhere(self):
        reports = [self.report(0, "--json"), self.report(0)]
        agents = [self.hvac_agent.log(), self.curl_agent.log()]
        texts = [path.read_text() for path in self.gateway.trails()] + [self.gateway.log(), self.gateway.metrics()]
        for text in texts + reports + agents:
            self.assertTrue(text)
            for name, token in (self.tokens | self.own).items():
                self.assertNotIn(token, text, f"the token of {name}")

    def both_checkers_accept_the_trail(self):
        kinds = {(it["decision"], it.get("auth")) for it in self.gateway.records()}
        for kind in (("observed", "bearer"), ("accepted", "bearer"), ("accepted", "signature")):
            self.assertIn(kind, kinds)
        self.gateway.stop()
        log, registry = self.gateway.folder / "audit.jsonl", self.gateway.folder / "machines.yaml"
        key = self.gateway.public_key
        verify = [BINARY, "audit", "verify", "--log", log, "--registry", registry, "--gateway-key", key]
        ours = subprocess.run(verify, capture_output=True, text=True, timeout=RUN_SECONDS)
        check = [sys.executable, CHECKER, log, registry, key]
        theirs = subprocess.run(check, capture_output=True, text=True, timeout=RUN_SECONDS)
        self.assertEqual((ours.returncode, theirs.returncode), (0, 0), ours.stdout + theirs.stderr)
        self.assertEqual(ours.stdout.splitlines()[-1], theirs.stdout.strip())

    # Who takes part.

    def start_gateway(self, route):
        folder = self.folder / "gateway"
        folder.mkdir()
        names = ("hvac", "curl", "idle")
        self.own = {f"the gateway for {name}": self.vault.token("app") for name in names}
        self.machines = {f"{name}-1": Machine(f"{name}-1", credential=name) for name in names}
        for name, token in zip(names, self.own.values()):
            (folder / f"{name}-token").write_text(token + "\n")
        credentials = {name: {"header": "X-Vault-Token", "file": f"{name}-token"} for name in names}
        self.gateway = Gateway(
            folder, self.vault.url, list(self.machines.values()), signs=True, credentials=credentials, route=route
        )
        self.addCleanup(self.gateway.stop)

    def start_agent(self, machine, url):
        agent = Agent(self.machines[machine].settle(self.folder / machine, url))
        self.addCleanup(agent.stop)
        return agent

    def capture(self):
        """A request of the agent's for the secret, with a fresh signature."""
        del self.wire.sent[:]
        self.assertEqual(self.curl(self.hvac_agent.url), 200)
        return attacker.Captured(self.wire)

    def assert_hvac_works(self, url, token=None):
        """The service with hvac, unmodified: writes, reads and lists."""
        client = hvac.Client(url=url, token=token or self.tokens["hvac"], timeout=RUN_SECONDS)
        try:
            kv = client.secrets.kv.v2
            kv.create_or_update_secret("app/db", {"value": "one"})
            answer = kv.read_secret_version("app/db", raise_on_deleted_version=True)
            self.assertEqual(answer["data"]["data"], {"value": "one"})
            self.assertEqual(kv.list_secrets("app")["data"]["keys"], ["db"])
        finally:
            client.adapter.close()

    def curl(self, url):
        """The service with curl, unmodified: the status of its answer, which is the secret where it is 200."""
        command = ["curl", "-sS", "-w", "\n%{http_code}", "-H", f"X-Vault-Token: {self.tokens['curl']}", url + SECRET]
        answer, status = subprocess.check_output(command, timeout=RUN_SECONDS).rsplit(b"\n", 1)
        if status == b"200":
            self.assertEqual(json.loads(answer)["data"]["data"], {"value": "one"})
        return int(status)

    def assert_same_answer(self, here, there):
        """The gateway's client has what the backend itself says, but for the number of the answer and the clock."""

        def lasting(answer):
            content = json.loads(answer[1] or b"null")
            if isinstance(content, dict):
                content.pop("request_id", None)
                if isinstance(content.get("data"), dict):
                    content["data"].pop("ttl", None)
            return answer[0], content

        self.assertEqual(lasting(here), lasting(there))

    def assert_refused(self, answer, code=None):
        told = json.loads(answer[1])
        self.assertEqual(answer[0], 401, told)
        if code:
            self.assertEqual(told["code"], code)


if __name__ == "__main__":
    unittest.main()
