"""What `countersign report` says of the gateway's one route, for test_migration.py."""

import json
import subprocess
import time
import unittest
from datetime import datetime, timezone

from gateway import BINARY

RUN_SECONDS = 30
SETTLE_SECONDS = 10  # an answer reaches its client before its record reaches the file
MADE_UP = "hvs.made-up"


def moment(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class MigrationReport(unittest.TestCase):
    """Reports on `gateway`, with `tokens` by the names of those that have them."""

    def since(self):
        """The next whole second, once it has come: what was before it is left out of a report."""
        start = int(time.time()) + 1
        time.sleep(max(0.0, start - time.time()))
        return start

    def report(self, since, *options):
        files = [path for path in self.gateway.trails() if path.exists()]
        command = [BINARY, "report", "--audit", *files, "--config", self.gateway.file, "--since", moment(since)]
        return subprocess.check_output([*command, *options], text=True, timeout=RUN_SECONDS)

    def assert_report(
        self, since, *, verdict, mode, never_signed, observed=(), bearer=0, tokens=(), signs=(), refused=()
    ):
        """The report since then says this and no more, once the last answers are on record; and returns it."""
        expected = {
            "verdict": verdict,
            "mode": mode,
            "observed": set(observed),
            "bearer": bearer,
            "tokens": set(tokens),
            "signs": set(signs),
            "refused": set(refused),
            "never_signed": set(never_signed),
            "unanswered": 0,
            "unread": 0,
        }
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            report = json.loads(self.report(since, "--json"))
            told = self._told(report)
            if told == expected or time.monotonic() > until:
                self.assertEqual(told, expected)
                return report
            time.sleep(0.1)

    def _told(self, report):
        tokens = self.tokens | {"made-up": MADE_UP}
        names = {self.gateway.token_hash(token): name for name, token in tokens.items()}
        (route,) = report["routes"]
        passed = (route["observed"], route["bearer"])
        return {
            "verdict": route["verdict"],
            "mode": route["mode"].split(" ")[0],
            "observed": set(route["observed_codes"]),
            "bearer": route["bearer"]["requests"],
            "tokens": {names.get(row["token_hash"], row["token_hash"]) for row in report["tokens"]["rows"]},
            "signs": {row["id"] for row in report["machines"]["rows"] if row["signed"]["requests"]},
            "refused": set(route["refused_codes"]),
            "never_signed": set(report["never_signed"]),
            "unanswered": sum(it["requests"] - it["answered"] for it in passed),
            "unread": report["unread"],
        }
