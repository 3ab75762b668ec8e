#!/usr/bin/env python3
"""Many machines before OpenBao, and whether a string that the gateway leaves anywhere still opens anything.

    tests/clients/.venv/bin/python tests/clients/siege_openbao.py [--machines N] [--seconds N] [--hour N] [--lease N]

Each machine reads its own secret and is refused others'. Then a day passes in short: in each of its hours other
machines read, the rest is idle, some get another key, some are disabled and come back later. Leases are long, so
tokens end because the gateway lets go of them. At the end every token that OpenBao issued is looked for on the
gateway's disk, in its environment and in its memory, and none that is found may be accepted a minute later. Prints
the figures, and exits with 0 if all is well. COUNTERSIGN names the binary.
"""

import argparse
import array
import collections
import http.client
import json
import os
import queue
import random
import re
import ssl
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from machine import Machine
from openbao import OpenBao
from vault_gateway import VaultGateway

PAGE = os.sysconf("SC_PAGE_SIZE")
WORKERS = 12
OTHERS = 20  # secrets of other machines that each machine tries
IDLE_SECONDS = 90  # longest until the gateway has revoked and wiped its tokens: 45 s without use, and the sweep
ACCEPTED_SECONDS = 60  # how long a string that is found may still be accepted
# A busy disk holds the audit log up for longer than 250 ms, and the siege is about tokens.
AUDIT = "audit: { file: audit.jsonl }", "audit: { file: audit.jsonl, deadline: 10s }"
RESULTS = "revoked", "refused", "unavailable", "unsupported", "dropped"
AWAKE = 0.4  # of the machines, in each hour
CHANGED = 0.03  # of the machines get another key in each hour, and as many are disabled until the next
# A token of OpenBao's behind its first letter: no two can overlap then.
TOKEN = re.compile(rb"\.[0-9A-Za-z]{24}")


class Siege:
    """OpenBao and the gateway before it, with `count` machines in its registry."""

    def __init__(self, folder, count, token_ttl, others=OTHERS):
        self.others = min(others, count - 1)
        self.vault = OpenBao(folder / "openbao", log_raw=True)
        try:
            self.machines = [Machine(f"machine-{number}") for number in range(count)]
            for machine in self.machines:
                self.vault.put(f"{machine.id}/db", value=machine.id)
            self.others_tokens = self.vault.live_tokens()
            self.vault.write("/v1/sys/config/auditing/request-headers/X-Machine-Identity", {"hmac": False})
            self.gateway = VaultGateway(folder / "gateway", self.vault, self.machines, changes=[AUDIT], token_ttl=token_ttl)
        except BaseException:
            self.vault.kill()
            raise
        self._trust = ssl.create_default_context(cafile=self.gateway.ca)

    def close(self):
        try:
            self.gateway.stop()
        finally:
            self.vault.stop()

    def own_and_others(self):
        """Each machine reads its own secret and tries those of others; returns the count of each kind of answer."""

        def visit(number, ask):
            machine = self.machines[number]
            yield "own", ask(machine, machine)
            for step in range(1, self.others + 1):
                yield "others'", ask(machine, self.machines[(number + step) % len(self.machines)])

        return self._all(visit, range(len(self.machines)))

    def a_day(self, seconds, hour):
        """The machines that are awake read their own secrets at random; in each hour these are others.

        Returns the count of each kind of answer, of machines with another key, and of disabled ones.
        """
        day = Day(self, hour)
        until = time.monotonic() + seconds

        def visit(_, ask):
            while time.monotonic() < until:
                with day.one_awake() as machine:
                    yield "own", ask(machine, machine)

        changes = threading.Thread(target=day.run, args=[until])
        changes.start()
        answers = self._all(visit, range(WORKERS))
        changes.join()
        if day.failed:
            raise day.failed
        return answers, day

    def disable_all(self):
        for machine in self.machines:
            machine.enabled = False
        self.gateway.register(self.machines)

    def _all(self, visit, numbers):
        work, counts, lock = queue.SimpleQueue(), collections.Counter(), threading.Lock()
        for number in numbers:
            work.put(number)

        def run():
            connection = http.client.HTTPSConnection("localhost", self.gateway.port, timeout=60, context=self._trust)

            def ask(machine, owner):
                path = f"/v1/secret/data/{owner.id}/db"
                connection.request("GET", path, headers=machine.sign("GET", path))
                answer = connection.getresponse()
                content = json.loads(answer.read())
                if answer.status == 200:
                    return "200" if content["data"]["data"] == {"value": machine.id} else "ANOTHER'S SECRET"
                return f"{answer.status} {content.get('code') or 'of OpenBao'}"

            mine = collections.Counter()
            while True:
                try:
                    number = work.get_nowait()
                except queue.Empty:
                    break
                mine.update(visit(number, ask))
            connection.close()
            with lock:
                counts.update(mine)

        workers = [threading.Thread(target=run) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return counts

    # What OpenBao's audit device and the gateway say of it.

    def names_by_openbao(self):
        """By machine: its reads, those that were allowed, and its logins; each under its own name twice."""
        reads, allowed, logins = collections.Counter(), collections.Counter(), collections.Counter()
        wrong = 0
        for line in self.vault.audit():
            request = line["request"]
            if line["type"] != "response":
                continue
            if request["path"] == "auth/jwt/login":
                name = (line["response"].get("auth") or {}).get("display_name", "")
                logins[name.removeprefix("jwt-")] += 1
            elif request["path"].startswith("secret/data/") and "headers" in request:
                machine = request["headers"]["x-machine-identity"][0]
                reads[machine] += 1
                allowed[machine] += "error" not in line
                wrong += line["auth"]["display_name"] != f"jwt-{machine}"
        return reads, allowed, logins, wrong

    def logins(self):
        return int(self.gateway.metric("logins_total", 'result="accepted"'))

    def revocations(self, result):
        return int(self.gateway.metric("token_revocations_total", f'result="{result}"'))

    def wait_until_idle(self):
        """Until the gateway holds no token."""
        start = time.monotonic()
        while self.gateway.metric("backend_tokens"):
            assert time.monotonic() < start + IDLE_SECONDS, "the gateway still holds tokens"
            time.sleep(0.2)

    # What is left.

    def left(self):
        """Tokens that OpenBao issued, by the place where they were found."""
        issued = {token.encode() for token in self.vault.issued()}
        assert issued and all(token[:1] == b"s" and TOKEN.fullmatch(token[1:]) for token in issued), issued
        process = Path("/proc") / str(self.gateway.pid)
        disk = b"\n".join(path.read_bytes() for path in self.gateway.folder.rglob("*") if path.is_file())
        places = {"disk": [disk], "environment": [(process / "environ").read_bytes()], "memory": memory(process)}
        found = {}
        for place, pieces in places.items():
            found[place] = {b"s" + it for piece in pieces for it in TOKEN.findall(piece)} & issued
        return issued, {place: {token.decode() for token in tokens} for place, tokens in found.items()}

    def accepted(self, tokens):
        with ThreadPoolExecutor(WORKERS) as threads:
            tokens = list(tokens)
            return {token for token, is_live in zip(tokens, threads.map(self.vault.accepts, tokens)) if is_live}

    def live_tokens(self):
        """How many tokens of machines OpenBao would accept."""
        return self.vault.live_tokens() - self.others_tokens


class Day:
    """Who is awake in each hour, and what becomes of the rest. A machine is changed while it does not read."""

    def __init__(self, siege, hour):
        self._siege, self._hour = siege, hour
        self._locks = {machine.id: threading.Lock() for machine in siege.machines}
        self._awake = self._sample(AWAKE)
        self.rekeyed = self.disabled = 0
        self.most = 0, 0  # live tokens, and those of them that the gateway holds
        self.failed = None

    def run(self, until):
        try:
            while time.monotonic() + self._hour < until:
                time.sleep(self._hour)
                self._next_hour()
        except Exception as why:
            self.failed = why

    def _next_hour(self):
        siege = self._siege
        held = int(siege.gateway.metric("backend_tokens"))
        self.most = max(self.most, (siege.live_tokens(), held))
        rekeyed = set(self._sample(CHANGED))
        disabled = set(self._sample(CHANGED)) - rekeyed
        back = {machine for machine in siege.machines if not machine.enabled}
        awake = self._sample(AWAKE)
        self._awake = [machine for machine in awake if machine not in rekeyed | disabled | back]
        for machine in siege.machines:
            with self._locks[machine.id]:  # its last request has ended
                machine.enabled = machine not in disabled
                if machine in rekeyed:
                    machine.renew()
        siege.gateway.register(siege.machines)
        # Those that were changed read again. Those that were disabled sleep for this hour.
        self._awake = [*self._awake, *((rekeyed | back) - disabled)]
        self.rekeyed += len(rekeyed)
        self.disabled += len(disabled)

    def _sample(self, share):
        machines = self._siege.machines
        return random.sample(machines, max(1, int(share * len(machines))))

    @contextmanager
    def one_awake(self):
        while True:
            machine = random.choice(self._awake)
            with self._locks[machine.id]:
                if machine in self._awake:
                    yield machine
                    return


def memory(process):
    """What a core dump of the process would hold: the pages that are there, in runs of neighbours."""
    with (process / "mem").open("rb", buffering=0) as image, (process / "pagemap").open("rb", buffering=0) as pages:
        for line in (process / "maps").read_text().splitlines():
            start, end = (int(part, 16) // PAGE for part in line.split()[0].split("-"))
            for first, last in _runs(pages, start, end):
                try:
                    image.seek(first * PAGE)
                    yield _whole(image, (last - first) * PAGE)
                except OSError:
                    continue  # not to be read, or unmapped meanwhile


def _runs(pages, start, end):
    """The pages from `start` to `end` that are in memory or swapped out, as runs."""
    try:
        pages.seek(start * 8)
        entries = array.array("Q", _whole(pages, (end - start) * 8))
    except OSError:
        return  # the kernel's own
    first = None
    for number, entry in enumerate(entries):
        if entry >> 62:
            first = number if first is None else first
        elif first is not None:
            yield start + first, start + number
            first = None
    if first is not None:
        yield start + first, start + len(entries)


def _whole(file, size):
    content = bytearray()
    while len(content) < size:
        piece = file.read(size - len(content))
        if not piece:
            break
        content += piece
    return bytes(content)


class Failed(AssertionError):
    """Something that must not be."""


def besiege(siege, seconds, hour, end_of_day=lambda: None, say=print):
    """The whole of it, with a line a figure."""

    def expect(condition, complaint):
        if not condition:
            raise Failed(complaint)

    count = len(siege.machines)
    start = time.monotonic()
    answers = siege.own_and_others()
    say(f"{count} machines, own secret and others': {time.monotonic() - start:.0f} s, {_told(answers)}")
    expect(set(answers) == {("own", "200"), ("others'", "403 of OpenBao")}, f"other answers: {answers}")
    expect(answers["own", "200"] == count, f"own secrets: {answers}")

    reads, allowed, logins, wrong = siege.names_by_openbao()
    say(f"OpenBao's audit names {len(reads)} machines; {sum(reads.values())} reads, {wrong} under another's token; "
        f"logins of a machine: {min(logins.values())} to {max(logins.values())}")
    expect(set(reads.values()) == {1 + siege.others} and set(allowed.values()) == {1} and not wrong, "the audit device disagrees")
    expect(len(reads) == len(allowed) == len(logins) == count, "machines are missing from the audit log")
    expect(siege.logins() == sum(logins.values()), f"the gateway counts {siege.logins()} logins")

    before = siege.logins()
    answers, day = siege.a_day(seconds, hour)
    stopped = time.monotonic()
    issued, left = siege.left()
    found = set().union(*left.values())
    say(f"a day: {seconds} s, {day.rekeyed} times another key, {day.disabled} times disabled: {_told(answers)}; "
        f"{siege.logins() - before} logins; at most {day.most[0]} live tokens, {day.most[1]} of them in use")
    expect(set(answers) == {("own", "200")}, f"other answers: {answers}")
    expect(siege.logins() > before + day.rekeyed // 2, "the tokens did not turn over")
    accepted = siege.accepted(found)
    say(f"as the traffic ends: {len(issued)} tokens issued; {_places(left)}; OpenBao accepts {len(accepted)} of these")
    expect(accepted, "the search finds no token even of a gateway that uses some")
    expect(not left["disk"] and not left["environment"], "a token is on the disk or in the environment")

    end_of_day()
    siege.wait_until_idle()
    expect(time.monotonic() < stopped + ACCEPTED_SECONDS, "the gateway was late to let go of its tokens")
    accepted = siege.accepted(accepted)
    say(f"{time.monotonic() - stopped:.0f} s later OpenBao accepts {len(accepted)} of these")
    expect(not accepted, f"OpenBao accepts what was in the memory {ACCEPTED_SECONDS} s before")
    issued, left = siege.left()
    accepted, live = siege.accepted(issued), siege.live_tokens()
    say(f"idle: {_places(left)}; OpenBao accepts {len(accepted)} of all {len(issued)} tokens, and lists {live}")
    expect(not left["disk"] and not left["environment"], "a token is on the disk or in the environment")
    expect(not accepted and not live, "OpenBao accepts tokens that the gateway has let go of")
    say("revocations: " + ", ".join(f"{siege.revocations(result)} {result}" for result in RESULTS))


def _told(answers):
    return ", ".join(f"{count} {whose} {status}" for (whose, status), count in sorted(answers.items()))


def _places(left):
    return ", ".join(f"{len(tokens)} {'in' if place != 'disk' else 'on'} its {place}" for place, tokens in left.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=300, help="length of the day")
    parser.add_argument("--hour", type=int, default=30, help="length of its hours, in seconds")
    parser.add_argument("--lease", type=int, default=600, help="seconds that a token lives unless it is revoked")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="countersign-siege-") as folder:
        siege = Siege(Path(folder), arguments.machines, token_ttl=arguments.lease)
        try:
            besiege(siege, arguments.seconds, arguments.hour)
        except Failed as why:
            warnings = [line for line in siege.gateway.log().splitlines() if "WARN" in line or "ERROR" in line]
            figures = [line for line in siege.gateway.metrics().splitlines() if "login" in line and line[0] != "#"]
            print("\n".join([*warnings[:20], *figures, f"WRONG: {why}"]))
            return 1
        finally:
            siege.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
