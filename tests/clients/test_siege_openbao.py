"""The siege of siege_openbao.py in short: a few machines, hours of seconds, and all are disabled at the end."""

import tempfile
import unittest
from pathlib import Path

from siege_openbao import Siege, besiege


class OpenBaoUnderSiege(unittest.TestCase):
    def test_each_machine_has_its_own_token_and_no_string_that_is_left_opens_anything(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-siege-")
        self.addCleanup(folder.cleanup)
        siege = Siege(Path(folder.name), 20, token_ttl="10m", others=4)
        self.addCleanup(siege.close)
        besiege(siege, seconds=9, hour=2, end_of_day=siege.disable_all, say=lambda line: None)


if __name__ == "__main__":
    unittest.main()
