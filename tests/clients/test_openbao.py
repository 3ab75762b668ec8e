"""End to end: machines that sign, the gateway, and the real OpenBao, with a token for each team in a file."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from sikkerkey import SikkerKey
from sikkerkey.exceptions import SikkerKeyError

from gateway import BINARY, Gateway
from machine import Machine
from openbao import OpenBao, folder_policy


LOOK_UP = "/v1/auth/token/lookup-self"
RUN_SECONDS = 30


class TokensInFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-vault-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.vault = OpenBao(self.folder / "openbao")
        self.addCleanup(self.vault.stop)
        self.vault.put("web/db", value="s3cret")
        self.vault.put("pay/key", value="p4y")
        for team in ("web", "pay"):
            self.vault.policy(team, folder_policy(team))

        (self.folder / "gateway").mkdir()
        self.web = Machine("web-1", credential="web")
        self.pay = Machine("pay-1", credential="pay")
        self.tokens = {name: self.vault.token(name) for name in ("web", "pay")}
        for name, token in self.tokens.items():
            self.give(name, token)
        credentials = {name: {"header": "X-Vault-Token", "file": f"{name}-token"} for name in self.tokens}
        self.gateway = Gateway(
            self.folder / "gateway",
            self.vault.url,
            [self.web, self.pay],
            credentials=credentials,
            check=f"GET {LOOK_UP}",
        )
        self.addCleanup(self.gateway.stop)

    def give(self, name, token):
        """Puts a token in the file that the gateway has it from."""
        new = self.folder / "gateway" / "new"
        new.write_text(token + "\n")
        new.replace(self.folder / "gateway" / f"{name}-token")

    def key(self, machine):
        return machine.settle(tempfile.mkdtemp(dir=self.folder), self.gateway.url)

    def curl(self, machine, method, path, body=None):
        """The status and the JSON of an answer to curl."""
        sign = [BINARY, "sign", "--key", self.key(machine).key, "--machine-id", machine.id, method, path]
        send = ["curl", "-sS", "-X", method, "-w", "\n%{http_code}", "-H", "@-", self.gateway.url + path]
        if body is not None:
            file = self.folder / "body"
            file.write_text(json.dumps(body))
            sign += ["--body", file]
            send += ["--data-binary", f"@{file}"]
        headers = subprocess.check_output(sign, timeout=RUN_SECONDS)
        answer, status = subprocess.check_output(send, input=headers, timeout=RUN_SECONDS).rsplit(b"\n", 1)
        for token in self.tokens.values():
            self.assertNotIn(token.encode(), answer)
        return int(status), json.loads(answer or b"null")

    def read(self, machine, name):
        """The status, and the value where there is one."""
        status, answer = self.curl(machine, "GET", f"/v1/secret/data/{name}")
        return (status, answer["data"]["data"]["value"]) if status == 200 else (status, answer.get("code"))

    def test_curl_writes_reads_lists_and_deletes(self):
        path = "/v1/secret/data/web/new"
        self.assertEqual(self.curl(self.web, "POST", path, {"data": {"value": "one"}})[0], 200)
        self.assertEqual(self.read(self.web, "web/new"), (200, "one"))
        self.assertEqual(self.curl(self.web, "LIST", "/v1/secret/metadata/web/")[1]["data"]["keys"], ["db", "new"])
        self.assertEqual(self.curl(self.web, "DELETE", path)[0], 204)
        self.assertEqual(self.read(self.web, "web/new")[0], 404)

    def test_a_policy_of_openbao_holds_for_the_machines_of_its_token(self):
        self.assertEqual(self.read(self.web, "web/db"), (200, "s3cret"))
        self.assertEqual(self.read(self.pay, "pay/key"), (200, "p4y"))
        for machine, name in ((self.web, "pay/key"), (self.pay, "web/db")):
            status, answer = self.curl(machine, "GET", f"/v1/secret/data/{name}")
            self.assertEqual(status, 403)
            self.assertIn("permission denied", str(answer["errors"]))

    def test_the_python_sdk_reads(self):
        sdk = SikkerKey(str(self.key(self.web).file))
        # Its own methods read the answers of another server; what it signs and sends is the same.
        answer = json.loads(sdk._request("GET", "/v1/secret/data/web/db"))
        self.assertEqual(answer["data"]["data"], {"value": "s3cret"})

    def test_openbaos_audit_device_names_the_machine_in_clear_text(self):
        for header in ("X-Machine-Identity", "X-Request-Id"):
            self.vault.write(f"/v1/sys/config/auditing/request-headers/{header}", {"hmac": False})
        self.assertEqual(self.read(self.web, "web/db")[0], 200)
        seen = [it["request"] for it in self.vault.audit() if it["request"]["path"] == "secret/data/web/db"][-1]
        self.assertEqual(seen["headers"]["x-machine-identity"], ["web-1"])
        ours = [it for it in self.gateway.records() if it.get("path") == "/v1/secret/data/web/db"][-1]
        self.assertEqual(seen["headers"]["x-request-id"], [ours["request_id"]])

    def test_no_client_sees_a_token(self):
        for path in (LOOK_UP, "/v1/auth/token/create", "/v1/sys/mounts"):
            for machine in (self.web, self.pay):
                status, answer = self.curl(machine, "GET", path)
                self.assertEqual((status, answer["code"]), (403, "not_permitted"))
        for text in (self.gateway.audit(), self.gateway.log()):
            for token in self.tokens.values():
                self.assertNotIn(token, text)

    def test_a_token_that_is_revoked_stops_its_machines_alone_until_the_file_is_replaced(self):
        self.assertEqual(self.read(self.web, "web/db")[0], 200)
        self.vault.revoke(self.tokens["web"])
        self.assertEqual(self.read(self.web, "web/db"), (503, "upstream_credential"))
        with self.assertRaises(SikkerKeyError):
            SikkerKey(str(self.key(self.web).file))._request("GET", "/v1/secret/data/web/db")
        self.assertEqual(self.gateway.metric("credential_usable", 'credential="web"'), 0)
        self.assertEqual(self.gateway.metric("credential_usable", 'credential="pay"'), 1)
        self.assertEqual(self.read(self.pay, "pay/key"), (200, "p4y"))

        self.give("web", self.vault.token("web"))
        self.gateway._wait(
            lambda: self.gateway.metric("credential_usable", 'credential="web"') == 1, 10, "no new token"
        )
        self.assertEqual(self.read(self.web, "web/db"), (200, "s3cret"))


if __name__ == "__main__":
    unittest.main()
