"""The real OpenBao: initialised, unsealed, with a key/value engine, policies and tokens."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from gateway import certificate, free_ports

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[2] / "target")
BINARY = TARGET / "tools" / "usr" / "bin" / "bao"
TLS_NAME = "vault.internal"
# As conf/vault.yaml has them.
ISSUER = "https://gw.example"
AUDIENCE = "openbao"
START_SECONDS = 30
STOP_SECONDS = 10

# In memory unless the test restarts the server. Audit devices can be had from the file alone.
CONFIGURATION = """
storage "{storage}" {{
  {storage_options}
}}
listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable     = true
}}
listener "tcp" {{
  address       = "127.0.0.1:{tls_port}"
  tls_cert_file = "{folder}/cert.pem"
  tls_key_file  = "{folder}/tls-key.pem"
}}
api_addr      = "http://127.0.0.1:{port}"
cluster_addr  = "http://127.0.0.1:{cluster_port}"
audit "file" "requests" {{
  options {{
    file_path = "{audit}"
    log_raw   = "{log_raw}"
  }}
}}
"""
# A single node of raft elects itself; the multiplier makes that a second rather than ten.
ON_DISK = """path = "{folder}/data"
  node_id = "{node}"
  performance_multiplier = 1"""
JOIN = """
  retry_join {{
    leader_api_addr = "{leader}"
  }}"""


class OpenBao:
    """The server in a folder of its own, from construction until `stop`; a further node of `leader`, if there is one."""

    def __init__(self, folder, on_disk=False, log_raw=False, leader=None):
        self.folder = Path(folder)
        (self.folder / "data").mkdir(parents=True)
        self.ca = certificate(self.folder, TLS_NAME)
        on_disk = on_disk or leader is not None
        # The nodes have one table of audit devices, so each must name the same file.
        self._audit = leader._audit if leader else self.folder / "audit.log"
        options = ON_DISK.format(folder=self.folder, node=self.folder.name)
        if leader:
            options += JOIN.format(leader=leader.url)
            for name in ("cert.pem", "tls-key.pem"):
                shutil.copy(leader.folder / name, self.folder / name)
        port, tls_port, cluster_port = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.namespace = None  # of the administrator's requests
        self.tls_url = f"https://127.0.0.1:{tls_port}"
        self._log = self.folder / "server.log"
        (self.folder / "server.hcl").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                audit=self._audit,
                storage="raft" if on_disk else "inmem",
                storage_options=options if on_disk else "",
                port=port,
                tls_port=tls_port,
                cluster_port=cluster_port,
                log_raw=str(log_raw).lower(),
            )
        )
        self._process = None
        try:
            self.start()
            if leader:
                self.root, self._unseal_key = leader.root, leader._unseal_key
                self._wait(self._joined, "does not join")
            else:
                self._initialise()
        except BaseException:
            self.kill()
            raise

    def start(self):
        """Starts the server, which is sealed then."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "server", f"-config={self.folder}/server.hcl"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
            )
        self._wait(lambda: self.ask("GET", "/v1/sys/seal-status")[0] == 200, "does not answer")

    def stop(self):
        """Asks the server to end, and insists that it ends."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"OpenBao did not end on SIGTERM\n{self.log()}") from None

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()

    def unseal(self, becomes=(200,)):
        """Unseals the server, and returns once it is active, or what its health check may say besides."""
        status, answer = self.ask("PUT", "/v1/sys/unseal", {"key": self._unseal_key})
        assert (status, answer["sealed"]) == (200, False), answer
        self._wait(lambda: self.ask("GET", "/v1/sys/health")[0] in becomes, "does not become active")

    def is_active(self):
        try:
            return self.ask("GET", "/v1/sys/health", timeout=0.5)[0] == 200
        except OSError:
            return False

    def seal(self):
        self.write("/v1/sys/seal", None)

    def ask(self, method, path, content=None, token=None, headers=None, timeout=10):
        """The status and the JSON of one answer, straight from the server."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        if token:
            request.add_header("X-Vault-Token", token)
        if self.namespace:
            request.add_header("X-Vault-Namespace", self.namespace)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or b"null")

    def administer(self, method, path, content=None):
        """The JSON of an answer to the administrator, who may do everything."""
        status, answer = self.ask(method, path, content, self.root)
        assert status in (200, 204), (method, path, status, answer)
        return answer

    def write(self, path, content):
        self.administer("POST", path, content)

    def mount_secrets(self):
        self.write("/v1/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        # For a moment the new engine answers 400: it upgrades its own keys first.
        self._wait(lambda: self.ask("GET", "/v1/secret/config", token=self.root)[0] == 200, "has no secrets")

    def delete(self, path):
        self.administer("DELETE", path)

    def put(self, name, **fields):
        """Writes a secret of the key/value engine."""
        self.write(f"/v1/secret/data/{name}", {"data": fields})

    def policy(self, name, rules):
        self.write(f"/v1/sys/policies/acl/{name}", {"policy": rules})

    def token(self, policy, **more):
        """A new token with this policy and the default one: an orphan, and periodic."""
        wanted = {"policies": [policy], "no_parent": True, "period": "24h"} | more
        return self.administer("POST", "/v1/auth/token/create", wanted)["auth"]["client_token"]

    def revoke(self, token):
        self.write("/v1/auth/token/revoke", {"token": token})

    def accepts(self, token):
        return self.ask("GET", "/v1/auth/token/lookup-self", token=token)[0] == 200

    def live_tokens(self):
        """How many tokens it would accept, of anybody. Batch tokens are not among them."""
        return len(self.administer("LIST", "/v1/auth/token/accessors")["data"]["keys"])

    def trust(self, public_key, mount="jwt", **role):
        """Lets machines log in with assertions of this key (PEM), each for the secrets under its own id.

        `role` has further settings of the role, such as the lifetime of its tokens.
        """
        self.write(f"/v1/sys/auth/{mount}", {"type": "jwt"})
        self.write(f"/v1/auth/{mount}/config", {"jwt_validation_pubkeys": [public_key], "bound_issuer": ISSUER})
        accessor = self.administer("GET", "/v1/sys/auth")["data"][f"{mount}/"]["accessor"]
        self.policy("machine", folder_policy("{{identity.entity.aliases.%s.name}}" % accessor))
        wanted = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE], "token_policies": ["machine"]}
        self.write(f"/v1/auth/{mount}/role/machine", wanted | {"token_ttl": "10m"} | role)

    def share(self, group, mount="jwt"):
        """Gives the machines of a group of the registry the folder `shared/<group>`."""
        role = self.administer("GET", f"/v1/auth/{mount}/role/machine")["data"]
        self.write(f"/v1/auth/{mount}/role/machine", role | {"groups_claim": "/machine/groups"})
        self.policy(f"group-{group}", folder_policy(f"shared/{group}"))
        made = self.administer(
            "POST", "/v1/identity/group", {"name": group, "type": "external", "policies": [f"group-{group}"]}
        )
        accessor = self.administer("GET", "/v1/sys/auth")["data"][f"{mount}/"]["accessor"]
        alias = {"name": group, "mount_accessor": accessor, "canonical_id": made["data"]["id"]}
        self.write("/v1/identity/group-alias", alias)

    def issued(self):
        """Every token that it issued to anybody; needs `log_raw`."""
        responses = [line["response"] for line in self.audit() if line["type"] == "response"]
        grants = [it.get("auth") or {} for it in responses]
        return {it["client_token"] for it in grants if it.get("client_token")}

    def audit(self):
        """The whole lines of the audit device, as the server wrote them."""
        lines = self._audit.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def log(self):
        return self._log.read_text(errors="replace")

    def _joined(self):
        """Unsealed, as a standby. It takes the key once it knows the leader."""
        status, answer = self.ask("PUT", "/v1/sys/unseal", {"key": self._unseal_key})
        return status == 200 and not answer["sealed"] and self.ask("GET", "/v1/sys/health")[0] == 429

    def _initialise(self):
        answer = {}

        def initialised():
            status, content = self.ask("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
            answer.update(content)
            return status == 200

        self._wait(initialised, "cannot be initialised")
        self.root, self._unseal_key = answer["root_token"], answer["keys"][0]
        self.unseal()
        self.mount_secrets()

    def _wait(self, condition, complaint):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass  # it does not listen yet
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"OpenBao {complaint}\n{self.log()}")
            time.sleep(0.02)


class Cluster:
    """Three nodes with one storage: one is active, and the others take over."""

    def __init__(self, folder):
        self.nodes = [OpenBao(folder / "node-1", on_disk=True)]
        try:
            for number in (2, 3):
                self.nodes.append(OpenBao(folder / f"node-{number}", leader=self.nodes[0]))
            self._wait_for_voters()
        except BaseException:
            self.kill()
            raise
        self.ca = self.nodes[0].ca

    @property
    def tls_urls(self):
        return [node.tls_url for node in self.nodes]

    def active(self):
        """The node that is active, once there is one."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            for node in self.nodes:
                if node.is_active():
                    return node
            time.sleep(0.02)
        raise AssertionError("no node becomes active")

    def kill(self):
        for node in self.nodes:
            node.kill()

    def __getattr__(self, name):
        """What an administrator asks is asked of the active node."""
        return getattr(self.active(), name)

    def _wait_for_voters(self):
        """Nodes vote once they have been stable for ten seconds; two votes of three make an active node."""

        def voters():
            servers = self.nodes[0].administer("GET", "/v1/sys/storage/raft/configuration")["data"]["config"]["servers"]
            return sum(server["voter"] for server in servers)

        until = time.monotonic() + 2 * START_SECONDS
        while voters() < len(self.nodes):
            assert time.monotonic() < until, "the nodes do not get their votes"
            time.sleep(0.2)


def folder_policy(folder):
    """The rules for a folder of the key/value engine: everything in it, and nothing else."""
    names = ("data", "metadata", "delete", "undelete", "destroy")
    everything = '["create", "read", "update", "patch", "delete", "list", "scan"]'
    return "\n".join(
        f'path "secret/{name}/{folder}{end}" {{ capabilities = {everything} }}' for name in names for end in ("", "/*")
    )
