"""The official Python SDK, unmodified, in this process."""

import json
import queue
import time
from unittest import mock

from sikkerkey import AccessDeniedError, AuthenticationError, NotFoundError, SikkerKey, WatchStatus

from backend import PROJECT, SECRETS, TOKEN
from machine import Machine
from stage import ThroughTheGateway

EVENT_SECONDS = 10


class ThePythonSdk(ThroughTheGateway):
    def sdk(self, machine, url=None):
        return SikkerKey(str(self.identity(machine, url).file))

    def test_it_reads_a_secret(self):
        self.assertEqual(self.sdk(self.web).get_secret("sk_api"), "a-very-secret-value")
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web, body=b"")

    def test_it_reads_one_field_of_a_secret(self):
        self.assertEqual(self.sdk(self.web).get_field("sk_db", "password"), "correct horse")
        self.assert_forwarded("GET", "/v1/secret/sk_db", self.web)

    def test_it_lists_all_secrets(self):
        listed = self.sdk(self.web).list_secrets()
        self.assertEqual([it.id for it in listed], list(SECRETS))
        self.assert_forwarded("GET", "/v1/secrets", self.web)

    def test_it_lists_the_secrets_of_a_project(self):
        listed = self.sdk(self.web).list_secrets_by_project(PROJECT)
        self.assertEqual([it.name for it in listed], ["db-prod", "api-key"])
        body = json.dumps({"projectId": PROJECT}).encode()
        self.assert_forwarded("POST", "/v1/secrets/list", self.web, body)

    def test_it_exports_everything_with_a_post_that_has_no_body(self):
        exported = self.sdk(self.web).export()
        self.assertEqual(
            exported,
            {
                "DB_PROD_HOST": "db.internal",
                "DB_PROD_PASSWORD": "correct horse",
                "API_KEY": "a-very-secret-value",
            },
        )
        self.assert_forwarded("POST", "/v1/secrets/export", self.web, body=b"")

    def test_it_exports_a_project(self):
        self.assertEqual(self.sdk(self.web).export(PROJECT)["API_KEY"], "a-very-secret-value")
        body = json.dumps({"projectId": PROJECT}).encode()
        self.assert_forwarded("POST", "/v1/secrets/export", self.web, body)

    def test_it_polls_and_hands_over_a_changed_secret(self):
        events = queue.Queue()
        sdk = self.sdk(self.web)
        self.addCleanup(sdk.close)
        sdk.watch("sk_api", events.put)
        event = events.get(timeout=EVENT_SECONDS)
        self.assertEqual((event.status, event.value), (WatchStatus.CHANGED, "a-very-secret-value"))
        self.assertEqual(
            [(it.method, it.path, it.all("X-Machine-Identity")) for it in self.backend.heard],
            [
                ("POST", "/v1/secrets/poll", [self.web.id]),
                ("GET", "/v1/secret/sk_api", [self.web.id]),
            ],
        )

    def test_it_never_sees_the_token_of_the_backend(self):
        wire = self.wire()
        self.sdk(self.web, wire.url).get_secret("sk_api")
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web)
        self.assertIn(b"a-very-secret-value", wire.received)
        self.assertNotIn(TOKEN.encode(), wire.sent + wire.received)

    def test_what_the_backend_refuses_is_its_own_typed_error_too(self):
        with self.assertRaisesRegex(NotFoundError, "no such secret"):
            self.sdk(self.web).get_secret("sk_none")
        self.assert_forwarded("GET", "/v1/secret/sk_none", self.web)

    def test_a_wrong_key_is_an_authentication_error(self):
        with self.refused("bad_signature"), self.assertRaises(AuthenticationError) as wrong:
            self.sdk(Machine(self.web.id)).get_secret("sk_api")
        self.assertEqual(wrong.exception.http_status, 401)

    def test_an_unknown_machine_reads_the_very_text_of_a_wrong_key(self):
        texts = []
        for id in (self.web.id, "nobody-9"):
            with self.refused("bad_signature"), self.assertRaises(AuthenticationError) as refusal:
                self.sdk(Machine(id)).get_secret("sk_api")
            texts.append(str(refusal.exception))
        self.assertNotEqual(texts[0], "")
        self.assertEqual(texts[0], texts[1])

    def test_a_revoked_machine_is_denied_access(self):
        with self.refused("machine_disabled"), self.assertRaises(AccessDeniedError) as refusal:
            self.sdk(self.revoked).get_secret("sk_api")
        self.assertEqual(refusal.exception.http_status, 403)

    def test_a_clock_six_minutes_slow_is_an_authentication_error(self):
        self.assert_clock_refused(-360)

    def test_a_clock_six_minutes_fast_is_an_authentication_error(self):
        self.assert_clock_refused(360)

    def test_a_clock_four_minutes_fast_is_forgiven(self):
        # Not a slow one: what is stamped before the gateway's start it may have seen before, and says 503.
        sdk = self.sdk(self.web)
        with skewed(240):
            self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")
        self.assert_forwarded("GET", "/v1/secret/sk_api", self.web)

    def assert_clock_refused(self, seconds):
        sdk = self.sdk(self.web)
        with self.refused("clock_skew"), self.assertRaises(AuthenticationError):
            with skewed(seconds):
                sdk.get_secret("sk_api")


def skewed(seconds):
    """A context in which this process, and so the SDK in it, has the wrong time."""
    real = time.time
    return mock.patch("time.time", lambda: real() + seconds)
