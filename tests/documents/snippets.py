"""Every YAML snippet of a document is what its reader takes, with what it leaves out filled in."""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from commands import KEY
from markdown import ROOT

# What a snippet of the gateway's configuration may leave out, by its first key.
REST = {
    "listeners": "listeners: [{ address: 127.0.0.1:0 }]",
    "registry": "registry: { file: machines.yaml }",
    "upstreams": "upstreams: { secrets: { servers: ['http://127.0.0.1:1'] } }",
    "routes": "routes: [{ path: /, upstream: secrets }]",
}
# The same for one that is about machines that enrol.
FLEET = REST | {
    "registry": 'registry: { database: "sqlite:registry.db", operators: operators.yaml }',
    "routes": "routes: [{ path: /, upstream: secrets }, { path: /v1, enrolment: true }]",
    "enrolment": "enrolment: { public_url: 'https://gw.example' }",
}
CONFIGURATION = set(FLEET) | {"joiners", "admin", "audit", "replay", "credentials", "limits", "throttle", "trusted_proxies", "log"}


class Snippets:
    """Checks snippets in a folder that holds the files which they name."""

    def __init__(self, binary, certificate):
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="countersign-documents-"))
        certificate(self.folder)
        shutil.copy(self.folder / "tls-key.pem", self.folder / "key.pem")
        subprocess.run([binary, "keygen", "--out", self.folder / "gateway-key.pem"], check=True, capture_output=True)
        for name in ("admin", "operator"):
            shutil.copy(self.folder / "cert.pem", self.folder / f"{name}-cert.pem")
            shutil.copy(self.folder / "key.pem", self.folder / f"{name}-key.pem")
        shutil.copy(self.folder / "cert.pem", self.folder / "admin-ca.pem")
        (self.folder / "machines.yaml").write_text("machines: []\n")
        (self.folder / "operators.yaml").write_text("machines: []\n")
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": KEY.rstrip("=").replace("+", "-").replace("/", "_")}
        (self.folder / "k8s-jwks.json").write_text(json.dumps({"keys": [jwk]}))
        (self.folder / "redis-password").write_text("s3cr3t\n")
        for file in self.folder.iterdir():
            file.chmod(0o600)

    def close(self):
        shutil.rmtree(self.folder)

    def check(self, document):
        """Returns how many snippets the document has."""
        count = 0
        for block in document.blocks:
            if block.language != "yaml":
                continue
            count += 1
            keys = set(re.findall(r"^(\w+):", block.text, re.MULTILINE))
            if fault := self._reader(keys)(block.text, keys):
                document.fault(block.line, fault)
        return count

    def _reader(self, keys):
        if keys <= CONFIGURATION:
            return self._configuration
        if keys <= {"machines", "groups", "removed"}:
            return self._registry
        if "machine_id" in keys:
            return self._agent
        if keys <= {"rule_files", "scrape_configs"}:
            return self._prometheus
        if keys == {"spec"}:
            return self._pod
        return lambda *_: f"nothing reads a snippet with the keys {', '.join(sorted(keys))}"

    def _configuration(self, text, keys):
        # <nginx> stands for an address.
        text = re.sub(r"<\w+>", "10.0.0.7", text)
        # It may be 30 days ahead; that of a document is in some year.
        soon = (datetime.now() + timedelta(days=7)).strftime("%Y-%m-%d")
        text = re.sub(r'(observe_until:) "[^"]*"', rf'\1 "{soon}"', text)
        defaults = FLEET if keys & {"enrolment", "joiners"} else REST
        rest = "\n".join(line for key, line in defaults.items() if key not in keys)
        return self._checked(f"{text}\n{rest}\n")

    def _registry(self, text, _):
        (self.folder / "some.yaml").write_text(text.replace("...", KEY))
        names = set(re.findall(r"credential: (\w+)", text))
        credentials = "".join(f"  {name}: {{ header: X-Vault-Token, file: redis-password }}\n" for name in names)
        rest = "\n".join(line for key, line in REST.items() if key != "registry")
        credentials = f"credentials:\n{credentials}" if credentials else ""
        return self._checked(f"registry: {{ file: some.yaml }}\n{rest}\n{credentials}\n")

    def _checked(self, text):
        file = self.folder / "countersign.yaml"
        file.write_text(text)
        run = subprocess.run([self.binary, "check", "--config", file], capture_output=True, text=True, timeout=30)
        return None if run.returncode == 0 else f"check says: {run.stdout}{run.stderr}".strip()

    def _agent(self, text, _):
        """Starts an agent with it, and with all that it leaves commented out, until it takes connections."""
        subprocess.run([self.binary, "keygen", "--out", self.folder / "agent.pem"], capture_output=True)
        text = re.sub(r"^listen: .*$", f"listen: unix:{self.folder}/socket", text, flags=re.MULTILINE)
        text = re.sub(r"\bkey: key.pem", "key: agent.pem", text)
        optional = re.sub(r"^# (?!identity)(\w+:)", r"\1", text, flags=re.MULTILINE).replace("ca: ca.pem", "ca: cert.pem")
        return self._started(text) or self._started(optional)

    def _started(self, text):
        (self.folder / "agent.yaml").write_text(text)
        place = self.folder / "socket"
        place.unlink(missing_ok=True)
        agent = subprocess.Popen([self.binary, "agent", "--config", self.folder / "agent.yaml"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            for _ in range(100):
                with socket.socket(socket.AF_UNIX) as client:
                    if agent.poll() is None and client.connect_ex(str(place)) == 0:
                        return None
                if agent.poll() is not None:
                    break
                time.sleep(0.05)
        finally:
            agent.kill()
            said = agent.communicate()[1]
        return f"the agent does not start with this: {said}"

    def _prometheus(self, text, _):
        unpacked = ROOT / "target/tools/usr/bin/promtool"
        promtool = unpacked if unpacked.exists() else "promtool"
        shutil.copy(ROOT / "conf/prometheus/countersign.rules.yml", self.folder)
        file = self.folder / "prometheus.yml"
        file.write_text(text)
        run = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True)
        return None if run.returncode == 0 else run.stdout + run.stderr

    def _pod(self, text, _):
        """A fragment of a manifest: its containers run commands of countersign, which are parsed."""
        arguments = re.findall(r"args: \[(.*)\]", text)
        if not arguments:
            return "a fragment of a manifest without args"
        for found in arguments:
            words = [word.strip().strip('"') for word in found.split(", ")]
            run = subprocess.run([self.binary, *words, "--help"], capture_output=True, text=True)
            if run.returncode:
                return f"{json.dumps(words)}: {run.stderr}"
        return None
