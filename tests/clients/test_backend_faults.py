"""The table of backend_faults.py in short: the faults that need no restart of OpenBao."""

import tempfile
import unittest
from pathlib import Path

import backend_faults


class BackendFaults(unittest.TestCase):
    def test_no_fault_of_openbaos_is_a_final_answer_and_each_is_over_within_two_seconds(self):
        folder = tempfile.TemporaryDirectory(prefix="countersign-faults-")
        self.addCleanup(folder.cleanup)
        site = backend_faults.Site(Path(folder.name), on_disk=False)
        self.addCleanup(site.close)
        for fault in site.quick():
            with self.subTest(fault.name):
                outcome = site.suffer(fault, seconds=0.5)
                self.assertTrue(outcome.is_good, outcome.row())
                self.assertEqual(outcome.final, {403} if fault.is_the_policy else set())


if __name__ == "__main__":
    unittest.main()
