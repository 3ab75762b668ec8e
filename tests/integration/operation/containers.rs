//! `Dockerfile` and `conf/kubernetes`.

use std::path::Path;
use std::time::Duration;

use countersign::config::Loaded;
use countersign::registry::Registry;
use serde::Deserialize;
use serde_yaml::Value;

use super::{load, root, text_of};

const MANIFESTS: [&str; 4] = ["single", "shared", "network", "monitoring"];

/// The user `nonroot` of the image's base, as the Dockerfile says.
const UID: u64 = 65532;

fn manifest(name: &str) -> Vec<Value> {
    let text = text_of(&format!("conf/kubernetes/{name}.yaml"));
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
        Value::deserialize(document).unwrap_or_else(|error| panic!("{name}: {error}"))
    });
    // Comments before the first --- are a document of nothing.
    documents.filter(|document| !document.is_null()).collect()
}

fn of_kind(name: &str, kind: &str) -> Value {
    let mut found = manifest(name);
    found.retain(|document| document["kind"] == kind);
    assert_eq!(found.len(), 1, "{name}: {kind}");
    found.remove(0)
}

/// The gateway's workload: a StatefulSet or a Deployment.
fn workload(name: &str) -> Value {
    of_kind(
        name,
        if name == "single" {
            "StatefulSet"
        } else {
            "Deployment"
        },
    )
}

fn pod(name: &str) -> Value {
    workload(name)["spec"]["template"]["spec"].clone()
}

fn container(name: &str) -> Value {
    let pod = pod(name);
    let containers = pod["containers"].as_sequence().unwrap();
    assert_eq!(containers.len(), 1);
    containers[0].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().unwrap()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The configuration in a manifest, as the gateway reads it.
fn configuration(name: &str) -> Loaded {
    let config = of_kind(name, "ConfigMap");
    let made = rcgen::generate_simple_self_signed(vec!["redis".to_owned()]).unwrap();
    let ca = made.cert.pem();
    let files = [
        ("/etc/countersign-backend/token-hash.key", &*"0a".repeat(32)),
        ("/etc/countersign-redis/password", "password"),
        ("/etc/countersign-redis/ca.pem", &*ca),
    ];
    let token = ("/etc/countersign-backend/token", "s.token-of-the-gateway");
    let text = word(&config["data"]["countersign.yaml"]);
    match name {
        // The longer path first: the other one is its beginning.
        "shared" => load(text, &[files[0], files[1], files[2], token]),
        _ => load(text, &[token]),
    }
}

#[test]
fn every_manifest_has_a_kind_and_a_name() {
    for name in MANIFESTS {
        let documents = manifest(name);
        assert!(!documents.is_empty());
        for document in documents {
            for part in [
                &document["apiVersion"],
                &document["kind"],
                &document["metadata"]["name"],
            ] {
                assert!(part.is_string(), "{name}: {document:?}");
            }
        }
    }
}

#[test]
fn the_configurations_in_the_manifests_load_and_only_the_admin_address_is_remarked_on() {
    for name in ["single", "shared"] {
        let keys: Vec<_> = (configuration(name).warnings.iter())
            .map(|warning| warning.key.clone())
            .collect();
        assert_eq!(keys, ["admin.address"], "{name}");
        let config = of_kind(name, "ConfigMap");
        let machines = word(&config["data"]["machines.yaml"]);
        Registry::from_bytes(Path::new("machines.yaml"), machines.as_bytes(), None).unwrap();
        assert!(
            configuration(name)
                .config
                .registry
                .path()
                .unwrap()
                .ends_with("machines.yaml")
        );
    }
}

#[test]
fn the_ports_are_those_of_the_configuration_and_of_the_image() {
    for name in ["single", "shared"] {
        let config = configuration(name).config;
        let (http, admin) = (config.listeners[0].address.port(), config.admin.port());
        let container = container(name);
        let ports: Vec<_> = (list(&container["ports"]).iter())
            .map(|port| (word(&port["name"]), port["containerPort"].as_u64().unwrap()))
            .collect();
        assert_eq!(
            ports,
            [("http", http.into()), ("admin", admin.into())],
            "{name}"
        );
        let pod = workload(name)["spec"]["template"].clone();
        let scraped = &pod["metadata"]["annotations"]["prometheus.io/port"];
        assert_eq!(word(scraped), admin.to_string());
        let service = of_kind(name, "Service");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
        assert!(text_of("Dockerfile").contains(&format!("\nEXPOSE {http}\n")));
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            assert_eq!(
                container[probe]["httpGet"]["port"], "admin",
                "{name}: {probe}"
            );
        }
    }
}

/// Where an image is built, run or named.
const IMAGE_DOCUMENTS: [&str; 9] = [
    "Dockerfile",
    "README.md",
    "docs/agent.md",
    "RELEASING.md",
    "docs/running.md",
    "docs/runbook.md",
    "docs/vault.md",
    "conf/kubernetes/single.yaml",
    "conf/kubernetes/shared.yaml",
];

/// The images of the gateway that a text builds, runs or has pulled.
fn images(text: &str) -> Vec<String> {
    // Comments, and commands that go on in the next line.
    let text = text.replace("\n#", "\n").replace("\\\n", " ");
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split([' ', '(', ')', ',']).collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).copied()
        };
        let image = match line {
            _ if line.contains("docker build ") => after("-t"),
            _ if line.contains("docker run ") => words.last().copied(),
            _ => after("image:"),
        };
        let of_the_gateway =
            |image: &&str| image.split([':', '/']).any(|part| part == "countersign");
        found.extend(image.filter(of_the_gateway).map(str::to_owned));
    }
    found
}

#[test]
fn every_document_and_manifest_names_the_same_image() {
    let image = format!("countersign:{}", env!("CARGO_PKG_VERSION"));
    let mut count = 0;
    for document in IMAGE_DOCUMENTS {
        for named in images(&text_of(document)) {
            assert_eq!(named, image, "{document}");
            count += 1;
        }
    }
    assert!(count >= 8, "the images were found: {count}");
}

#[test]
fn the_admin_listener_has_one_port_everywhere_and_it_is_not_that_of_prometheus() {
    let port = countersign::config::DEFAULT_ADMIN.port();
    assert_ne!(port, 9090);
    for name in ["single", "shared"] {
        assert_eq!(configuration(name).config.admin.port(), port, "{name}");
    }
    for document in [
        "README.md",
        "docs/runbook.md",
        "docs/running.md",
        "conf/countersign.yaml",
    ] {
        let text = text_of(document);
        assert!(text.contains(&format!("127.0.0.1:{port}")), "{document}");
        assert!(!text.contains(":9090"), "{document}");
    }
    assert!(text_of("Dockerfile").contains(&format!("({port})")));
}

#[test]
fn the_user_is_that_of_the_image_and_may_nothing() {
    let dockerfile = text_of("Dockerfile");
    assert!(dockerfile.contains("USER nonroot\n") && dockerfile.contains(&format!("uid {UID}")));
    for name in ["single", "shared"] {
        let pod = pod(name);
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(pod["securityContext"][key], UID, "{name}: {key}");
        }
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = container(name);
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
    }
}

#[test]
fn files_are_mounted_as_whole_directories_so_that_reloads_are_seen() {
    for name in ["single", "shared"] {
        let container = container(name);
        let mounts = list(&container["volumeMounts"]);
        assert!(
            mounts.iter().all(|mount| mount.get("subPath").is_none()),
            "{name}"
        );
        let places: Vec<_> = mounts
            .iter()
            .map(|mount| word(&mount["mountPath"]))
            .collect();
        let config = of_kind(name, "ConfigMap");
        let text = word(&config["data"]["countersign.yaml"]);
        for path in text
            .split([' ', '\n'])
            .filter(|word| word.starts_with("/etc/"))
        {
            let folder = Path::new(path).parent().unwrap().to_str().unwrap();
            assert!(places.contains(&folder), "{name}: {path}");
        }
        let dockerfile = text_of("Dockerfile");
        assert!(dockerfile.contains("\"/etc/countersign/countersign.yaml\"]"));
        assert!(places.contains(&"/etc/countersign"));
        if name == "single" {
            let state = word(&mounts.last().unwrap()["mountPath"]);
            assert!(dockerfile.contains(&format!("\nENV STATE_DIRECTORY={state}\n")));
            assert!(dockerfile.contains(&format!("\nVOLUME {state}\n")));
        }
    }
}

#[test]
fn every_mount_has_its_volume() {
    for name in ["single", "shared"] {
        let (pod, container) = (pod(name), container(name));
        let claims = workload(name)["spec"]["volumeClaimTemplates"].clone();
        let claims = claims.as_sequence().cloned().unwrap_or_default();
        let claims = claims.iter().map(|claim| claim["metadata"]["name"].clone());
        let volumes = list(&pod["volumes"])
            .iter()
            .map(|volume| volume["name"].clone());
        let volumes: Vec<_> = volumes.chain(claims).collect();
        let mounts = list(&container["volumeMounts"]).iter();
        let mounts: Vec<_> = mounts.map(|mount| mount["name"].clone()).collect();
        assert_eq!(mounts, volumes, "{name}");
    }
}

#[test]
fn a_pod_has_longer_to_end_than_delay_and_grace_together() {
    for name in ["single", "shared"] {
        let shutdown = configuration(name).config.shutdown;
        let limit = pod(name)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(
            Duration::from_secs(limit) > shutdown.delay + shutdown.grace,
            "{name}"
        );
        let ready = container(name)["readinessProbe"].clone();
        assert_eq!(ready["httpGet"]["path"], "/readyz");
        let asked = ready["periodSeconds"].as_u64().unwrap();
        let noticed = asked * ready["failureThreshold"].as_u64().unwrap();
        assert!(Duration::from_secs(noticed) < shutdown.delay, "{name}");
    }
}

#[test]
fn one_gateway_keeps_a_journal_and_several_share_a_store() {
    let (single, shared) = (
        configuration("single").config,
        configuration("shared").config,
    );
    assert_eq!(workload("single")["spec"]["replicas"], 1);
    assert!(single.replay.redis.is_none() && single.replay.state_dir.is_some());
    assert!(shared.replay.redis.is_some() && shared.replay.state_dir.is_none());
    let replicas = &workload("shared")["spec"]["replicas"];
    let text = text_of("conf/kubernetes/shared.yaml");
    assert!(text.contains(&format!("instances: {}\n", replicas.as_u64().unwrap())));
}

#[test]
fn the_policies_select_the_pods_and_open_their_ports() {
    let policies = manifest("network");
    let named = |name: &str| {
        let mut found = policies.iter();
        found
            .find(|policy| policy["metadata"]["name"] == name)
            .unwrap()
    };
    let config = configuration("single").config;
    let labels = &workload("single")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        *labels,
        workload("shared")["spec"]["template"]["metadata"]["labels"]
    );

    let gateway = &named("countersign")["spec"];
    assert_eq!(gateway["podSelector"]["matchLabels"], *labels);
    let ports: Vec<_> = (list(&gateway["ingress"]).iter())
        .map(|rule| {
            (
                rule["ports"][0]["port"].as_u64().unwrap(),
                rule.get("from").is_some(),
            )
        })
        .collect();
    let (http, admin) = (config.listeners[0].address.port(), config.admin.port());
    assert_eq!(ports, [(http.into(), false), (admin.into(), true)]);

    let backend = &named("backend-from-countersign-only")["spec"];
    let rules = list(&backend["ingress"]);
    assert_eq!(rules.len(), 1);
    let from = list(&rules[0]["from"]);
    assert_eq!(from.len(), 1, "the gateway alone");
    assert_eq!(from[0]["podSelector"]["matchLabels"], *labels);
    let port = rules[0]["ports"][0]["port"].as_u64().unwrap();
    let servers = text_of("conf/kubernetes/single.yaml");
    assert!(servers.contains(&format!("servers: [\"http://vault:{port}\"]")));
}

#[test]
fn the_documented_container_is_that_of_the_dockerfile() {
    let text = text_of("docs/running.md");
    let start = text.find("\ndocker run ").unwrap();
    let command: String = text[start..].split("\ndocker exec").next().unwrap().into();
    for part in [
        &format!("--user {UID}:{UID}"),
        "-v /srv/countersign:/etc/countersign:ro",
        "-v countersign:/var/lib/countersign",
        "-p 8080:8080",
        "--stop-timeout 45",
    ] {
        assert!(command.contains(part), "{part}: {command}");
    }
    assert!(text_of("Dockerfile").contains("ENTRYPOINT [\"/countersign\"]"));
    assert!(root().join(".dockerignore").exists());
}
