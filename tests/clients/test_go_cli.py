"""The official Go CLI, unmodified: the static binary out of its npm package."""

import json
import subprocess

from backend import PROJECT, TOKEN
from machine import Machine
from stage import CLI, ThroughTheGateway

RUN_SECONDS = 30


class Cli(ThroughTheGateway):
    def cli(self, machine, *arguments, url=None):
        return subprocess.run(
            [CLI, *arguments],
            env=self.identity(machine, url).environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )

    def assert_prints(self, finished, text):
        self.assertEqual((finished.returncode, finished.stderr, finished.stdout), (0, "", text))

    def assert_fails(self, finished):
        """The CLI fails in its own way: exit code 1, nothing to stdout, and the gateway's text as its message."""
        self.assertEqual((finished.returncode, finished.stdout), (1, ""))
        self.assertRegex(finished.stderr, r"\Aerror: .+\n\Z")
        return finished.stderr


class TheGoCli(Cli):
    def test_it_reads_a_secret(self):
        self.assert_prints(self.cli(self.web, "get", "sk_api"), "a-very-secret-value\n")
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web, body=b"")

    def test_it_reads_one_field_of_a_secret(self):
        self.assert_prints(self.cli(self.web, "get", "sk_db", "password"), "correct horse\n")
        self.assert_forwarded("GET", "/v1/secret/sk_db", self.web)

    def test_it_lists_secrets(self):
        listed = self.cli(self.web, "list", "secrets")
        self.assertEqual((listed.returncode, listed.stderr), (0, ""))
        self.assertRegex(listed.stdout, r"sk_db\s+db-prod")
        self.assertRegex(listed.stdout, r"sk_api\s+api-key")
        self.assert_forwarded("GET", "/v1/cli/secrets", self.web)

    def test_it_lists_projects(self):
        listed = self.cli(self.web, "list", "projects")
        self.assertEqual((listed.returncode, listed.stderr), (0, ""))
        self.assertIn(PROJECT, listed.stdout)
        self.assert_forwarded("GET", "/v1/cli/projects", self.web)

    def test_it_exports_everything_with_a_post_that_has_no_body(self):
        exported = self.cli(self.web, "export", "--format", "json")
        self.assertEqual((exported.returncode, exported.stderr), (0, ""))
        self.assertEqual(
            json.loads(exported.stdout),
            {
                "DB_PROD_HOST": "db.internal",
                "DB_PROD_PASSWORD": "correct horse",
                "API_KEY": "a-very-secret-value",
            },
        )
        self.assert_forwarded("POST", "/v1/secrets/export", self.web, body=b"")

    def test_it_exports_a_project_with_a_signed_body(self):
        exported = self.cli(self.web, "export", "--project", "web", "--format", "json")
        self.assertEqual((exported.returncode, exported.stderr), (0, ""))
        self.assertEqual(json.loads(exported.stdout)["API_KEY"], "a-very-secret-value")
        self.assertEqual(
            [(it.path, it.body, it.all("X-Machine-Identity")) for it in self.backend.heard],
            [
                ("/v1/cli/projects", b"", [self.web.id]),
                ("/v1/secrets/export", b'{"projectId":"%s"}' % PROJECT.encode(), [self.web.id]),
            ],
        )

    def test_it_injects_secrets_into_a_command(self):
        ran = self.cli(self.web, "run", "--secret", "sk_api", "--", "/usr/bin/env")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("a-very-secret-value", ran.stdout)

    def test_it_finds_its_status_in_order(self):
        status = self.cli(self.web, "status")
        self.assertEqual((status.returncode, status.stderr), (0, ""))
        self.assertRegex(status.stdout, r"(?m)^authentication: ok$")
        self.assert_forwarded("GET", "/v1/secrets", self.web)

    def test_it_never_sees_the_token_of_the_backend(self):
        wire = self.wire()
        self.assert_prints(self.cli(self.web, "get", "sk_api", url=wire.url), "a-very-secret-value\n")
        self.assertIn(b"a-very-secret-value", wire.received)
        self.assertNotIn(TOKEN.encode(), wire.sent + wire.received)

    def test_a_wrong_key_fails_with_the_text_of_an_unknown_machine(self):
        texts = []
        for id in (self.web.id, "nobody-9"):
            with self.refused("bad_signature"):
                texts.append(self.assert_fails(self.cli(Machine(id), "get", "sk_api")))
        self.assertEqual(texts[0], texts[1])

    def test_a_revoked_machine_fails_with_another_text_than_a_wrong_key(self):
        with self.refused("machine_disabled"):
            revoked = self.assert_fails(self.cli(self.revoked, "get", "sk_api"))
        with self.refused("bad_signature"):
            wrong = self.assert_fails(self.cli(Machine(self.revoked.id), "get", "sk_api"))
        self.assertNotEqual(revoked, wrong)

    def test_a_revoked_machine_finds_its_status_out_of_order(self):
        with self.refused("machine_disabled"):
            status = self.cli(self.revoked, "status")
        self.assertEqual(status.returncode, 1)
        self.assertRegex(status.stdout, r"(?m)^authentication: FAILED \(.+\)$")


class TheGoCliOnASlowWire(Cli):
    """The CLI is static, so nobody can lend it a wrong clock: its stamp grows old under way instead."""

    replay = {"window": "1s"}
    LATE_SECONDS = 3

    def test_a_stamp_outside_the_window_fails(self):
        wire = self.wire(self.LATE_SECONDS)
        with self.refused("clock_skew"):
            self.assert_fails(self.cli(self.web, "get", "sk_api", url=wire.url))
