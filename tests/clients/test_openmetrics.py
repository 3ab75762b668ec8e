"""/metrics as OpenMetrics, read by the parser of the official Python client."""

import tempfile
import unittest
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from status_stage import STATES

ACCEPT = "application/openmetrics-text; version=1.0.0"


def samples(families):
    found = {}
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            if "le" in labels:
                labels["le"] = float(labels["le"])
            found[(sample.name, tuple(sorted(labels.items())))] = sample.value
    return found


class OpenMetrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        state = STATES["hostile"](Path(folder.name) / "hostile")
        cls.stage = state.__enter__()
        cls.addClassCleanup(state.__exit__, None, None, None)

    def test_the_parser_takes_it_and_finds_what_the_text_format_has(self):
        _, headers, text = self.stage.get("/metrics", Accept=ACCEPT)
        self.assertEqual(headers["Content-Type"], f"{ACCEPT}; charset=utf-8")
        found = samples(open_families(text))
        _, headers, text = self.stage.get("/metrics")
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        expected = samples(text_families(text))
        absent = {name for name, _ in set(expected) - set(found)}
        skew = "countersign_clock_skew_seconds"
        self.assertEqual(absent, {f"{skew}_sum", f"{skew}_count"})
        self.assertEqual(set(found) - set(expected), set())
        moving = ("countersign_audit_records_total", "countersign_reload_running_seconds")
        for key in set(found) - {key for key in found if key[0] in moving}:
            self.assertEqual(found[key], expected[key], key)

    def test_a_file_with_a_hostile_name_is_one_label(self):
        text = self.stage.get("/metrics", Accept=ACCEPT)[2]
        name = "countersign_certificate_not_after_timestamp_seconds"
        families = [family for family in open_families(text) if family.name == name]
        files = [sample.labels["file"] for sample in families[0].samples]
        self.assertEqual(files, [str(self.stage.folder / "cert.pem")])
