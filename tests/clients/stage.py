"""What every test stands on: a backend, the gateway before it, and machines."""

import os
import tempfile
import unittest
from pathlib import Path

from backend import TOKEN, TOKEN_HEADER, Backend
from gateway import Gateway
from machine import Machine
from wire import Wire

CLI = str(Path(__file__).parent / "node_modules" / "@sikkerkey" / "cli-linux-x64" / "sikkerkey")

# Everything here is on the loopback address; a proxy of the host has no part in it.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"


class ThroughTheGateway(unittest.TestCase):
    """One gateway and one backend for the tests of a class."""

    replay = None
    signs = False  # its audit trail
    query = None  # the policy of its route
    tls = False  # a second listener

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="countersign-clients-")
        cls.addClassCleanup(folder.cleanup)
        cls._folder = Path(folder.name)
        cls.backend = Backend()
        cls.addClassCleanup(cls.backend.close)

        cls.web = Machine("web-1")
        cls.revoked = Machine("revoked-1", enabled=False)
        cls.machines = [cls.web, cls.revoked]
        (cls._folder / "gateway").mkdir()
        cls.gateway = Gateway(cls._folder / "gateway", cls.backend.url, cls.machines, cls.replay, cls.signs,
                              query=cls.query, tls=cls.tls)
        cls.addClassCleanup(cls.gateway.stop)

    def setUp(self):
        self.backend.forget()

    def identity(self, machine, url=None):
        """The machine's identity in a fresh home; its requests go to `url`, or else to the gateway."""
        home = tempfile.mkdtemp(dir=self._folder)
        return machine.settle(home, url or self.gateway.url)

    def wire(self, delay=0.0, change=bytes):
        wire = Wire(self.gateway.port, delay, change)
        self.addCleanup(wire.close)
        return wire

    def assert_forwarded(self, method, path, machine, body=None):
        """The backend heard this one request, under the machine's name and with the gateway's token."""
        self.assertEqual([(it.method, it.path) for it in self.backend.heard], [(method, path)])
        heard = self.backend.heard[0]
        self.assertEqual(heard.all("X-Machine-Identity"), [machine.id])
        self.assertEqual(heard.all(TOKEN_HEADER), [TOKEN])
        for signing in ("X-Machine-Id", "X-Timestamp", "X-Nonce", "X-Signature"):
            self.assertEqual(heard.all(signing), [], signing)
        if body is not None:
            self.assertEqual(heard.body, body)

    def refused(self, code):
        """A context in which exactly one request is refused with `code`, and the backend hears nothing."""
        return _Refused(self, code)


class _Refused:
    def __init__(self, test, code):
        self._test = test
        self._code = code

    def __enter__(self):
        self._before = self._test.gateway.refusals(self._code)

    def __exit__(self, kind, *_):
        if kind is None:
            refused = self._test.gateway.refusals(self._code, more_than=self._before) - self._before
            self._test.assertEqual(refused, 1, f"refusals with {self._code}")
            self._test.assertEqual(self._test.backend.heard, [])
