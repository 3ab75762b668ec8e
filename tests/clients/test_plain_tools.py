"""Any machine can be a client: `countersign sign`, curl and openssl."""

import json
import subprocess
from pathlib import Path

from backend import TOKEN
from gateway import BINARY
from stage import CLI, ThroughTheGateway

OPENSSL = str(Path(__file__).parent / "openssl.sh")
RUN_SECONDS = 30


class PlainTools(ThroughTheGateway):
    def sign(self, key, *arguments, machine=None, body=None):
        """The four headers, one a line, as `countersign sign` prints them."""
        id = (machine or self.web).id
        return run(BINARY, "sign", "--key", key, "--machine-id", id, *arguments, input=body)

    def curl(self, headers, path, *arguments):
        """The status and the JSON of one answer to curl."""
        out = run("curl", "-sS", "-w", "\n%{http_code}", "-H", "@-", *arguments, self.gateway.url + path, input=headers)
        body, status = out.rsplit("\n", 1)
        return int(status), json.loads(body)

    def test_curl_reads_with_the_headers_that_sign_prints(self):
        headers = self.sign(self.identity(self.web).key, "GET", "/v1/secret/sk_api")
        self.assertEqual(self.curl(headers, "/v1/secret/sk_api"), (200, {"value": "a-very-secret-value"}))
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web)

    def test_curl_posts_a_body_that_sign_has_signed(self):
        body = '{"watch":["sk_api"]}'
        headers = self.sign(
            self.identity(self.web).key, "POST", "/v1/secrets/poll", "--body", "-", body=body
        )
        status, answer = self.curl(headers, "/v1/secrets/poll", "--data-binary", body)
        self.assertEqual((status, answer), (200, {"changes": {"sk_api": {"status": "changed"}}}))
        self.assert_forwarded("POST", "/v1/secrets/poll", self.web, body.encode())

    def test_a_body_other_than_the_signed_one_is_refused(self):
        headers = self.sign(
            self.identity(self.web).key, "POST", "/v1/secrets/poll", "--body", "-", body='{"watch":[]}'
        )
        with self.refused("bad_signature"):
            status, answer = self.curl(headers, "/v1/secrets/poll", "--data-binary", '{"watch":["sk_api"]}')
        self.assertEqual((status, answer["code"]), (401, "bad_signature"))

    def test_a_path_other_than_the_signed_one_is_refused(self):
        headers = self.sign(self.identity(self.web).key, "GET", "/v1/secret/sk_api")
        with self.refused("bad_signature"):
            status, answer = self.curl(headers, "/v1/secret/sk_db")
        self.assertEqual((status, answer["code"]), (401, "bad_signature"))

    def test_a_request_without_headers_is_refused(self):
        with self.refused("missing_header"):
            status, answer = self.curl("", "/v1/secret/sk_api")
        self.assertEqual((status, answer["code"]), (401, "missing_header"))

    def test_the_same_request_sent_twice_is_replayed(self):
        headers = self.sign(self.identity(self.web).key, "GET", "/v1/secret/sk_api")
        self.assertEqual(self.curl(headers, "/v1/secret/sk_api")[0], 200)
        self.backend.forget()
        with self.refused("replayed"):
            status, answer = self.curl(headers, "/v1/secret/sk_api")
        self.assertEqual((status, answer["code"]), (401, "replayed"))

    def test_a_request_captured_from_the_go_cli_is_replayed_when_curl_sends_it_again(self):
        wire = self.wire()
        run(CLI, "get", "sk_api", env=self.identity(self.web, wire.url).environment())
        self.backend.forget()
        captured = [line for line in wire.sent.decode().splitlines() if line.lower().startswith("x-")]
        self.assertEqual(len(captured), 4)
        with self.refused("replayed"):
            status, answer = self.curl("\n".join(captured), "/v1/secret/sk_api")
        self.assertEqual((status, answer["code"]), (401, "replayed"))

    def test_the_audit_names_the_machine_and_neither_audit_nor_log_holds_a_secret(self):
        headers = self.sign(self.identity(self.web).key, "GET", "/v1/secret/sk_api")
        self.curl(headers, "/v1/secret/sk_api")
        self.assertIn(self.web.id, self.gateway.audit())
        for secret in (TOKEN, "a-very-secret-value"):
            self.assertNotIn(secret, self.gateway.audit() + self.gateway.log())

    def test_openssl_and_curl_read_a_secret(self):
        key = self.identity(self.web).key
        out = run(OPENSSL, key, self.web.id, "GET", self.gateway.url, "/v1/secret/sk_api")
        self.assertEqual(json.loads(out), {"value": "a-very-secret-value"})
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web)

    def test_openssl_and_curl_post_a_signed_body(self):
        body = '{"watch":["sk_db"]}'
        key = self.identity(self.web).key
        out = run(OPENSSL, key, self.web.id, "POST", self.gateway.url, "/v1/secrets/poll", body)
        self.assertEqual(json.loads(out), {"changes": {"sk_db": {"status": "changed"}}})
        self.assert_forwarded("POST", "/v1/secrets/poll", self.web, body.encode())

    def test_openssl_with_a_revoked_key_is_refused(self):
        key = self.identity(self.revoked).key
        with self.refused("machine_disabled"):
            out = run(OPENSSL, key, self.revoked.id, "GET", self.gateway.url, "/v1/secret/sk_api")
        self.assertEqual(json.loads(out)["code"], "machine_disabled")


def run(*command, input=None, env=None):
    """The standard output of a command that must succeed."""
    ran = subprocess.run(
        list(map(str, command)), input=input or "", env=env, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    if ran.returncode != 0:
        raise AssertionError(f"{Path(command[0]).name} ended with {ran.returncode}: {ran.stderr}")
    return ran.stdout
