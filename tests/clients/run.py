#!/usr/bin/env python3
"""Runs real, unmodified clients against the real gateway.

    tests/clients/setup.sh && tests/clients/.venv/bin/python tests/clients/run.py [NAME ..]

COUNTERSIGN names the binary; without it, target/debug/countersign. NAME runs the tests whose name holds it.
"""

import os
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".venv" / "bin" / "python"


class Sentences(unittest.TextTestResult):
    """Tells each test as the sentence that its name is, and counts what passed."""

    passed = 0

    def getDescription(self, test):
        case, method = test.id().rsplit(".", 2)[-2:]
        return f"{case}: {method.removeprefix('test_').replace('_', ' ')}"

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main(names):
    from gateway import BINARY

    if not os.access(BINARY, os.X_OK):
        sys.exit(f"tests/clients: no countersign at {BINARY}: build it, or name it in COUNTERSIGN")
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    tests = loader.discover(str(HERE), pattern="test_*.py")
    result = unittest.TextTestRunner(resultclass=Sentences, verbosity=2).run(tests)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed", flush=True)
    return 0 if result.passed and not failed else 1


if __name__ == "__main__":
    if not PYTHON.exists():
        sys.exit("tests/clients: run tests/clients/setup.sh first")
    if Path(sys.prefix) != HERE / ".venv":
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    sys.exit(main(sys.argv[1:]))
