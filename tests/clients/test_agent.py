"""End to end: hvac and others as they are, the agent beside them, the gateway, and the real OpenBao."""

import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hvac

from agent import Agent
from gateway import Gateway
from machine import Machine
from openbao import OpenBao, folder_policy

OLD_TOKEN = "hvs.the-token-that-the-application-still-has"
RUN_SECONDS = 30

# What a name with every sign that encodeURIComponent, Go and hvac encode or do not.
SIGNS = "db@prod(1)+a,b:c=d&e$f!g'h*i j"

NODE_FETCH = """
const [url, name] = process.argv.slice(1);
const at = `${url}/v1/secret/data/app/${encodeURIComponent(name)}`;
const body = JSON.stringify({data: {value: "one"}});
const written = await fetch(at, {method: "POST", body, headers: {"Content-Type": "application/json"}});
const read = await fetch(at);
console.log(written.status, read.status, (await read.json()).data.data.value);
"""


class BesideAnApplication(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="countersign-agent-")
        cls.addClassCleanup(folder.cleanup)
        folder = Path(folder.name)
        vault = OpenBao(folder / "openbao")
        cls.addClassCleanup(vault.stop)
        vault.policy("app", folder_policy("app"))
        machine = Machine("web-1", credential="app")
        (folder / "gateway").mkdir()
        (folder / "gateway" / "app-token").write_text(vault.token("app") + "\n")
        credentials = {"app": {"header": "X-Vault-Token", "file": "app-token"}}
        cls.vault = vault
        cls.gateway = Gateway(
            folder / "gateway", vault.url, [machine], credentials=credentials, query="signed"
        )
        cls.addClassCleanup(cls.gateway.stop)
        cls.agent = Agent(machine.settle(folder / "home", cls.gateway.url))
        cls.addClassCleanup(cls.agent.stop)

    def setUp(self):
        self.client = self.hvac()
        self.addCleanup(self.client.adapter.close)
        self.kv = self.client.secrets.kv.v2

    def hvac(self):
        """hvac through the agent, with a token that the backend does not know."""
        return hvac.Client(url=self.agent.url, token=OLD_TOKEN, timeout=RUN_SECONDS)

    def read(self, name, version=None):
        answer = self.kv.read_secret_version(name, version=version, raise_on_deleted_version=True)
        return answer["data"]["data"]["value"]

    def write(self, name, value):
        self.kv.create_or_update_secret(name, {"value": value})

    def test_hvac_writes_reads_versions_lists_and_deletes(self):
        for value in ("one", "two", "three"):
            self.write("app/versions/db", value)
        read = lambda version: self.read("app/versions/db", version)
        self.assertEqual([read(1), read(2), read(None)], ["one", "two", "three"])
        self.assertEqual(self.kv.list_secrets("app/versions")["data"]["keys"], ["db"])
        self.assertEqual(self.kv.read_secret_metadata("app/versions/db")["data"]["current_version"], 3)
        self.kv.delete_latest_version_of_secret("app/versions/db")
        with self.assertRaises(hvac.exceptions.InvalidPath):
            read(None)
        named = {it["request"]["path"] for it in self.vault.audit()}
        self.assertIn("secret/data/app/versions/db", named)
        self.assertIn('"auth":"signature"', self.gateway.audit().replace(" ", ""))

    def test_no_log_has_the_applications_old_token(self):
        self.write("app/db", "one")
        self.assertEqual(self.read("app/db"), "one")
        for text in (self.gateway.audit(), self.gateway.log(), self.agent.log(), self.vault.log()):
            self.assertNotIn(OLD_TOKEN, text)

    def test_two_hundred_requests_at_once_all_pass(self):
        self.write("app/busy", "one")

        def read(_):
            client = self.hvac()
            try:
                answer = client.secrets.kv.v2.read_secret_version("app/busy", raise_on_deleted_version=True)
                return answer["data"]["data"]["value"]
            finally:
                client.adapter.close()

        with ThreadPoolExecutor(200) as pool:
            self.assertEqual(list(pool.map(read, range(200))), ["one"] * 200)

    def test_hvac_is_told_the_gateways_refusals_in_its_own_terms(self):
        with self.assertRaises(hvac.exceptions.Forbidden) as refused:
            self.client.auth.token.renew_self()
        self.assertIn("closed to every machine", str(refused.exception))
        self.assertIn("routes[].path", str(refused.exception))

    def test_openbaos_own_refusals_come_through(self):
        with self.assertRaises(hvac.exceptions.Forbidden) as refused:
            self.read("another/db")
        self.assertIn("permission denied", str(refused.exception))

    def test_curl_needs_nothing_of_its_own(self):
        self.write("app/curl", "one")
        curl = ["curl", "-sS", "--fail-with-body", "-H", f"X-Vault-Token: {OLD_TOKEN}"]
        answer = subprocess.check_output([*curl, f"{self.agent.url}/v1/secret/data/app/curl"], timeout=RUN_SECONDS)
        self.assertIn(b'"one"', answer)

    def test_nodes_fetch_is_no_browser_and_its_encoded_names_arrive(self):
        node = ["node", "--input-type=module", "-e", NODE_FETCH, self.agent.url, SIGNS]
        answer = subprocess.check_output(node, timeout=RUN_SECONDS, text=True)
        self.assertEqual(answer.split(), ["200", "200", "one"])
        self.assertEqual(self.vault.administer("LIST", "/v1/secret/metadata/app")["data"]["keys"].count(SIGNS), 1)

    def test_hvac_writes_and_reads_names_with_signs(self):
        self.write(f"app/signs/{SIGNS}", "one")
        self.assertEqual(self.read(f"app/signs/{SIGNS}"), "one")
        self.assertEqual(self.kv.list_secrets("app/signs")["data"]["keys"], [SIGNS])

    def test_a_mebibyte_is_written_and_read_again(self):
        value = "x" * (1024 * 1024 - 64)  # with the JSON around it the gateway's default limit
        self.write("app/large", value)
        self.assertEqual(self.read("app/large"), value)


if __name__ == "__main__":
    unittest.main()
