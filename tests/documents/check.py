#!/usr/bin/env python3
"""Holds every document to the program: links, paths, commands, snippets, and the tables of docs/reference.

    tests/clients/.venv/bin/python tests/documents/check.py [--write]

COUNTERSIGN names the binary; without it, target/debug/countersign. --write rewrites what is generated.
"""

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "clients"))

import architecture
import executed
import links
import prose
import reference
from commands import Commands
from gateway import BINARY, certificate
from markdown import ROOT, Document, documents
from observed import Observed
from snippets import Snippets

# Beside the documents, these show commands in their comments.
COMMENTED = re.compile(r"^# +countersign (.*)$|`countersign ([^`]*)`|^ExecStart=countersign (.*)$", re.MULTILINE)


def main(rewrite):
    commands, faults = Commands(BINARY), []
    seen = Observed()
    faults += held_to_the_program(commands, seen, rewrite)
    snippets = Snippets(BINARY, certificate)
    print(f"{'document':40} {'links':>6} {'paths':>6} {'commands':>8} {'targets':>7} {'others':>6} {'snippets':>8}")
    totals, linked, all_documents = [0] * 6, set(), documents()
    for document in all_documents:
        prose.check(document)
        counts = [*links.check(document, linked), *commands.check(document), snippets.check(document)]
        totals = [sum(pair) for pair in zip(totals, counts)]
        note = ""
        if document.name in executed.DOCUMENTS:
            note = f" {executed.run(document, BINARY, seen)} lines executed"
        print("{:40} {:6} {:6} {:8} {:7} {:6} {:8}".format(document.name, *counts) + note)
        faults += document.faults
    snippets.close()
    seen.close()
    faults += links.orphans(all_documents, linked)
    print("{:40} {:6} {:6} {:8} {:7} {:6} {:8}".format("all", *totals))
    print("others: lines of other programs, of which only the syntax is checked; tests/readme.sh executes README.md and docs/vault.md, "
          "and tests/packages/clean_root.sh docs/install.md")

    count, wrong = in_comments(commands)
    print(f"conf/: {count} commands in comments and units")
    pointers, lost = links.check_pointers()
    print(f"src, crates, tests, conf: {pointers} pointers to documents")
    for fault in faults + wrong + lost:
        print(fault, file=sys.stderr)
    return 1 if faults + wrong + lost else 0


def held_to_the_program(commands, seen, rewrite):
    """Compares docs/reference, and the metrics that documents name, with the program."""
    text, faults = reference.command_line(commands)
    faults += reference.generated("command-line.md", text, rewrite)
    faults += reference.generated("metrics.md", reference.metrics(seen.metrics), rewrite)

    keys = reference.configuration((ROOT / "conf/countersign.yaml").read_text())
    table = reference.rows(page("configuration.md"), "| key |")
    table = {row[0].strip("`"): row[1] for row in table.values()}
    # These stand in one commented block of the file, because they need a registry in a database.
    block = {name for name in re.findall(r"^# .*", (ROOT / "conf/countersign.yaml").read_text(), re.MULTILINE)}
    in_block = {name for line in block for name in re.findall(r"(\w+): ", line + " ")}
    enrolment = [key for key in table if key.split(".")[0] in ("enrolment", "joiners[]") or key == "routes[].enrolment"]
    table = {key: row for key, row in table.items() if key not in enrolment or key.rsplit(".")[-1] not in in_block}
    faults += reference.compare("configuration.md", table, keys)
    for key in keys.keys() & table.keys():
        if table[key] not in (f"`{keys[key]}`", "required" if keys[key] else "-"):
            faults.append(f"configuration.md: {key} has {table[key]}; conf/countersign.yaml has {keys[key]}")

    table = reference.rows(page("audit-fields.md"), "| field |")
    table = {row[0].strip("`"): row[1] for row in table.values()}
    fields = seen.fields()
    # No machine enrols here; tests/integration/enrolment.rs looks at these.
    table = {field: row for field, row in table.items() if row != "enrolled" and field != "cause"}
    faults += reference.compare("audit-fields.md", table, fields)
    for field in fields.keys() & table.keys():
        decisions = set(table[field].split(", "))
        if table[field] != "all" and not fields[field] <= decisions:
            faults.append(f"audit-fields.md: {field} is also in {', '.join(sorted(fields[field] - decisions))}")
    decisions = reference.rows(page("audit-fields.md"), "| decision |")
    observed = {record["decision"] for record in seen.records} | {"enrolled"}
    faults += reference.compare("audit-fields.md", decisions, observed)

    protocol = page("protocol.md")
    refused = re.findall(r"`([^`]+)`", "".join(row[1] for row in headers_of(protocol)))
    faults += reference.compare("protocol.md, refused headers", {name.lower() for name in refused}, seen.refused)
    section = protocol.split("## Client headers")[1].split("`forward_headers`")[0]
    crossed = {name.lower() for name in re.findall(r"`([^`]+)`", section)}
    faults += reference.compare("protocol.md, headers that cross", crossed, seen.crossed)

    faults += reference.audit_faults()
    faults += architecture.check(set(re.findall(r'countersign_refusals_total\{code="(\w+)"', seen.metrics)))
    exported = set(re.findall(r"^(countersign_\w+)", seen.metrics, re.MULTILINE))
    exported |= {re.sub(r"_bucket$", "", name) for name in exported}
    for document in documents():
        for name in re.findall(r"(?<![\w*])countersign_[a-z]\w*", document.text):
            if name not in exported and name != "countersign_curl":  # a function of clients/shell
                faults.append(f"{document.name}: no metric is called {name}")
        for named in re.findall(r"(?<!\w)countersign_(\d[\w.]*?)(?:_\w+\.deb|\.cdx)", document.text):
            if named != commands.version:
                faults.append(f"{document.name}: names the package {named}; this is {commands.version}")
    print(f"reference: {len(keys)} keys, {len(fields)} fields, {len(refused)} refused headers, "
          f"{text.count('```text')} commands, {seen.metrics.count('# TYPE')} metrics")
    return faults


def page(name):
    return (ROOT / reference.FOLDER / name).read_text()


def headers_of(protocol):
    table = protocol[protocol.index("| kind |"):].split("\n\n")[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in table]


def in_comments(commands):
    count, faults = 0, []
    for path in sorted(path for path in (ROOT / "conf").rglob("*") if path.is_file()):
        text = path.read_text()
        for found in COMMENTED.finditer(text):
            words = next(group for group in found.groups() if group is not None).split("#")[0].split()
            if "|" in "".join(words):
                continue  # add|list|show
            count += 1
            if error := commands.rejects(tuple(words)):
                line = text.count("\n", 0, found.start()) + 1
                faults.append(f"{path.relative_to(ROOT)}:{line}: countersign {' '.join(words)}: {error}")
    return count, faults


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
