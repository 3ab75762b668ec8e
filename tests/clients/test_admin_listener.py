"""The admin listener with TLS, as `countersign health` and `reload` reach it by the configuration alone."""

import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gateway import BINARY, certificate
from machine import Machine
from status_stage import SECONDS, Stage

# More than the listener lets wait, and more than it takes at once.
HALF_OPEN = [200, 600]


def openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)


def signed(folder, name, authority, *, usage):
    """A key and a certificate of the authority, `NAME-cert.pem` and `NAME-key.pem`."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", folder=folder)
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage={usage}\nbasicConstraints=critical,CA:FALSE\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}-key.pem",
            "-CAcreateserial", "-days", "2", "-extfile", extensions.name, "-out", f"{name}-cert.pem", folder=folder)


def authority(folder, name="ca"):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", folder=folder)


@contextmanager
def server_with(folder, address):
    """Somebody else's server, which would say that it is ready."""
    host, port = address.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "tls-key.pem")
    server = ThreadingHTTPServer((host, int(port)), Ready)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class TlsStage(Stage):
    """Asks through the command line: only that has the client certificate."""

    def answers(self, path):
        return self.command("health", *(["--live"] if path == "/livez" else [])).returncode == 0

    def command(self, *arguments):
        command = [BINARY, *arguments, "--config", str(self.folder / "countersign.yaml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)

    @property
    def address(self):
        return self.configuration["admin"]["address"]


class AdminListener(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def stage(self, **tls):
        stage = TlsStage(self.folder, [Machine("a").entry()], admin_tls=tls)
        self.addCleanup(stage.close)
        return stage

    def mutual(self):
        authority(self.folder)
        signed(self.folder, "countersign.internal", "ca", usage="serverAuth")
        signed(self.folder, "operator", "ca", usage="clientAuth")
        return self.stage(
            cert="countersign.internal-cert.pem", key="countersign.internal-key.pem", client_ca="ca.pem",
            client={"cert": "operator-cert.pem", "key": "operator-key.pem"},
        )

    def test_health_and_reload_take_address_and_certificates_from_the_configuration(self):
        stage = self.mutual()
        self.assertEqual(stage.command("health").returncode, 0)
        answer = stage.command("reload")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("the registry has not changed", answer.stdout)

    def test_a_client_without_a_certificate_gets_nothing(self):
        stage = self.mutual()
        context = ssl._create_unverified_context()
        with self.assertRaises(OSError):
            urllib.request.urlopen(f"https://{stage.address}/livez", timeout=SECONDS, context=context)

    def test_a_new_certificate_with_a_mistake_does_not_lock_the_operator_out(self):
        stage = self.mutual()
        signed(self.folder, "other", "ca", usage="serverAuth")
        # The key still is the old one's.
        (self.folder / "other-cert.pem").replace(self.folder / "countersign.internal-cert.pem")
        stage.configuration["admin"]["hosts"] = ["countersign.internal"]
        stage.write_configuration()
        answer = stage.command("reload")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("do not go together", answer.stderr)

    def test_another_server_at_the_address_is_not_believed(self):
        certificate(self.folder)
        stage = self.stage(cert="cert.pem", key="tls-key.pem")
        self.assertEqual(stage.command("health").returncode, 0)
        stage.stop()
        (self.folder / "other").mkdir()
        certificate(self.folder / "other")
        with server_with(self.folder / "other", stage.address):
            answer = stage.command("health")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("another certificate", answer.stderr)

    def test_a_renewed_certificate_is_in_force_without_a_restart(self):
        certificate(self.folder)
        stage = self.stage(cert="cert.pem", key="tls-key.pem")
        certificate(self.folder)
        stage.until(lambda: stage.answers("/livez"), "the new certificate is not in force")

    def test_half_open_connections_do_not_delay_a_probe(self):
        certificate(self.folder)
        stage = self.stage(cert="cert.pem", key="tls-key.pem")
        context = ssl._create_unverified_context()
        for count in HALF_OPEN:
            for begin in (b"", b"\x16\x03\x01\x02"):
                held = []
                host, port = stage.address.rsplit(":", 1)
                for _ in range(count):
                    connection = socket.create_connection((host, int(port)), timeout=SECONDS)
                    connection.sendall(begin)
                    held.append(connection)
                for _ in range(5):
                    began = time.monotonic()
                    with urllib.request.urlopen(f"https://{stage.address}/livez", timeout=2, context=context) as answer:
                        self.assertEqual(answer.status, 200)
                    # Long before those connections are given up: five seconds.
                    self.assertLess(time.monotonic() - began, 2)
                for connection in held:
                    connection.close()
