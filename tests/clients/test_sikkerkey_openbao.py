"""SikkerKey's official clients, unmodified, before OpenBao: the gateway's adapter answers them."""

import json
import queue
import subprocess
import tempfile
import unittest
from pathlib import Path

from sikkerkey import AccessDeniedError, NotFoundError, SecretStructureError, ServerSealedError, SikkerKey, WatchStatus

import backend
from adapter_store import AdapterStore
from gateway import Gateway
from machine import Machine
from stage import CLI

CHECK = "GET /v1/auth/token/lookup-self"
POLICY = """
path "secret/data/*" { capabilities = ["read"] }
path "secret/metadata/*" { capabilities = ["list", "read"] }
path "secret/metadata/" { capabilities = ["list"] }
path "secret/data/private/*" { capabilities = ["deny"] }
path "secret/metadata/private/*" { capabilities = ["deny"] }
"""


class BeforeOpenBao(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="countersign-clients-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.store = AdapterStore()
        cls.addClassCleanup(cls.store.close)
        cls.store.write("api-key", value="a-very-secret-value")
        cls.store.write("web/db-prod", host="db.internal", password="correct horse")
        cls.store.write("web/deep/port", port=5432)
        cls.store.write("web/old", value="gone")
        cls.store.delete("web/old")
        cls.store.write("private/key", value="never-seen")
        cls.token = cls.store.token(POLICY)
        cls.web = Machine("web-1")
        (cls.folder / "gateway").mkdir()
        cls.gateway = cls.start(cls.folder / "gateway", cls.token)

    @classmethod
    def start(cls, folder, token):
        """A gateway that reads the store with this token."""
        before = backend.TOKEN
        backend.TOKEN = token
        try:
            route = {"path": "/v1", "adapter": {"kind": "sikkerkey", "kv": "secret"}}
            gateway = Gateway(folder, cls.store.url, [cls.web], check=CHECK, route=route)
        finally:
            backend.TOKEN = before
        cls.addClassCleanup(gateway.stop)
        return gateway

    def identity(self, gateway=None):
        return self.web.settle(tempfile.mkdtemp(dir=self.folder), (gateway or self.gateway).url)

    def asked(self):
        """The paths of the last request's reads, as the audit log has them."""
        return [it for it in self.gateway.records() if it["decision"] == "response"][-1]["backend_paths"]["paths"]


class ThePythonSdkBeforeOpenBao(BeforeOpenBao):
    def sdk(self, gateway=None):
        return SikkerKey(str(self.identity(gateway).file))

    def test_it_reads_a_secret_with_a_single_field(self):
        self.assertEqual(self.sdk().get_secret("api-key"), "a-very-secret-value")

    def test_it_reads_the_fields_of_a_secret(self):
        self.assertEqual(
            self.sdk().get_fields("web/db-prod"), {"host": "db.internal", "password": "correct horse"}
        )
        self.assertEqual(self.sdk().get_field("web/deep/port", "port"), "5432")
        with self.assertRaises(SecretStructureError):
            self.sdk().get_fields("api-key")

    def test_what_is_missing_or_deleted_is_not_found(self):
        for id in ("none", "web/old", "web"):
            with self.assertRaises(NotFoundError):
                self.sdk().get_secret(id)

    def test_what_the_policy_denies_is_denied(self):
        with self.assertRaisesRegex(AccessDeniedError, "private/key"):
            self.sdk().get_secret("private/key")

    def test_it_lists_what_it_may_see_and_reads_what_it_listed(self):
        listed = self.sdk().list_secrets()
        projects = {it.id: it.project_id for it in listed if it.id != "watched"}  # of another test
        self.assertEqual(
            projects, {"api-key": None, "web/db-prod": "web", "web/deep/port": "web", "web/old": "web"}
        )
        self.assertEqual(self.sdk().get_secret(listed[0].id), "a-very-secret-value")

    def test_it_lists_a_project(self):
        listed = self.sdk().list_secrets_by_project("web")
        self.assertEqual([it.name for it in listed], ["db-prod", "deep/port", "old"])

    def test_it_exports_everything_and_a_project(self):
        exported = {name: value for name, value in self.sdk().export().items() if name != "WATCHED"}
        self.assertEqual(
            exported,
            {
                "API_KEY": "a-very-secret-value",
                "WEB_DB_PROD_HOST": "db.internal",
                "WEB_DB_PROD_PASSWORD": "correct horse",
                "WEB_DEEP_PORT_PORT": "5432",
            },
        )
        self.assertEqual(
            self.sdk().export("web"),
            {"DB_PROD_HOST": "db.internal", "DB_PROD_PASSWORD": "correct horse", "DEEP_PORT_PORT": "5432"},
        )
        self.assertIn("/v1/secret/data/web/db-prod", self.asked())

    def test_it_hands_over_a_secret_that_changed_since_the_last_poll(self):
        self.store.write("watched", value="one")
        sdk, events = self.sdk(), queue.Queue()
        self.addCleanup(sdk.close)
        sdk.set_poll_interval(10)
        sdk.watch("watched", events.put)
        with self.assertRaises(queue.Empty):
            events.get(timeout=4)  # the first poll sets the mark
        self.store.write("watched", value="two")
        event = events.get(timeout=20)
        self.assertEqual((event.status, event.value), (WatchStatus.CHANGED, "two"))
        self.store.delete("watched")
        self.assertEqual(events.get(timeout=20).status, WatchStatus.DELETED)

    def test_a_token_that_openbao_refuses_is_no_error_of_the_machine(self):
        folder = self.folder / "revoked"
        folder.mkdir()
        gateway = self.start(folder, "s.revoked")
        with self.assertRaises(ServerSealedError):
            self.sdk(gateway).get_secret("api-key")


class TheGoCliBeforeOpenBao(BeforeOpenBao):
    def cli(self, *arguments):
        ran = subprocess.run(
            [CLI, *arguments],
            env=self.identity().environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        return ran.stdout

    def test_it_reads_a_secret_and_a_field(self):
        self.assertEqual(self.cli("get", "api-key"), "a-very-secret-value\n")
        self.assertEqual(self.cli("get", "web/db-prod", "password"), "correct horse\n")
        self.assertEqual(self.cli("get", "web/deep/port", "port"), "5432\n")

    def test_it_lists_secrets_and_projects(self):
        listed = self.cli("list", "secrets")
        self.assertRegex(listed, r"web/db-prod\s+web/db-prod")
        self.assertNotIn("private/", listed)
        self.assertRegex(self.cli("list", "projects"), r"web \(web\)")

    def test_it_exports_a_project(self):
        exported = json.loads(self.cli("export", "--project", "web", "--format", "json"))
        self.assertEqual(
            exported, {"DB_PROD_HOST": "db.internal", "DB_PROD_PASSWORD": "correct horse", "DEEP_PORT_PORT": "5432"}
        )

    def test_it_exports_everything_that_it_may_see(self):
        exported = json.loads(self.cli("export", "--format", "json"))
        self.assertEqual(exported["API_KEY"], "a-very-secret-value")
        self.assertNotIn("never-seen", exported.values())

    def test_it_injects_secrets_into_a_command(self):
        ran = self.cli("run", "--all", "--project", "web", "--", "/usr/bin/env")
        self.assertIn("DB_PROD_PASSWORD=correct horse", ran)

    def test_it_finds_its_status_in_order(self):
        self.assertRegex(self.cli("status"), r"(?m)^authentication: ok$")
