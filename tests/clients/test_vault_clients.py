"""End to end: the official clients of OpenBao and Vault as they are, the agent, conf/vault.yaml, and OpenBao."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import hvac

from agent import Agent
from gateway import BINARY
from machine import Machine
from openbao import BINARY as BAO
from openbao import OpenBao
from vault_gateway import VaultGateway

HERE = Path(__file__).resolve().parent
OLD_TOKEN = "hvs.the-token-that-the-application-still-has"
NAMES = ("db@prod", "db (old)", "a+b", "user@host (1)+2 x")
RUN_SECONDS = 30

# Each line is what the step came to.
NODE_VAULT = """
const vault = require("node-vault")({endpoint: process.argv[1], token: process.argv[2]});
const data = "secret/data/web-1/node";
const say = (step, value) => console.log(step, JSON.stringify(value));
(async () => {
  say("write", (await vault.write(data, {data: {value: "one"}})).data.version);
  say("read", (await vault.read(data)).data.data);
  say("list", (await vault.list("secret/metadata/web-1")).data.keys.includes("node"));
  const wrapped = await vault.read(data, {headers: {"X-Vault-Wrap-TTL": "60s"}});
  say("wrapped", [wrapped.data, wrapped.wrap_info.ttl]);
  say("unwrap", (await vault.unwrap({token: wrapped.wrap_info.token})).data.data);
  await vault.delete(data);
  say("deleted", (await vault.read(data).catch(error => error.response)).statusCode);
  say("denied", (await vault.read("secret/data/pay-1/key").catch(error => error.response)).statusCode);
  say("lookup", (await vault.tokenLookupSelf()).data.id);
  say("status", (await vault.status()).sealed);
  say("health", (await vault.health()).initialized);
})().catch(error => { console.error(error); process.exit(1); });
"""


class ThroughTheShippedFile(unittest.TestCase):
    """One OpenBao, one gateway and one agent for the tests of a class."""

    namespace = None
    changes = ()  # of conf/vault.yaml

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="countersign-official-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.vault = OpenBao(cls.folder / "openbao", log_raw=True)
        cls.addClassCleanup(cls.vault.stop)
        if cls.namespace:
            cls.vault.write(f"/v1/sys/namespaces/{cls.namespace}", None)
            cls.vault.namespace = cls.namespace
            cls.vault.mount_secrets()
        cls.vault.put("pay-1/key", value="p4y")
        machine = Machine("web-1", groups=["payments"])
        cls.gateway = VaultGateway(cls.folder / "gateway", cls.vault, [machine], cls.changes)
        cls.addClassCleanup(cls.gateway.stop)
        cls.identity = machine.settle(cls.folder / "home", cls.gateway.url)
        cls.agent = Agent(cls.identity, "--cacert", cls.gateway.ca)
        cls.addClassCleanup(cls.agent.stop)

    def setUp(self):
        self.shown = []

    def tearDown(self):
        """No client was shown a token that OpenBao issued to the gateway, and no record or log has one."""
        tokens = self.vault.issued()
        self.shown += [self.gateway.audit(), self.gateway.log(), self.agent.log()]
        for token in tokens:
            self.assertFalse([text for text in self.shown if token in text])

    def run_client(self, command, **environment):
        """What a command that needs nothing but an address came to: its exit code, and what it wrote."""
        plain = {"HOME": str(self.folder), "PATH": os.environ["PATH"], "NO_COLOR": "1"}
        done = subprocess.run(command, env=plain | environment, capture_output=True, text=True, timeout=RUN_SECONDS)
        self.shown += [done.stdout, done.stderr]
        return done

    def bao(self, *arguments, fails=False, **environment):
        """What OpenBao's command line writes: its result, or its complaint where it is to fail."""
        done = self.run_client([BAO, *arguments], BAO_ADDR=self.agent.url, **environment)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr)
        return done.stderr if fails else done.stdout

    def bao_json(self, *arguments, **environment):
        command, *rest = arguments
        kinds = 2 if command in ("kv", "token") else 1
        return json.loads(self.bao(*arguments[:kinds], "-format=json", *arguments[kinds:], **environment))


class OfficialClients(ThroughTheShippedFile):
    # The command line.

    def test_bao_kv_puts_gets_versions_lists_and_deletes(self):
        self.assertEqual(self.bao_json("kv", "put", "secret/web-1/cli/db", "user=one", "password=p w")["data"]["version"], 1)
        self.bao("kv", "put", "-mount=secret", "web-1/cli/db", "user=two")
        self.bao("kv", "patch", "secret/web-1/cli/db", "more=three")
        read = lambda *more: self.bao_json("kv", "get", *more, "secret/web-1/cli/db")["data"]["data"]
        self.assertEqual(read("-version=1"), {"user": "one", "password": "p w"})
        self.assertEqual(read(), {"user": "two", "more": "three"})
        self.assertEqual(self.bao("kv", "get", "-field=user", "secret/web-1/cli/db").strip(), "two")
        self.assertEqual(self.bao_json("kv", "list", "secret/web-1/cli"), ["db"])
        self.bao("kv", "delete", "secret/web-1/cli/db")
        self.assertNotIn("= Data =", self.bao("kv", "get", "secret/web-1/cli/db"))  # its metadata alone
        self.bao("kv", "undelete", "-versions=3", "secret/web-1/cli/db")
        self.bao("kv", "rollback", "-version=1", "secret/web-1/cli/db")
        self.assertEqual(read(), {"user": "one", "password": "p w"})
        self.bao("kv", "destroy", "-versions=2", "secret/web-1/cli/db")

    def test_bao_kv_metadata_is_written_read_and_deleted(self):
        self.bao("kv", "put", "secret/web-1/meta/db", "value=one")
        self.bao("kv", "metadata", "put", "-max-versions=3", "secret/web-1/meta/db")
        answer = json.loads(self.bao("kv", "metadata", "get", "-format=json", "secret/web-1/meta/db"))["data"]
        self.assertEqual((answer["max_versions"], answer["current_version"]), (3, 1))
        self.bao("kv", "metadata", "delete", "secret/web-1/meta/db")
        self.assertIn("No value found", self.bao("kv", "get", "secret/web-1/meta/db", fails=True))

    def test_bao_kv_takes_names_with_signs_and_spaces(self):
        for name in NAMES:
            self.bao("kv", "put", f"secret/web-1/named/{name}", f"value={name}")
            self.assertEqual(self.bao("kv", "get", "-field=value", f"secret/web-1/named/{name}").strip(), name)
        self.assertEqual(self.bao_json("kv", "list", "secret/web-1/named"), sorted(NAMES))

    def test_bao_reads_writes_lists_and_scans_paths(self):
        self.bao("write", "secret/data/web-1/raw/db", "-", fails=True)  # nothing on standard input
        (self.folder / "raw.json").write_text('{"data": {"value": "one"}}')
        self.bao("write", "secret/data/web-1/raw/db", f"@{self.folder}/raw.json")
        self.assertEqual(self.bao_json("read", "secret/data/web-1/raw/db")["data"]["data"], {"value": "one"})
        self.assertEqual(self.bao_json("list", "secret/metadata/web-1/raw"), ["db"])
        self.assertEqual(self.bao_json("scan", "secret/metadata/web-1/raw"), ["db"])

    def test_bao_status_needs_no_token(self):
        status = self.bao_json("status")
        self.assertEqual((status["sealed"], status["version"]), (False, "2.7.2"))

    def test_bao_token_lookup_shows_what_the_token_may_and_not_the_token(self):
        answer = json.loads(self.bao("token", "lookup", "-format=json"))["data"]
        self.assertEqual((answer["id"], answer["accessor"]), ("", ""))
        self.assertEqual((answer["display_name"], answer["policies"]), ("jwt-web-1", ["default", "machine"]))

    def test_bao_unwraps_what_it_had_wrapped_once(self):
        self.bao("kv", "put", "secret/web-1/wrap/db", "value=one")
        get = ("kv", "get", "-wrap-ttl=60s", "secret/web-1/wrap/db")
        token = self.bao_json(*get)["wrap_info"]["token"]
        # Without a token of its own the command line sends the wrapping token as one, and the agent drops it.
        self.assertIn("not valid", self.bao("unwrap", token, fails=True))
        answer = self.bao_json("unwrap", token, BAO_TOKEN=OLD_TOKEN)
        self.assertEqual(answer["data"]["data"], {"value": "one"})
        self.assertIn("not valid", self.bao("unwrap", token, fails=True, BAO_TOKEN=OLD_TOKEN))
        self.bao("kv", "get", "secret/web-1/wrap/db")

    def test_bao_is_told_openbaos_refusals_and_the_gateways(self):
        denied = self.bao("kv", "get", "secret/pay-1/key", fails=True)
        self.assertIn("Code: 403", denied)
        self.assertIn("permission denied", denied)
        for command in (("token", "renew"), ("token", "create"), ("token", "revoke", "-self")):
            closed = self.bao(*command, fails=True)
            self.assertIn("closed to every machine", closed)
            self.assertIn("routes[].path", closed)

    def test_bao_renews_a_lease_where_there_is_one(self):
        self.assertIn("lease not found", self.bao("lease", "renew", "secret/none", fails=True))

    def test_a_namespace_of_the_clients_own_is_refused(self):
        refused = self.bao("kv", "get", "secret/web-1/cli/db", fails=True, BAO_NAMESPACE="team-b")
        self.assertIn("X-Vault-Namespace", refused)

    # hvac.

    def hvac(self):
        client = hvac.Client(url=self.agent.url, token=OLD_TOKEN, timeout=RUN_SECONDS)
        self.addCleanup(client.adapter.close)
        return client

    def test_hvac_writes_reads_lists_and_deletes_names_with_signs_and_spaces(self):
        kv = self.hvac().secrets.kv.v2
        for name in NAMES:
            kv.create_or_update_secret(f"web-1/hvac/{name}", {"value": name})
            answer = kv.read_secret_version(f"web-1/hvac/{name}", raise_on_deleted_version=True)
            self.assertEqual(answer["data"]["data"], {"value": name})
        self.assertEqual(kv.list_secrets("web-1/hvac")["data"]["keys"], sorted(NAMES))
        for name in NAMES:
            kv.delete_metadata_and_all_versions(f"web-1/hvac/{name}")
        with self.assertRaises(hvac.exceptions.InvalidPath):
            kv.list_secrets("web-1/hvac")

    def test_hvac_is_authenticated_without_seeing_the_token(self):
        client = self.hvac()
        self.assertTrue(client.is_authenticated())
        self.assertEqual(client.auth.token.lookup_self()["data"]["id"], "")
        with self.assertRaises(hvac.exceptions.InvalidRequest):  # wrapped, it would be unwrapped elsewhere
            client.read("auth/token/lookup-self", wrap_ttl="60s")

    def test_hvac_has_answers_wrapped_and_unwraps_them(self):
        client = self.hvac()
        client.secrets.kv.v2.create_or_update_secret("web-1/hvac-wrap", {"value": "one"})
        wrapped = client.read("secret/data/web-1/hvac-wrap", wrap_ttl="60s")
        self.assertEqual((wrapped["wrap_info"]["ttl"], wrapped.get("data")), (60, None))
        self.assertEqual(client.sys.unwrap(wrapped["wrap_info"]["token"])["data"]["data"], {"value": "one"})
        with self.assertRaises(hvac.exceptions.InvalidRequest):
            client.sys.unwrap()  # hvac's own token, for which the gateway's stands

    def test_hvac_reads_health_and_seal_status(self):
        sys = self.hvac().sys
        self.assertEqual(sys.read_health_status().status_code, 200)  # HEAD
        self.assertTrue(sys.read_health_status(method="GET")["initialized"])
        self.assertEqual(sys.read_health_status(method="GET", standby_ok=True)["sealed"], False)
        self.assertEqual(sys.is_sealed(), False)
        self.assertEqual(sys.read_leader_status()["ha_enabled"], False)

    # node-vault, curl and openssl.

    def test_node_vault_writes_reads_lists_wraps_and_deletes(self):
        done = self.run_client(
            ["node", "-e", NODE_VAULT, self.agent.url, OLD_TOKEN], NODE_PATH=str(HERE / "node_modules")
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = {
            "write": 1,
            "read": {"value": "one"},
            "list": True,
            "wrapped": [None, 60],
            "unwrap": {"value": "one"},
            "deleted": 404,
            "denied": 403,
            "lookup": "",
            "status": False,
            "health": True,
        }
        told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        self.assertEqual({step: json.loads(value) for step, value in told.items()}, expected)

    def test_curl_and_openssl_need_no_agent(self):
        sign = ["sh", HERE / "openssl.sh", self.identity.key, "web-1"]
        path, body = "/v1/secret/data/web-1/openssl", '{"data":{"value":"one"}}'
        trust = {"CURL_CA_BUNDLE": str(self.gateway.ca)}
        written = self.run_client([*sign, "PUT", self.gateway.url, path, body], **trust)
        self.assertEqual(json.loads(written.stdout)["data"]["version"], 1, written.stderr)
        read = self.run_client([*sign, "GET", self.gateway.url, path], **trust)
        self.assertEqual(json.loads(read.stdout)["data"]["data"], {"value": "one"})

    def test_the_gateway_and_openbao_name_the_machine(self):
        self.vault.write("/v1/sys/config/auditing/request-headers/X-Machine-Identity", {"hmac": False})
        self.bao("kv", "put", "secret/web-1/named-by", "value=one")
        self.assertTrue(self.vault.issued())
        theirs = [it["request"] for it in self.vault.audit() if it["request"]["path"] == "secret/data/web-1/named-by"]
        self.assertEqual(theirs[-1]["headers"]["x-machine-identity"], ["web-1"])
        ours = [it for it in self.gateway.records() if it.get("path") == "/v1/secret/data/web-1/named-by"]
        self.assertEqual(ours[0]["machine"]["id"], "web-1")

    def test_a_group_of_machines_shares_secrets(self):
        self.vault.put("shared/payments/key", value="s4me")
        self.assertIn("permission denied", self.bao("kv", "get", "secret/shared/payments/key", fails=True))
        self.vault.share("payments")
        self.vault.write("/v1/sys/leases/revoke-prefix/auth/jwt/login", None)
        self.bao("kv", "get", "secret/shared/payments/key", fails=True)  # the token was revoked: 503, and a new one
        self.assertEqual(self.bao("kv", "get", "-field=value", "secret/shared/payments/key").strip(), "s4me")


class Namespaces(ThroughTheShippedFile):
    namespace = "team-a"
    changes = [("header: X-Vault-Token }", "header: X-Vault-Token, namespace: team-a }")]

    def test_the_gateways_namespace_holds_and_no_client_can_name_another(self):
        self.bao("kv", "put", "secret/web-1/db", "value=one")
        for namespace in ({}, {"BAO_NAMESPACE": "team-a"}, {"BAO_NAMESPACE": "team-a/"}):
            with self.subTest(namespace):
                self.assertEqual(self.bao("kv", "get", "-field=value", "secret/web-1/db", **namespace).strip(), "one")
        refused = self.bao("kv", "get", "secret/web-1/db", fails=True, BAO_NAMESPACE="team-b")
        self.assertIn("X-Vault-Namespace", refused)
        self.assertIn("permission denied", self.bao("kv", "get", "secret/pay-1/key", fails=True))


if __name__ == "__main__":
    unittest.main()
