"""One run of a gateway that shows what it exports, writes and forwards: the reference is held to it."""

import http.client
import json
import re
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from backend import TOKEN, TOKEN_HEADER, Backend
from gateway import BINARY, Gateway
from machine import Machine

FAST_SECONDS = 60  # how far ahead a machine's clock is that has a series of its own for it


class Named(Machine):
    """A machine with everything that a registry can say of it, two keys among it."""

    def entry(self):
        entry = super().entry() | {"vault": "vault_test", "owner": "payments"}
        entry["public_keys"] += Machine(self.id).entry()["public_keys"]
        return entry


class Observed:
    """What was seen: `metrics` (the text), `records`, the headers that `crossed` and those that were `refused`.

    `folder` has the files of the gateway until `close`, and `key` is its public key.
    """

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="countersign-documents-")
        self.folder = Path(self._folder.name)
        self._run(self.folder)
        self.records += self._manage(self.folder / "managed")

    def close(self):
        self._folder.cleanup()

    def _run(self, folder):
        backend, machine, other = Backend(), Named("web-1"), Named("web-2")
        until = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%d")
        route = {"upstream": "secrets"}
        assertion = subprocess.run([BINARY, "keygen", "--out", folder / "assertion.pem"], capture_output=True)
        assertion.check_returncode()
        (folder / "token").write_text(TOKEN + "\n")
        login = {"method": "jwt", "mount": "jwt", "role": "machine", "audience": "api", "header": TOKEN_HEADER}
        more = {
            "assertion": {"issuer": "https://gw.example", "keys": ["assertion.pem"]},
            "upstreams": {
                "secrets": {
                    "servers": [backend.url],
                    "credential": {"header": TOKEN_HEADER, "file": "token"},
                },
                "vault": {"servers": [backend.url], "login": login},
            },
            "routes": [
                route | {"path": "/"},
                route | {"path": "/open", "mode": "open"},
                route | {"path": "/observe", "mode": "observe", "observe_until": until},
                route | {"path": "/bearer", "bearer_until": until},
                {"path": "/v1/secret", "upstream": "vault"},
                route | {"path": "/v1/secrets", "adapter": {"kind": "sikkerkey", "kv": "kv"}},
            ],
            "audit": {"file": "audit.jsonl", "token_key": "token-hash.key", "refusals": {"per_second": 1}},
        }
        (folder / "audit.jsonl").write_text('{"a line that a crash cut off')
        gateway = Gateway(folder, backend.url, [machine], signs=True, tls=True, more=more,
                          check="GET /v1/auth/token/lookup-self")
        self._port, self.key = gateway.port, gateway.public_key
        self._send("POST", "/a?query", machine.sign("POST", "/a", b"{}") | {"Range": "bytes=0-1"}, b"{}")
        self._send("GET", "/open", {})
        self._send("GET", "/v1/secret/a", machine.sign("GET", "/v1/secret/a"))
        self._send("GET", "/v1/secrets", machine.sign("GET", "/v1/secrets"))
        self._send("GET", "/observe", other.sign("GET", "/elsewhere"))
        self._send("GET", "/bearer", {"Authorization": "Bearer token"})
        self._send("GET", "/a", machine.sign("GET", "/a") | {"X-Nonce": "0" * 32})
        disabled = machine.sign("GET", "/a")
        self._send("GET", "/a", disabled)
        self._send("GET", "/a", disabled)
        names = re.findall(r'countersign_headers_dropped_total\{name="([a-z0-9-]+)"\}', gateway.metrics())
        self.refused, self.crossed = self._headers(machine, backend, names)
        # The last one: a machine whose clock is right has no series for it.
        with patch("time.time", lambda: datetime.now().timestamp() + FAST_SECONDS):
            fast = machine.sign("GET", "/a")
        self._send("GET", "/a", fast)
        self.metrics = gateway.metrics()
        gateway.stop()
        backend.close()
        self.records = [json.loads(line) for file in gateway.trails()
                        for line in file.read_text().splitlines() if line.endswith("}")]

    def _manage(self, folder):
        """The records of a gateway whose registry is in a database, and whose operator changes it."""
        folder.mkdir()
        backend, operator, machine = Backend(), Machine("alice"), Machine("web-9")
        (folder / "operators.yaml").write_text(json.dumps({"machines": [operator.entry()]}))
        more = {
            "registry": {"database": "sqlite:registry.db", "operators": "operators.yaml"},
            "routes": [{"path": "/", "upstream": "secrets"}, {"path": "/countersign/v1", "management": True}],
        }
        gateway = Gateway(folder, backend.url, [], more=more)
        self._port = gateway.port

        def call(method, path, body=None):
            text, target = json.dumps(body).encode() if body else b"", "/countersign/v1" + path
            status, answer = self._send(method, target, operator.sign(method, target, text), text or None)
            assert status == 200, answer
            return json.loads(answer)

        call("POST", "/machines", {"machines": [machine.entry()]})
        call("PATCH", "/machines/web-9", {"enabled": False})
        call("POST", "/machines/web-9/keys", {"public_key": Machine("web-9").entry()["public_keys"][0]})
        call("DELETE", "/machines/web-9")
        token = call("POST", "/enrolment-tokens", {"name": "fleet", "vault": "vault_test"})
        call("DELETE", f"/enrolment-tokens/{token['id']}")
        gateway.stop()
        backend.close()
        return [json.loads(line) for file in gateway.trails() for line in file.read_text().splitlines()]

    def _headers(self, machine, backend, lost):
        """Sends each header with a signed request of its own."""
        refused, crossed = set(), set()
        usual = ["accept", "accept-encoding", "accept-language", "content-type", "user-agent", "if-none-match",
                 "if-match", "traceparent", "tracestate", "x-of-nobody"]
        for name in [*lost, *usual]:
            backend.forget()
            status, answer = self._send("GET", "/a", machine.sign("GET", "/a") | {name: "some-value"})
            if status == 400 and json.loads(answer)["code"] == "header_not_forwarded":
                refused.add(name)
            # With a credential the backend is asked for no coding.
            elif backend.heard and backend.heard[0].all(name) in (["some-value"], ["identity"]):
                crossed.add(name)
        return refused, crossed

    def _send(self, method, target, headers, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, answer

    def fields(self):
        """By field, the decisions whose records have it; of the lists of a registry record, the names inside."""
        fields = {}
        for record in self.records:
            for name, value in record.items():
                inside = value if isinstance(value, dict) and name in ("machine", "login") else {}
                for field in [name, *(f"{name}.{key}" for key in inside)]:
                    fields.setdefault(field, set()).add(record["decision"])
        return fields
