"""The signers of clients/, by the command that each has: golden vectors, and requests through the gateway."""

import hashlib
import json
import random
import subprocess
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attacker import Captured
from gateway import Gateway, free_ports
from signer import Signer, accepted_vectors, has_java, redirect
from stage import ThroughTheGateway

READ = "/v1/secret/sk_api"
VALUE = {"value": "a-very-secret-value"}
METHODS = ("HEAD", "DELETE", "PATCH", "LIST", "OPTIONS")  # besides GET, POST and PUT
# What libraries encode or leave alone, each in its own way.
PATHS = ("/v1/echo/a%20b%40%C3%A9%28%2B%29/", "/v1/echo/a!$&'()*+,=:@-._~b?b=c&d=%2F%3D/?", "/v1/echo/a?",
         "/v1/echo/?it's+(not)*!,;:@$")
BODIES = {
    "empty": ("POST", b""),
    "every byte": ("PUT", bytes(range(256))),
    "70 KiB": ("POST", random.Random(1).randbytes(70 * 1024)),
}
RUNS_AT_ONCE = 4


class Sends:
    """What each client sends; a subclass says which client."""

    query = "signed"
    tls = True
    signer = None

    def run_signer(self, *arguments, machine=None, **environment):
        machine = machine or self.web
        return self.signer.run(*arguments, key=self.identity(machine).key, machine_id=machine.id, **environment)

    def send(self, method, path, *body, url=None, **more):
        """Runs the command on a path of the gateway's."""
        return self.run_signer(method, (url or self.gateway.url) + path, *body, **more)

    def answer(self, *arguments, **more):
        """What a run that must succeed prints."""
        done = self.send(*arguments, **more)
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout

    def refusal(self, code, *arguments, **more):
        """Runs the command, and insists on this refusal."""
        with self.refused(code):
            done = self.send(*arguments, **more)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(json.loads(done.stderr)["code"], code)

    def file(self, content):
        file = Path(self.identity(self.web).home) / "body"
        file.write_bytes(content)
        return file

    def test_it_reads_a_secret(self):
        self.assertEqual(json.loads(self.answer("GET", READ)), VALUE)
        self.assert_forwarded("GET", READ, self.web, b"")

    def test_it_signs_path_and_query_as_its_library_sends_them(self):
        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            heard = pool.map(lambda path: json.loads(self.answer("GET", path))["path"], PATHS)
            for path, heard in zip(PATHS, heard):
                self.assertEqual(heard.partition("?")[0], path.partition("?")[0])

    def test_it_signs_over_tls_in_the_version_that_its_library_chooses(self):
        for path in PATHS[1:3]:
            with self.subTest(path):
                answer = self.send("GET", path, url=self.gateway.tls_url, **self.trust())
                self.assertEqual(answer.returncode, 0, answer.stderr)

    def trust(self):
        """The environment in which each library trusts the gateway's certificate."""
        names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
        return dict.fromkeys(names, str(self.gateway.ca))

    def test_it_leaves_the_query_unsigned_for_a_route_that_strips_it(self):
        self.addCleanup(self.gateway.route, query="signed")
        self.refusal("bad_signature", "GET", f"{READ}?version=2", COUNTERSIGN_QUERY="strip")
        self.gateway.route(query="strip")
        self.assertEqual(json.loads(self.answer("GET", f"{READ}?version=2", COUNTERSIGN_QUERY="strip")), VALUE)
        self.assert_forwarded("GET", READ, self.web)

    def test_it_sends_every_method(self):
        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            list(pool.map(lambda method: self.answer(method, "/v1/echo/"), METHODS))
        self.assertEqual({it.method for it in self.backend.heard}, set(METHODS))

    def test_its_bodies_arrive_as_they_are(self):
        for name, (method, body) in BODIES.items():
            with self.subTest(name):
                heard = json.loads(self.answer(method, "/v1/echo/", self.file(body)))
                self.assertEqual(heard["body_sha256"], hashlib.sha256(body).hexdigest())

    def test_a_body_changed_on_the_way_is_refused(self):
        wire = self.wire(change=lambda data: data.replace(b"sk_api", b"sk_all"))
        self.refusal("bad_signature", "POST", "/v1/secrets/poll", self.file(b'{"watch":["sk_api"]}'), url=wire.url)

    def test_it_shows_the_refusal_of_a_body_over_the_limit(self):
        self.refusal("body_too_large", "PUT", "/v1/echo/", self.file(bytes(1024 * 1024 + 1)))

    def test_its_request_does_not_pass_twice(self):
        wire = self.wire()
        self.answer("GET", READ, url=wire.url)
        self.backend.forget()
        with self.refused("replayed"):
            status, answer = Captured(wire).send(self.gateway.url)
        self.assertEqual((status, json.loads(answer)["code"]), (401, "replayed"))

    def test_a_clock_six_minutes_fast_is_refused(self):
        # The gateway's own clock is slow instead: libfaketime has no hold on Go.
        folder = Path(self.identity(self.web).home)
        slow = {"LD_PRELOAD": faketime(), "FAKETIME": "-360", "DONT_FAKE_MONOTONIC": "1"}
        gateway = Gateway(folder, self.backend.url, self.machines, environment=slow)
        self.addCleanup(gateway.stop)
        done = self.send("GET", READ, url=gateway.url)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(json.loads(done.stderr)["code"], "clock_skew")
        self.assertEqual(self.backend.heard, [])

    def test_a_disabled_machine_is_refused(self):
        self.refusal("machine_disabled", "GET", READ, machine=self.revoked)

    def test_what_the_backend_refuses_it_prints_as_an_error(self):
        done = self.send("GET", "/v1/secret/sk_none")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(json.loads(done.stderr), {"error": "no such secret"})

    def test_it_takes_the_signature_to_no_other_server(self):
        for status in (301, 307):
            with self.subTest(status):
                done = self.send("GET", READ, url=redirect(self, status, self.backend.url))
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertRegex(done.stderr, rb"redirect refused|HTTP 30\d")
                self.assertEqual(self.backend.heard, [])

    def test_it_says_that_nobody_listens(self):
        done = self.send("GET", READ, url=f"http://127.0.0.1:{free_ports(1)[0]}")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertNotEqual(done.stderr.strip(), b"")
        self.assertNotIn(b"Traceback", done.stderr)


class EverySigner(Sends):
    """What does not depend on the HTTP library."""

    def test_it_signs_every_accepted_vector(self):
        def sign(vector):
            name, parts, body, key, expected = vector
            done = self.signer.run("sign", *parts, *([self.file(body)] if body else []), key=key)
            return name, (done.stdout.decode().strip(), done.stderr), (expected, b"")

        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            signed = list(pool.map(sign, accepted_vectors()))
        self.assertGreater(len(signed), 40)
        for name, made, expected in signed:
            self.assertEqual(made, expected, name)

    def test_its_nonce_names_the_process_and_counts(self):
        nonces = []
        for _ in range(2):
            wire = self.wire()
            self.answer("GET", READ, url=wire.url)
            nonces.append(Captured(wire).headers["x-nonce"])
        for nonce in nonces:
            self.assertRegex(nonce, r"\ACS1[A-Za-z0-9_-]{11}AAAAAAAA[A-Za-z0-9_-]{16}\Z")
        instances, random_parts = {it[3:14] for it in nonces}, {it[22:] for it in nonces}
        self.assertEqual((len(instances), len(random_parts)), (2, 2))

    def test_it_takes_no_key_but_ed25519(self):
        for name, content in wrong_keys().items():
            with self.subTest(name):
                done = self.signer.run("sign", "GET", "/", "1752000000", "0" * 16, key=self.file(content))
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertNotIn(b"Traceback", done.stderr)
                self.assertNotEqual(done.stderr.strip(), b"")

    def test_wrong_usage_is_exit_64(self):
        for words in (("GET",), ("sign", "GET", "/", "1752000000")):
            with self.subTest(words):
                done = self.run_signer(*words)
                self.assertEqual((done.returncode, done.stdout), (64, b""))
                self.assertIn(b"usage", done.stderr)


class PythonWithRequests(EverySigner, ThroughTheGateway):
    signer = Signer("python", {"COUNTERSIGN_HTTP": "requests"})


class PythonWithHttpx(Sends, ThroughTheGateway):
    signer = Signer("python", {"COUNTERSIGN_HTTP": "httpx"})


class Node(EverySigner, ThroughTheGateway):
    signer = Signer("node")


class Go(EverySigner, ThroughTheGateway):
    signer = Signer("go")


@unittest.skipUnless(has_java(), "there is no javac here")
class Java(EverySigner, ThroughTheGateway):
    signer = Signer("java")

    def trust(self):
        store = self.gateway.folder / "trust.p12"
        if not store.exists():
            command = ["keytool", "-importcert", "-noprompt", "-alias", "gateway", "-file", self.gateway.ca,
                       "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit"]
            subprocess.run(command, check=True, capture_output=True)
        options = f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"
        return {"JDK_JAVA_OPTIONS": options}


class Shell(EverySigner, ThroughTheGateway):
    signer = Signer("shell")


def faketime():
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library, "libfaketime is installed: scripts/setup test"
    return str(library)


def wrong_keys():
    """What is no Ed25519 key in PKCS#8 PEM without passphrase."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = Ed25519PrivateKey.generate()
    passphrase = serialization.BestAvailableEncryption(b"passphrase")
    return {"no key": b"nothing\n", "RSA": pkcs8(rsa_key, serialization.NoEncryption()), "locked": pkcs8(locked, passphrase)}


def pkcs8(key, encryption):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
