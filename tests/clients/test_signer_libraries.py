"""The signers of clients/ as applications use them: threads, requests sent twice, streams, redirects."""

import asyncio
import base64
import io
import multiprocessing
import os
import ssl
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import requests
from urllib3.util.retry import Retry

from signer import CLIENTS, ROOT, has_java, redirect
from stage import ThroughTheGateway

PROBES = Path(__file__).parent / "signers"
RUN_SECONDS = 60
ECHO = "/v1/echo/"
STREAMED = "cannot sign a streamed body"
REFUSED = "redirect refused"

sys.path.append(str(CLIENTS / "python"))
from countersign import HttpxAuth, RequestsAuth, Signer, SigningError  # noqa: E402


class ASigner(ThroughTheGateway):
    """What the tests of every language ask."""

    query = "signed"
    tls = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = cls.web.settle(tempfile.mkdtemp(dir=cls._folder), cls.gateway.url).key

    def setUp(self):
        super().setUp()
        self.url = self.gateway.url + ECHO
        self._before = len(self.gateway.records())

    def nonces(self):
        """Instance and counter of each nonce that the gateway has accepted in this test."""
        records = self.gateway.records()[self._before :]
        found = [it["nonce"] for it in records if it["decision"] == "accepted"]
        self.assertEqual(len(set(found)), len(found))
        for nonce in found:
            self.assertRegex(nonce, r"\ACS1[A-Za-z0-9_-]{35}\Z")
        return [(it[3:14], int.from_bytes(base64.urlsafe_b64decode(it[14:22]), "big")) for it in found]

    def assert_one_process_counted(self, count):
        """These were so many requests of one process, which counted each of them once."""
        nonces = self.nonces()
        self.assertEqual(len({instance for instance, _ in nonces}), 1)
        counted = sorted(counter for _, counter in nonces)
        self.assertEqual(counted, list(range(counted[0], counted[0] + count)))

    def assert_one_process_counted_many(self, statuses):
        """The same of 200 requests at once, of which a busy machine may have answered some with 503."""
        self.assertIn(200, statuses)
        self.assertLessEqual(statuses, {200, 503}, self.refusals())
        nonces = self.nonces()
        self.assertEqual(len({instance for instance, _ in nonces}), 1)
        counted = [counter for _, counter in nonces]
        self.assertEqual(len(set(counted)), len(counted))
        self.assertLess(max(counted) - min(counted), 200)
        if statuses == {200}:
            self.assertEqual(len(counted), 200)

    def refusals(self):
        """What the gateway counted as refused, for whoever reads a failed test."""
        counted = (line for line in self.gateway.metrics().splitlines() if "refusals_total{" in line)
        return ", ".join(line for line in counted if not line.endswith(" 0"))

    def redirecting(self):
        return redirect(self, 307, self.gateway.url) + ECHO

    def probe(self, *command, url=None):
        """The lines that a probe prints."""
        environment = os.environ | {"COUNTERSIGN_KEY": str(self.key)}
        words = list(map(str, [*command, url or self.url]))
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout.splitlines()


class PythonRequests(ASigner):
    def setUp(self):
        super().setUp()
        self.auth = RequestsAuth(Signer(self.web.id, self.key.read_bytes()))
        self.session = requests.Session()
        self.session.auth = self.auth
        self.addCleanup(self.session.close)

    def test_threads_share_a_signer(self):
        get = lambda _: requests.get(self.url, auth=self.auth, timeout=RUN_SECONDS).status_code
        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(get, range(200)))
        self.assert_one_process_counted_many(statuses)

    def test_each_request_of_a_session_has_a_nonce_of_its_own(self):
        for _ in range(3):
            self.assertEqual(self.session.get(self.url, timeout=RUN_SECONDS).status_code, 200)
        self.assert_one_process_counted(3)

    def test_a_prepared_request_does_not_pass_twice(self):
        prepared = self.session.prepare_request(requests.Request("GET", self.url))
        answers = [self.session.send(prepared, timeout=RUN_SECONDS) for _ in range(2)]
        self.assertEqual([it.status_code for it in answers], [200, 401])
        self.assertEqual(answers[1].json()["code"], "replayed")

    def test_a_retry_below_requests_does_not_pass_twice(self):
        # urllib3 sends the same headers again, whose nonce the first try has spent.
        retries = Retry(total=1, status_forcelist=[404], allowed_methods=None, raise_on_status=False)
        self.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        answer = self.session.get(self.gateway.url + "/v1/secret/sk_none", timeout=RUN_SECONDS)
        self.assertEqual((answer.status_code, answer.json()["code"]), (401, "replayed"))

    def test_bodies_of_every_kind_in_memory_pass(self):
        bodies = [{"data": "téxt"}, {"data": b"\0\xff"}, {"data": {"a": "é b"}}, {"json": {"a": [1]}}, {"data": ""},
                  {"files": {"f": io.BytesIO(b"a file")}}]
        for body in bodies:
            with self.subTest(body):
                self.assertEqual(self.session.post(self.url, timeout=RUN_SECONDS, **body).status_code, 200)

    def test_a_double_slash_is_signed_as_requests_sends_it(self):
        self.assertEqual(self.session.get(f"{self.gateway.url}/{ECHO}", timeout=RUN_SECONDS).status_code, 200)
        self.assert_forwarded("GET", ECHO, self.web)

    def test_streamed_bodies_are_refused(self):
        for body in (iter([b"a", b"b"]), io.BytesIO(b"a file")):
            with self.subTest(body), self.assertRaisesRegex(SigningError, STREAMED):
                self.session.post(self.url, data=body, timeout=RUN_SECONDS)
        self.assertEqual(self.backend.heard, [])

    def test_redirects_are_refused(self):
        with self.assertRaisesRegex(SigningError, REFUSED):
            self.session.get(self.redirecting(), timeout=RUN_SECONDS)
        self.assertEqual(self.backend.heard, [])

    def test_a_forked_process_has_an_instance_of_its_own(self):
        get = lambda: requests.get(self.url, auth=self.auth, timeout=RUN_SECONDS)
        get()
        child = multiprocessing.get_context("fork").Process(target=get)
        child.start()
        child.join(RUN_SECONDS)
        get()
        (first, counter), (second, start), (third, after) = self.nonces()
        self.assertEqual((third, after, start), (first, counter + 1, 0))
        self.assertNotEqual(second, first)

    def test_no_representation_shows_the_key(self):
        secret = self.key.read_text().splitlines()[1][-12:]
        signer = Signer(self.web.id, self.key.read_bytes())
        for shown in (repr(signer), repr(self.auth), repr(vars(signer))):
            self.assertNotIn(secret, shown)


class PythonHttpx(ASigner):
    def setUp(self):
        super().setUp()
        self.auth = HttpxAuth(Signer(self.web.id, self.key.read_bytes()))

    def client(self, **options):
        client = httpx.Client(auth=self.auth, timeout=RUN_SECONDS, **options)
        self.addCleanup(client.close)
        return client

    def asynchronously(self, run, **options):
        async def with_client():
            async with httpx.AsyncClient(auth=self.auth, timeout=RUN_SECONDS, **options) as client:
                return await run(client)

        return asyncio.run(with_client())

    def test_threads_share_a_client(self):
        client = self.client()
        with ThreadPoolExecutor(16) as pool:
            statuses = {it.status_code for it in pool.map(lambda _: client.get(self.url), range(200))}
        self.assert_one_process_counted_many(statuses)

    def test_tasks_share_an_async_client(self):
        async def run(client):
            return await asyncio.gather(*(client.get(self.url) for _ in range(200)))

        self.assert_one_process_counted_many({it.status_code for it in self.asynchronously(run)})

    def test_a_request_sent_twice_is_signed_twice(self):
        client = self.client()
        request = client.build_request("POST", self.url, content=b"body")
        self.assertEqual([client.send(request).status_code for _ in range(2)], [200, 200])
        self.assert_one_process_counted(2)

    def test_bodies_of_every_kind_in_memory_pass(self):
        client = self.client()
        for body in ({"content": "téxt"}, {"content": b"\0\xff"}, {"data": {"a": "é b"}}, {"json": {"a": [1]}}, {}):
            with self.subTest(body):
                self.assertEqual(client.post(self.url, **body).status_code, 200)

    def test_streamed_bodies_are_refused(self):
        client = self.client()
        for body in ({"content": iter([b"a", b"b"])}, {"files": {"f": io.BytesIO(b"a file")}}):
            with self.subTest(body), self.assertRaisesRegex(SigningError, STREAMED):
                client.post(self.url, **body)
        self.assertEqual(self.backend.heard, [])

    def test_redirects_are_refused_before_anything_is_sent(self):
        with self.assertRaisesRegex(SigningError, REFUSED):
            self.client(follow_redirects=True).get(self.redirecting())
        with self.assertRaisesRegex(SigningError, REFUSED):
            self.asynchronously(lambda client: client.get(self.redirecting()), follow_redirects=True)
        self.assertEqual(self.backend.heard, [])
        self.assertEqual(self.nonces(), [])

    def test_http_2_is_signed_and_its_redirects_are_refused(self):
        trust = ssl.create_default_context(cafile=self.gateway.ca)
        client = self.client(http2=True, verify=trust, follow_redirects=True)
        answer = client.get(f"{self.gateway.tls_url}{ECHO}?", headers={"Accept": "*/*"})
        self.assertEqual((answer.status_code, answer.http_version), (200, "HTTP/2"))
        with self.assertRaisesRegex(SigningError, REFUSED):
            client.get(redirect(self, 307, self.gateway.tls_url) + ECHO)
        self.assertEqual(len(self.nonces()), 1)

    def test_a_callers_own_trace_still_runs(self):
        seen = []

        async def trace(event, _):
            seen.append(event)

        self.client().get(self.url, extensions={"trace": lambda event, _: seen.append(event)})
        self.asynchronously(lambda client: client.get(self.url, extensions={"trace": trace}))
        self.assertEqual(seen.count("http11.send_request_headers.started"), 2)


class Probed:
    """The tests of a language whose probe is a program."""

    command = None
    kinds = ["200"] * 4
    streamed = 1

    def test_threads_share_a_signer(self):
        statuses, = self.probe(*self.command, "many")
        self.assert_one_process_counted_many(set(map(int, statuses.split(","))))

    def test_a_request_sent_twice_is_signed_twice(self):
        self.assertEqual(" ".join(self.probe(*self.command, "twice")), "200 200")
        self.assert_one_process_counted(2)

    def test_bodies_of_every_kind_in_memory_pass(self):
        self.assertEqual(self.probe(*self.command, "kinds"), self.kinds)

    def test_streamed_bodies_are_refused(self):
        lines = self.probe(*self.command, "streamed")
        self.assertEqual([STREAMED in line for line in lines], [True] * self.streamed)
        self.assertEqual(self.backend.heard, [])


class Node(Probed, ASigner):
    command = ("node", PROBES / "probe.mjs")
    kinds = ["200"] * 5
    streamed = 3

    def test_the_options_of_fetch_count(self):
        lines = self.probe(*self.command, "aborted")
        self.assertEqual(lines, ["given up", "given up", "the caller's dispatcher"])

    def test_redirects_are_refused_or_handed_over(self):
        refused, handed = self.probe(*self.command, "redirected", url=self.redirecting())
        self.assertIn(REFUSED, refused)
        self.assertEqual(handed, "307")
        self.assertEqual(self.nonces(), [])


class Go(Probed, ASigner):
    kinds = ["200"] * 6

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        program = ROOT / "target" / "clients" / "go" / "probe"
        subprocess.run(["go", "build", "-o", program, "."], cwd=PROBES / "go", check=True, timeout=RUN_SECONDS)
        cls.command = (program,)

    def test_streamed_bodies_are_refused(self):
        refused, closed, keyless = self.probe(*self.command, "streamed")
        self.assertIn(STREAMED, refused)
        self.assertEqual(closed, "closed: true")
        self.assertIn("the transport has no key", keyless)
        self.assertEqual(self.backend.heard, [])

    def test_redirects_are_refused(self):
        refused, = self.probe(*self.command, "redirected", url=self.redirecting())
        self.assertIn(REFUSED, refused)
        self.assertEqual(self.nonces(), [])


@unittest.skipUnless(has_java(), "there is no javac here")
class Java(Probed, ASigner):
    kinds = ["200"] * 5 + ["the URI has characters that must be percent-encoded: /v1/echo//é"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        classes = cls._folder / "classes"
        sources = [CLIENTS / "java" / "Countersign.java", PROBES / "Probe.java"]
        subprocess.run(["javac", "-Xlint:all", "-Werror", "-encoding", "UTF-8", "-d", classes, *sources], check=True,
                       timeout=RUN_SECONDS)
        cls.command = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dsun.stdout.encoding=UTF-8",
                       "-Dfile.encoding=UTF-8", "-cp", classes, "Probe")

    def test_clients_that_follow_redirects_are_refused(self):
        handed, refused = self.probe(*self.command, "redirected", url=self.redirecting())
        self.assertEqual(handed, "307")
        self.assertIn("Redirect.NEVER", refused)
        self.assertEqual(self.nonces(), [])


class Shell(ASigner):
    command = (PROBES / "probe.sh",)

    def test_a_script_counts_and_its_subshells_count_for_themselves(self):
        self.assertEqual(self.probe(*self.command, "twice"), ["200"] * 3)
        (script, first), (subshell, start), (again, second) = self.nonces()
        self.assertEqual((again, first, second, start), (script, 0, 1, 0))
        self.assertNotEqual(subshell, script)

    def test_it_runs_in_bash_as_in_sh(self):
        self.assertEqual(self.probe("bash", *self.command, "many"), ["200"])

    def test_bodies_of_every_kind_pass(self):
        *passed, refused = self.probe(*self.command, "kinds")
        self.assertEqual(passed, ["200"] * 4 + ["400"] * 2)  # the last two are outside the grammar, and sent so
        self.assertIn("percent-encode the URL", refused)

    def test_bodies_that_it_cannot_hash_are_refused(self):
        for line in self.probe(*self.command, "streamed"):
            self.assertRegex(line, "cannot sign a body by --(upload-file|data):")
        self.assertEqual(self.backend.heard, [])

    def test_redirects_are_not_followed(self):
        self.assertEqual(self.probe(*self.command, "redirected", url=self.redirecting()), ["307"] * 2)
        self.assertEqual(self.nonces(), [])


if __name__ == "__main__":
    unittest.main()
