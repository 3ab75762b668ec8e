"""End to end: hvac as it is, the agent beside it, the gateway, and a real Vault-compatible server.

RustyVault 0.2.1 has the key/value engine without versions, and takes no bodies of a mebibyte; both are shown
with a store of this folder (versioned.py) in its place.
"""

import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hvac

from agent import Agent
from gateway import Gateway
from machine import Machine
from rusty_vault import RustyVault
from versioned import Versioned

OLD_TOKEN = "hvs.the-token-that-the-application-still-has"
RUN_SECONDS = 30

# What a name with every sign that encodeURIComponent, Go and hvac encode or do not.
SIGNS = "db@prod(1)+a,b:c=d&e$f!g'h*i"

NODE_FETCH = """
const [url, name] = process.argv.slice(1);
const at = `${url}/v1/kv/data/app/${encodeURIComponent(name)}`;
const body = JSON.stringify({data: {value: "one"}});
const written = await fetch(at, {method: "POST", body, headers: {"Content-Type": "application/json"}});
const read = await fetch(at);
console.log(written.status, read.status, (await read.json()).data.data.value);
"""


class BesideAnApplication(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-agent-")
        self.addCleanup(folder.cleanup)
        (Path(folder.name) / "gateway").mkdir()
        return Path(folder.name)

    def hvac(self, folder, gateway, machine, *options):
        """hvac through an agent, with a token that the backend does not know."""
        self.agent = Agent(machine.settle(folder / "home", gateway.url), *options)
        self.addCleanup(self.agent.stop)
        client = hvac.Client(url=self.agent.url, token=OLD_TOKEN, timeout=RUN_SECONDS)
        self.addCleanup(client.adapter.close)
        return client


class BeforeRustyVault(BesideAnApplication):
    def setUp(self):
        folder = self.folder()
        vault = RustyVault(folder / "vault")
        self.addCleanup(vault.stop)
        machine = Machine("web-1", credential="web")
        (folder / "gateway" / "web-token").write_text(vault.token("web") + "\n")
        credentials = {"web": {"header": "X-Vault-Token", "file": "web-token"}}
        self.gateway = Gateway(folder / "gateway", vault.url, [machine], credentials=credentials)
        self.addCleanup(self.gateway.stop)
        self.client = self.hvac(folder, self.gateway, machine)
        self.kv = self.client.secrets.kv.v1

    def test_hvac_writes_reads_lists_and_deletes(self):
        self.kv.create_or_update_secret("web/db", {"value": "one"}, method="POST", mount_point="secret")
        self.kv.create_or_update_secret("web/api", {"value": "two"}, method="PUT", mount_point="secret")
        self.assertEqual(self.kv.read_secret("web/db", mount_point="secret")["data"], {"value": "one"})
        self.assertEqual(self.kv.list_secrets("web", mount_point="secret")["data"]["keys"], ["api", "db"])
        self.kv.delete_secret("web/db", mount_point="secret")
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.read_secret("web/db", mount_point="secret")
        self.assertIn('"auth":"signature"', self.gateway.audit().replace(" ", ""))
        for text in (self.gateway.audit(), self.gateway.log(), self.agent.log()):
            self.assertNotIn(OLD_TOKEN, text)

    def test_two_hundred_requests_at_once_all_pass(self):
        self.kv.create_or_update_secret("web/db", {"value": "one"}, method="PUT", mount_point="secret")

        def read(_):
            client = hvac.Client(url=self.agent.url, token=OLD_TOKEN, timeout=RUN_SECONDS)
            try:
                return client.secrets.kv.v1.read_secret("web/db", mount_point="secret")["data"]["value"]
            finally:
                client.adapter.close()

        with ThreadPoolExecutor(200) as pool:
            self.assertEqual(list(pool.map(read, range(200))), ["one"] * 200)

    def test_hvac_is_told_the_gateways_refusals_in_its_own_terms(self):
        with self.assertRaises(hvac.exceptions.Forbidden) as refused:
            self.client.lookup_token()
        self.assertIn("closed to every machine", str(refused.exception))

    def test_curl_needs_nothing_of_its_own(self):
        self.kv.create_or_update_secret("web/db", {"value": "one"}, method="PUT", mount_point="secret")
        curl = ["curl", "-sS", "--fail-with-body", "-H", f"X-Vault-Token: {OLD_TOKEN}"]
        answer = subprocess.check_output([*curl, f"{self.agent.url}/v1/secret/web/db"], timeout=RUN_SECONDS)
        self.assertIn(b'"one"', answer)


class BeforeVersions(BesideAnApplication):
    def setUp(self):
        folder = self.folder()
        self.store = Versioned()
        self.addCleanup(self.store.close)
        machine = Machine("web-1")
        gateway = Gateway(folder / "gateway", self.store.url, [machine], query="signed")
        self.addCleanup(gateway.stop)
        self.kv = self.hvac(folder, gateway, machine).secrets.kv.v2

    def test_nodes_fetch_is_no_browser_and_its_encoded_names_arrive(self):
        node = ["node", "--input-type=module", "-e", NODE_FETCH, self.agent.url, SIGNS]
        answer = subprocess.check_output(node, timeout=RUN_SECONDS, text=True)
        self.assertEqual(answer.split(), ["200", "200", "one"])

    def test_hvac_writes_and_reads_names_with_signs(self):
        self.kv.create_or_update_secret(f"app/{SIGNS}", {"value": "one"}, mount_point="kv")
        answer = self.kv.read_secret_version(f"app/{SIGNS}", mount_point="kv", raise_on_deleted_version=True)
        self.assertEqual(answer["data"]["data"]["value"], "one")

    def test_a_mebibyte_is_written_and_read_again(self):
        value = "x" * (1024 * 1024 - 64)  # with the JSON around it the gateway's default limit
        self.kv.create_or_update_secret("app/large", {"v": value}, mount_point="kv")
        answer = self.kv.read_secret_version("app/large", mount_point="kv", raise_on_deleted_version=True)
        self.assertEqual(answer["data"]["data"]["v"], value)

    def test_hvac_writes_lists_and_reads_versions_where_the_route_signs_queries(self):
        kv = self.kv
        for value in ("one", "two", "three"):
            kv.create_or_update_secret("app/db", {"value": value}, mount_point="kv")
        read = lambda version: kv.read_secret_version(
            "app/db", version=version, mount_point="kv", raise_on_deleted_version=True
        )["data"]["data"]["value"]
        self.assertEqual([read(1), read(2), read(None)], ["one", "two", "three"])
        self.assertEqual(kv.list_secrets("app", mount_point="kv")["data"]["keys"], ["db"])
        self.assertEqual(kv.read_secret_metadata("app/db", mount_point="kv")["data"]["current_version"], 3)
        for headers in self.store.headers:
            self.assertEqual(headers["x-machine-identity"], "web-1")
            self.assertNotIn(OLD_TOKEN, str(headers))


if __name__ == "__main__":
    unittest.main()
