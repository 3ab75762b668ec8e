"""Clients that nobody here wrote enrol themselves at the gateway, and then read."""

import base64
import json
import os
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from unittest import mock

from sikkerkey import AuthenticationError, SikkerKey

from backend import Backend
from gateway import BINARY, Gateway
from machine import VAULT, Machine
from stage import CLI

AGENT_CLIENT = str(Path(CLI).parents[1] / "mcp-linux-x64" / "sikkerkey-mcp")

ROUTES = [
    {"path": "/", "upstream": "secrets"},
    {"path": "/v1", "upstream": "secrets"},
    {"path": "/v1", "enrolment": True},
    {"path": "/countersign/v1", "management": True},
]


class EnrolledClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="countersign-enrolment-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.backend = Backend()
        cls.addClassCleanup(cls.backend.close)
        cls.operator = Machine("operator-1")
        entry = {"machines": [cls.operator.entry()]}
        (cls.folder / "operators.yaml").write_text(json.dumps(entry))
        more = {
            "registry": {"database": "sqlite:registry.db", "operators": "operators.yaml"},
            "routes": ROUTES,
            "enrolment": {"public_url": "http://localhost:1"},
            "replay": {"state_dir": "none"},
        }
        cls.gateway = Gateway(cls.folder, cls.backend.url, [], more=more)
        cls.addClassCleanup(cls.gateway.stop)
        # The port is known now; enrolled machines get it.
        cls.gateway.configure(enrolment={"public_url": cls.gateway.url})

    def token(self, **terms):
        """A token, by a call that the operator signs."""
        path = "/countersign/v1/enrolment-tokens"
        body = json.dumps({"name": "clients", "vault": VAULT} | terms).encode()
        headers = self.operator.sign("POST", path, body)
        request = urllib.request.Request(self.gateway.url + path, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)["token"]

    def bootstrap(self, token):
        with mock.patch.dict(os.environ, {"SIKKERKEY_API_URL": self.gateway.url}):
            return SikkerKey.bootstrap_in_memory(VAULT, token, hostname="lambda-1")

    def enrol(self, token, home, *more):
        file = home / "token"
        file.write_text(token + "\n")
        file.chmod(0o600)
        command = [BINARY, "enrol", "--gateway", self.gateway.url, "--vault", VAULT]
        command += ["--token", f"@{file}", "--home", str(home), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def home(self):
        return Path(tempfile.mkdtemp(dir=self.folder))

    def test_the_python_sdk_enrols_in_memory_and_reads(self):
        sdk = self.bootstrap(self.token(require_proof=False))
        self.assertEqual((sdk.vault_id, sdk.machine_name), (VAULT, "lambda-1"))
        self.assertEqual(sdk.api_url, self.gateway.url)
        self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")
        self.assertEqual(self.backend.heard[-1].all("X-Machine-Identity"), [sdk.machine_id])

    def test_a_token_that_asks_for_a_proof_does_not_take_the_sdk(self):
        with self.assertRaisesRegex(Exception, "proof"):
            self.bootstrap(self.token())

    def test_a_used_up_token_is_the_sdks_own_authentication_error(self):
        token = self.token(require_proof=False)
        self.bootstrap(token)
        with self.assertRaises(AuthenticationError) as used_up:
            self.bootstrap(token)
        with self.assertRaises(AuthenticationError) as wrong:
            self.bootstrap("cse_" + "A" * 43)
        self.assertEqual(str(used_up.exception), str(wrong.exception))

    def test_an_identity_of_countersign_enrol_serves_the_sdk_and_the_command_line(self):
        home, token = self.home(), self.token()
        done = self.enrol(token, home, "--name", "web-1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("verified a signed request", done.stdout)
        folder = home / "vaults" / VAULT
        for name in ("private.pem", "identity.json"):
            self.assertEqual((folder / name).stat().st_mode & 0o777, 0o600)
        self.assertEqual(sorted(it.name for it in folder.iterdir()), ["identity.json", "private.pem"])
        sdk = SikkerKey(str(folder / "identity.json"))
        self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")
        environment = os.environ | {"SIKKERKEY_HOME": str(home)}
        command = [CLI, "get", "sk_api"]
        read = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        self.assertIn("a-very-secret-value", read.stdout, read.stderr)
        doctor = [BINARY, "doctor", "--home", str(home), "--path", "/v1/secret/sk_api"]
        self.assertEqual(subprocess.run(doctor, capture_output=True, timeout=60).returncode, 0)

    def test_a_second_enrolment_refuses_unless_it_is_meant(self):
        home, token = self.home(), self.token(max_uses=2)
        self.assertEqual(self.enrol(token, home).returncode, 0)
        identity = home / "vaults" / VAULT / "identity.json"
        first = json.loads(identity.read_text())
        again = self.enrol(token, home)
        self.assertEqual(again.returncode, 1)
        self.assertIn("--again", again.stderr)
        self.assertEqual(json.loads(identity.read_text()), first)
        self.assertEqual(self.enrol(token, home, "--again").returncode, 0)
        self.assertNotEqual(json.loads(identity.read_text())["machineId"], first["machineId"])

    def test_a_refused_enrolment_leaves_no_key_and_no_identity(self):
        home = self.home()
        refused = self.enrol("cse_" + "A" * 43, home)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("401", refused.stderr)
        self.assertEqual(list((home / "vaults" / VAULT).iterdir()), [])

    def test_the_client_for_agents_enrols_with_the_bytes_of_a_token_and_signs(self):
        token = self.token(require_proof=False)
        digits = base64.urlsafe_b64decode(token[4:] + "=").hex()
        home = self.home()
        environment = os.environ | {"SIKKERKEY_HOME": str(home), "SIKKERKEY_API_URL": self.gateway.url}
        command = [AGENT_CLIENT, "install", "-name=bot", digits]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        (agent,) = (home / "agents").iterdir()
        call = {"name": "manage_projects", "arguments": {"action": "list"}}
        calls = [
            {"id": 1, "method": "initialize", "params": {"protocolVersion": "2024-11-05", "capabilities": {}}},
            {"id": 2, "method": "tools/call", "params": call},
        ]
        lines = "".join(json.dumps({"jsonrpc": "2.0"} | it) + "\n" for it in calls)
        command = [AGENT_CLIENT, "serve"]
        subprocess.run(command, env=environment, input=lines, capture_output=True, text=True, timeout=60)
        heard = self.backend.heard[-1]
        self.assertEqual((heard.method, heard.path), ("GET", "/v1/ai/projects"))
        self.assertEqual(heard.all("X-Machine-Identity"), [agent.name])

    def test_no_token_is_in_the_log(self):
        token = self.token(max_uses=2)
        home = self.home()
        done = self.enrol(token, home)
        for text in (self.gateway.log(), done.stdout, done.stderr, self.gateway.metrics()):
            self.assertNotIn(token[4:], text)
