"""Clients that still send when the gateway refuses: each must see the refusal (lost_refusals.py, in short)."""

import tempfile
import unittest

from lost_refusals import Siege, besiege

UPLOADS = 4  # of each client, size, transport and refusal; `make siege-clients` makes 200


class DuringAnUpload(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-siege-")
        self.addCleanup(folder.cleanup)
        self.siege = Siege(folder.name)
        self.addCleanup(self.siege.close)

    def test_no_client_loses_a_refusal(self):
        for client in self.siege.clients():
            with self.subTest(client=client.name):
                rows = []
                lost = besiege(self.siege, UPLOADS, [client.name], (200_000, 5_000_000), rows.append)
                self.assertEqual(lost, 0, "\n" + "\n".join(rows))
        self.assertEqual(self.siege.forwarded(), 0)


if __name__ == "__main__":
    unittest.main()
