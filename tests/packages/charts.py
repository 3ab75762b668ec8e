#!/usr/bin/env python3
"""conf/helm and conf/kubernetes: rendered by Helm, held to the schemas of Kubernetes and to each other.

    target/tools/packaging/bin/python tests/packages/charts.py

COUNTERSIGN names the binary; without it, target/debug/countersign.
"""

import copy
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "conf/helm"
MANIFESTS = ROOT / "conf/kubernetes"
BINARY = os.environ.get("COUNTERSIGN", ROOT / "target/debug/countersign")
MODES = ("single", "shared")
# The oldest release that Chart.yaml allows, and the newest one with schemas here.
RELEASES = ("1.25", "1.37")
# What the Prometheus operator defines; Kubernetes has no schema of it.
CUSTOM = {"PodMonitor"}
TESTS = []
ADDED = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def test(function):
    TESTS.append(function)
    return function


def values(mode, **more):
    return merged(yaml.safe_load((CHART / f"examples/{mode}.yaml").read_text()), more)


def merged(base, more):
    found = copy.deepcopy(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


def render(given, name="countersign"):
    """The resources that the chart makes, by kind and name."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(given, name=name, namespace="default")
    texts = [text for file, text in sorted(files.items()) if file.endswith(".yaml")]
    return by_name(document for text in texts for document in yaml.safe_load_all(text))


def manifests(*names):
    return by_name(document for name in names for document in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()))


def by_name(documents):
    return {(document["kind"], document["metadata"]["name"]): document for document in documents if document}


def valid(resources):
    checked = 0
    for (kind, _), resource in resources.items():
        for release in RELEASES:
            if kind not in CUSTOM:
                kubernetes_validate.validate(resource, release, strict=True)
                checked += 1
    assert checked, "no resource was checked"


def refused(given, because):
    """Rendering fails, and the error names the cause."""
    try:
        render(given)
    except helm.HelmError as error:
        assert because in str(error), f"another cause than {because!r}: {error}"
    else:
        raise AssertionError(f"it was rendered, in spite of {because}")


def check(resources):
    """`countersign check` on the configuration and the registry of a ConfigMap, with the files that it names."""
    (data,) = [resource["data"] for (kind, _), resource in resources.items() if kind == "ConfigMap"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, text in {"token": "s.token", "token-hash.key": "0a" * 32, "password": "password"}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=redis", "-keyout", "/dev/null",
                        "-out", folder / "ca.pem"], check=True, capture_output=True)
        text = re.sub(r"/etc/[\w-]+/", f"{folder}/", data["countersign.yaml"])
        # Names of the cluster do not resolve here.
        text = re.sub(r"(https?://|rediss://)[\w-]+:", r"\g<1>127.0.0.1:", text)
        (folder / "countersign.yaml").write_text(text)
        (folder / "machines.yaml").write_text(data["machines.yaml"])
        environment = os.environ | {"STATE_DIRECTORY": str(folder)}
        run = subprocess.run([BINARY, "check", "--config", folder / "countersign.yaml"], capture_output=True, text=True,
                             env=environment, timeout=30)
        assert run.returncode == 0, run.stdout + run.stderr


def without_helm(resource):
    """A resource less the labels that only Helm adds, and with its configuration as data."""
    def strip(value):
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if key not in ADDED}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    resource = strip(resource)
    if resource["kind"] == "ConfigMap":
        resource["data"] = {name: yaml.safe_load(text) for name, text in resource["data"].items()}
    # The chart says what the manifests leave to the default.
    if resource["kind"] == "Service" and resource["spec"].get("type") == "ClusterIP":
        del resource["spec"]["type"]
    if resource["kind"] == "NetworkPolicy":
        resource["metadata"].pop("labels", None)
    for container in resource["spec"].get("template", {}).get("spec", {}).get("containers", []) if "spec" in resource else []:
        container.pop("imagePullPolicy", None)
    return resource


@test
def the_chart_has_the_version_of_the_program():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


@test
def helm_finds_no_mistake_in_the_chart():
    for mode in MODES:
        # 3 is an error and 2 a warning; 1 asks for an icon.
        found = [message for message in helm.lint(str(CHART), values(mode))["messages"] if message["severity"] > 1]
        assert not found, f"{mode}: {found}"


@test
def kubernetes_takes_the_manifests():
    valid(manifests(*(file.stem for file in MANIFESTS.glob("*.yaml"))))


@test
def kubernetes_takes_what_the_chart_renders():
    for mode in MODES:
        valid(render(values(mode)))


@test
def a_key_that_kubernetes_does_not_know_is_found():
    resources = manifests("single")
    resources["Service", "countersign"]["spec"]["selectors"] = {}
    try:
        valid(resources)
    except kubernetes_validate.ValidationError as error:
        assert "selectors" in str(error)
    else:
        raise AssertionError("the validation found nothing")


@test
def the_chart_renders_what_the_manifests_say():
    for mode in MODES:
        rendered, written = render(values(mode)), manifests(mode, "network")
        assert rendered.keys() == written.keys(), f"{mode}: {rendered.keys() ^ written.keys()}"
        for key in written:
            assert without_helm(rendered[key]) == without_helm(written[key]), f"{mode}: {key} differs from the manifest"


@test
def the_gateway_takes_the_configuration_of_each_mode():
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, capture_output=True).stdout
    public = subprocess.run(["openssl", "pkey", "-pubout"], input=key, check=True, capture_output=True).stdout.decode()
    machines = [{"id": "web-1", "public_keys": [public], "groups": ["readers"]}]
    for mode in MODES:
        check(render(values(mode, machines=machines, groups=[{"name": "readers", "allow": ["read /v1/**"]}])))


@test
def what_the_operator_configures_wins_over_the_chart():
    resources = render(values("single", config={"log": {"level": "debug"}, "audit": {"file": "/var/lib/countersign/audit.jsonl"}}))
    text = yaml.safe_load(resources["ConfigMap", "countersign"]["data"]["countersign.yaml"])
    assert text["log"] == {"level": "debug", "format": "json"}
    assert text["audit"] == {"file": "/var/lib/countersign/audit.jsonl"}


@test
def the_gateways_know_how_many_they_are():
    resources = render(values("shared", replicas=5))
    text = yaml.safe_load(resources["ConfigMap", "countersign"]["data"]["countersign.yaml"])
    assert resources["Deployment", "countersign"]["spec"]["replicas"] == 5
    assert text["replay"]["instances"] == 5


@test
def one_gateway_stays_one_whatever_replicas_says():
    assert render(values("single", replicas=5))["StatefulSet", "countersign"]["spec"]["replicas"] == 1


@test
def every_option_renders_what_kubernetes_takes():
    resources = render(values(
        "single",
        image={"repository": "registry.example/countersign", "tag": "1", "pullPolicy": "Always", "pullSecrets": ["registry"]},
        volumes=[{"name": "tls", "secret": {"secretName": "tls"}}],
        volumeMounts=[{"name": "tls", "mountPath": "/etc/tls", "readOnly": True}],
        service={"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
        persistence={"size": "10Gi", "storageClass": "fast"},
        podMonitor={"enabled": True}, podAnnotations={"a": "b"}, nodeSelector={"a": "b"},
        tolerations=[{"key": "a", "operator": "Exists"}], affinity={"nodeAffinity": {}},
    ), name="edge")
    valid(resources)
    pod = resources["StatefulSet", "edge-countersign"]["spec"]["template"]
    assert pod["spec"]["containers"][0]["image"] == "registry.example/countersign:1"
    assert "prometheus.io/scrape" not in pod["metadata"]["annotations"]
    assert ("PodMonitor", "edge-countersign") in resources


@test
def two_releases_do_not_select_each_others_pods():
    selectors = [render(values("single"), name)["Service", full]["spec"]["selector"]
                 for name, full in (("a", "a-countersign"), ("b", "b-countersign"))]
    assert selectors[0] != selectors[1]


@test
def without_a_backend_nothing_is_rendered():
    refused({}, "/config/upstreams")


@test
def an_unknown_value_is_refused():
    refused(values("single", replica=2), "replica")


@test
def another_mode_is_refused():
    refused(merged(values("single"), {"mode": "double"}), "/mode")


@test
def a_shared_store_needs_its_address():
    refused(merged(values("single"), {"mode": "shared"}), "config.replay.redis.url")


@test
def a_store_without_the_shared_mode_is_refused():
    refused(merged(values("shared"), {"mode": "single"}), "mode: shared")


def main():
    failed = 0
    for case in TESTS:
        try:
            case()
        except Exception as error:  # noqa: BLE001: each is reported
            failed += 1
            print(f"charts: {case.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"charts: {len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
