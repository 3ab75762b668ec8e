"""A wire between a client and the gateway: it notes what passes, and can be slow."""

import socket
import threading
import time


class Wire:
    """Carries connections from a free port of the loopback address to `port`, until `close`.

    Each thing that a client sends arrives `delay` seconds late, and changed by `change`.
    """

    def __init__(self, port, delay=0.0, change=bytes):
        self._port = port
        self._change = change
        self._delay = delay
        self.sent = bytearray()
        self.received = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            gateway = socket.create_connection(("127.0.0.1", self._port))
            self._carry(client, gateway, self.sent, self._delay, self._change)
            self._carry(gateway, client, self.received, 0.0, bytes)

    def _carry(self, source, sink, notes, delay, change):
        def run():
            try:
                while data := source.recv(65536):
                    notes.extend(data)
                    time.sleep(delay)
                    sink.sendall(change(data))
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the other side has gone, and its own reader says so

        threading.Thread(target=run, daemon=True).start()
