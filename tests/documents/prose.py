"""What a machine can hold of the rules for prose in CONTRIBUTING.md."""

import re

COLUMNS = 100
# The one is written by make bench; the other has an entry a line.
EXEMPT = {"bench/RESULTS.md", "CHANGELOG.md"}


def check(document):
    if document.name in EXEMPT:
        return
    for number, line in enumerate(document.prose.splitlines(), 1):
        if len(line) > COLUMNS and not line.startswith("|"):
            document.fault(number, f"{len(line)} columns: wrap prose at {COLUMNS}")
    for found in re.finditer(r"(?:^|[.?!:]\s+)((?:What|Who|Whatever|Whoever)\b[^.?!]*[.!])", document.prose, re.MULTILINE):
        line = document.prose.count("\n", 0, found.start(1)) + 1
        document.fault(line, f"put the subject first: {found[1][:40]!r}")
