#!/usr/bin/env python3
"""Refuses the uploads of real clients, and counts who gets to see the refusal.

A client that still sends when the gateway has answered must not lose the answer to a reset connection: it would
report a network error, or send everything again, where it should say 401 or 413.

    tests/clients/.venv/bin/python tests/clients/lost_refusals.py [--count N] [--client NAME] [--size BYTES]

prints a table, and exits with 0 if nothing was lost. COUNTERSIGN names the binary.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agent import Agent
from backend import Backend
from gateway import Gateway
from machine import Machine

HERE = Path(__file__).parent
UPLOADERS = HERE / "uploaders"
SIZES = (200_000, 1_100_000, 5_000_000, 20_000_000)
AT_ONCE = 4  # processes of one client, so that the machine is busy while answers cross
CELL_SECONDS = 600
ROUTES = [
    {"path": "/", "upstream": "secrets", "max_body": "64KiB"},
    {"path": "/large", "upstream": "secrets", "max_body": "32MiB"},
]


@dataclass(frozen=True)
class Client:
    name: str
    command: tuple
    transports: tuple  # "http/1.1", "https/1.1", "https/2"


@dataclass(frozen=True)
class Refused:
    """A request that is refused: the status and the code, the path, and the headers that bring it about."""

    status: int
    code: str
    path: str
    headers: dict


class Siege:
    """A gateway, plain and with TLS, and agents before it; from construction until `close`."""

    def __init__(self, folder):
        self._folder, self._open = Path(folder), []
        self._backend = Backend()
        self._open.append(self._backend.close)
        self.machine = Machine("web-1")
        (self._folder / "gateway").mkdir()
        more = {"routes": ROUTES, "throttle": {"failures_per_minute": 0}}
        self._gateway = Gateway(
            self._folder / "gateway", self._backend.url, [self.machine], replay={"window": "1h"}, tls=True, more=more
        )
        self._open.append(self._gateway.stop)
        self._agents = {}

    def close(self):
        while self._open:
            self._open.pop()()

    def forwarded(self):
        return len(self._backend.heard)

    def clients(self):
        python = (sys.executable, str(UPLOADERS / "upload.py"))
        return [
            Client("requests", (*python, "requests"), ("http/1.1", "https/1.1")),
            Client("httpx", (*python, "httpx"), ("https/2",)),
            Client("curl", (str(UPLOADERS / "upload.sh"),), ("http/1.1", "https/1.1", "https/2")),
            Client("go", (str(self._go()),), ("http/1.1", "https/1.1", "https/2")),
            Client("node", ("node", str(UPLOADERS / "upload.mjs")), ("http/1.1", "https/1.1")),
            Client("agent", (*python, "requests"), ("http/1.1", "https/1.1")),
        ]

    def _go(self):
        """The Go program, compiled once."""
        program = self._folder / "upload-go"
        if not program.exists():
            settings = os.environ | {"GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(self._folder / "go-cache")}
            command = ["go", "build", "-o", str(program), str(UPLOADERS / "upload.go")]
            subprocess.run(command, check=True, env=settings)
        return program

    def refusals(self, client):
        """What a client is refused with, each once."""
        if client.name == "agent":
            # A known machine's upload is too large, by the gateway; a stranger's is whole before its signature is
            # found wrong; and a browser is refused by the agent itself, with most of the upload still to come.
            return [
                (self.machine, Refused(413, "body_too_large", "/v1/secret/a", {})),
                (Machine("unknown-1"), Refused(401, "bad_signature", "/large/a", {})),
                (self.machine, Refused(403, "forbidden_origin", "/large/a", {"Sec-Fetch-Site": "cross-site"})),
            ]
        signed = self.machine.sign("POST", "/v1/secret/a", b"another body")
        return [
            (None, Refused(401, "missing_header", "/v1/secret/a", {})),
            (None, Refused(413, "body_too_large", "/v1/secret/a", signed)),
        ]

    def upload(self, client, transport, size, count, machine, refused):
        """How often the refusal was seen, and a tally of what was seen in its place."""
        scheme, version = transport.split("/")
        base = self._gateway.tls_url if scheme == "https" else self._gateway.url
        if client.name == "agent":
            base = self._agent(scheme, machine)
        environment = os.environ | {
            "no_proxy": "*",
            "NO_PROXY": "*",
            "UPLOAD_HEADERS": "\n".join(f"{name}: {value}" for name, value in refused.headers.items()),
            "UPLOAD_CA": str(self._gateway.ca),
            "SSL_CERT_FILE": str(self._gateway.ca),
            "NODE_EXTRA_CA_CERTS": str(self._gateway.ca),
        }

        def run(share):
            command = [*client.command, base + refused.path, str(share), str(size), version]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CELL_SECONDS)
            lines = done.stdout.splitlines()
            if len(lines) != share:
                lines.append(f"lost, the client ended with {done.returncode}: {done.stderr[-500:]}")
            return lines

        shares = [count // AT_ONCE + (n < count % AT_ONCE) for n in range(AT_ONCE)]
        seen, others = 0, collections.Counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for line in (line for lines in pool.map(run, filter(None, shares)) for line in lines):
                if line.startswith(f"{refused.status} ") and f'"code":"{refused.code}"' in line:
                    seen += 1
                else:
                    others[kind(line)] += 1
        return seen, others

    def _agent(self, scheme, machine):
        """An agent of this machine, which reaches the gateway in this way."""
        key = (scheme, machine.id)
        if key not in self._agents:
            home = self._folder / f"{scheme}-{machine.id}"
            https = scheme == "https"
            identity = machine.settle(home, self._gateway.tls_url if https else self._gateway.url)
            agent = Agent(identity, *(["--cacert", str(self._gateway.ca)] if https else []))
            self._open.append(agent.stop)
            self._agents[key] = agent
        return self._agents[key].url


def kind(line):
    """A line without what differs from run to run: addresses, ports, ids."""
    line = re.sub(r'"request_id":"[^"]*"', "", line)
    return re.sub(r"0x[0-9a-f]+|\d{4,}", "..", line)[:160]


def besiege(siege, count, names=None, sizes=SIZES, out=print):
    """Runs every cell, tells each as a row, and returns how many refusals were lost."""
    lost = 0
    for client in siege.clients():
        if names and client.name not in names:
            continue
        for transport in client.transports:
            for machine, refused in siege.refusals(client):
                for size in sizes:
                    seen, others = siege.upload(client, transport, size, count, machine, refused)
                    lost += count - seen
                    row = f"{client.name:<10}{transport:<11}{refused.status:<5}{size / 1e6:>5.1f} MB"
                    out(f"{row}  {seen:>4} seen  {count - seen:>4} lost")
                    for what, times in others.most_common(3):
                        out(f"{'':>12}{times} x {what}")
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="uploads of each cell (200)")
    parser.add_argument("--client", action="append", help="this client alone; may be given more than once")
    parser.add_argument("--size", type=int, action="append", help="this size alone, in bytes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="countersign-siege-") as folder:
        siege = Siege(folder)
        try:
            out = lambda row: print(row, flush=True)
            lost = besiege(siege, chosen.count, chosen.client, chosen.size or SIZES, out)
            forwarded = siege.forwarded()
        finally:
            siege.close()
    print(f"{lost} refusals were lost; {forwarded} refused requests reached the backend")
    return 0 if lost == forwarded == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
