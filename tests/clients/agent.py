"""Starts and stops the real agent beside a machine."""

import signal
import socket
import subprocess
import time

from gateway import BINARY, free_ports

START_SECONDS = 15
STOP_SECONDS = 10


class Agent:
    """`countersign agent` for a machine's identity, from construction until `stop`."""

    def __init__(self, identity, *options):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = identity.file.parent / "agent.log"
        command = [BINARY, "agent", "--listen", f"127.0.0.1:{port}", "--identity", identity.file.parent, *options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self._process.kill()
                    self._process.wait()
                    raise AssertionError(f"the agent does not listen\n{self.log()}") from None
                time.sleep(0.05)

    def stop(self):
        """Asks it to end, and insists that it ends well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the agent did not end on SIGTERM\n{self.log()}") from None
        if code != 0:
            raise AssertionError(f"the agent ended with {code}\n{self.log()}")

    def log(self):
        return self._log.read_text(errors="replace")
