#!/usr/bin/env python3
"""Writes the golden folders beside this file; with --check, only compares them and exits 1 where they differ.

Needs Python 3.9 and `cryptography`. The same source gives the same bytes, everywhere and always.
"""

import pathlib
import shutil
import sys

sys.dont_write_bytecode = True  # this directory holds vectors and their sources, nothing else

import forge
from cases_enrolment import proofs
from cases_request import request_cases
from cases_signing import signing_cases
from signer import seed, sign

HERE = pathlib.Path(__file__).resolve().parent
PROOFS = HERE / "enrolment-proofs.json"


def main():
    forge.self_test()
    assert forge.sign(seed("alice"), b"x") == sign("alice", b"x"), "the two signers disagree"
    cases = request_cases() + signing_cases()
    wanted = dict(cases)
    assert len(wanted) == len(cases), "two cases have one name"
    if sys.argv[1:] == ["--check"]:
        sys.exit(report(differences(wanted)))
    if sys.argv[1:]:
        sys.exit("usage: generate.py [--check]")
    for name in folders() - wanted.keys():
        shutil.rmtree(HERE / name)
    for name, files in wanted.items():
        write(HERE / name, files)
    PROOFS.write_bytes(proofs())
    print(f"{len(wanted)} vectors written")


def folders():
    return {path.parent.name for path in HERE.glob("*/case.json")}


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for stale in {path.name for path in folder.iterdir()} - files.keys():
        (folder / stale).unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def differences(wanted):
    present = {
        f"{path.parent.name}/{path.name}": path.read_bytes() for name in folders() for path in (HERE / name).iterdir()
    }
    expected = {f"{case}/{name}": content for case, files in wanted.items() for name, content in files.items()}
    expected[PROOFS.name] = proofs()
    present[PROOFS.name] = PROOFS.read_bytes() if PROOFS.exists() else None
    return sorted(path for path in present.keys() | expected.keys() if present.get(path) != expected.get(path))


def report(paths):
    for path in paths:
        print(f"differs from what generate.py writes: {path}", file=sys.stderr)
    return 1 if paths else 0


if __name__ == "__main__":
    main()
