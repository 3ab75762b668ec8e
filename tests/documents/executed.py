"""Documents whose commands are executed as they stand there."""

import os
import subprocess
from pathlib import Path

# Beside README.md and docs/vault.md, of which tests/readme.sh runs a section each.
DOCUMENTS = {"docs/machines.md", "docs/audit.md"}
# tests/clients/test_client_examples.py runs the blocks of this one in each language.
BY_CLIENT_TESTS = {"docs/clients.md"}
CONFIGURATION = """
listeners: [{ address: 127.0.0.1:0 }]
registry: { file: machines.yaml }
upstreams: { secrets: { servers: ['http://127.0.0.1:1'] } }
routes: [{ path: /, upstream: secrets }]
"""


def run(document, binary, seen):
    """Runs every ```sh block of the document, in order, in the folder that it is about; returns how many lines."""
    folder = seen.folder
    if document.name == "docs/machines.md":
        folder = seen.folder / "machines"
        folder.mkdir()
        (folder / "machines.yaml").write_text("machines: []\n")
        (folder / "countersign.yaml").write_text(CONFIGURATION)
        for name in ("web-1", "new"):
            key = subprocess.check_output([binary, "keygen", "--out", folder / f"{name}.pem"], text=True)
            (folder / f"{name}.pub").write_text(key)
    commands = folder / "bin"
    commands.mkdir()
    (commands / "countersign").symlink_to(Path(binary).resolve())
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "KEY": seen.key, "TOKEN": "token"}
    lines = 0
    for block in document.blocks:
        if block.language != "sh":
            continue
        # What follows a file does so until it is interrupted.
        script = "".join(line for line in block.text.splitlines(keepends=True) if "--follow" not in line)
        lines += script.count("\n")
        done = subprocess.run(["bash", "-euo", "pipefail"], input=script, text=True, capture_output=True, cwd=folder,
                              env=environment, timeout=60)
        if done.returncode:
            document.fault(block.line, f"this fails: {done.stderr.strip() or done.stdout.strip()}")
        if "audit verify" in script:
            environment["HEAD"] = done.stdout.strip().splitlines()[-1]
    return lines
