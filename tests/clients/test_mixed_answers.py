"""Backends that send more than an answer: no machine gets what is another's (mixed_answers.py, in short)."""

import tempfile
import unittest
from pathlib import Path

from mixed_answers import Late, Stock, besiege, is_clean, table

SECONDS = 4  # `make siege-mixed` takes a minute each


class BehindAWrongBackend(unittest.TestCase):
    def assert_clean(self, backend):
        self.addCleanup(backend.close)
        folder = tempfile.TemporaryDirectory(prefix="countersign-mixed-")
        self.addCleanup(folder.cleanup)
        got, examples = besiege(Path(folder.name), backend, SECONDS)
        self.assertTrue(is_clean(got), "\n".join([table(got), *examples]))

    def test_a_body_in_answer_to_head_reaches_no_machine(self):
        self.assert_clean(Stock())

    def test_bytes_that_come_after_a_complete_answer_reach_no_machine(self):
        self.assert_clean(Late())


if __name__ == "__main__":
    unittest.main()
