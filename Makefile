# One command a job; each installs what is missing first. `make` alone lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
BINARY := $(abspath $(CARGO_TARGET_DIR))/debug/countersign
VENV_PYTHON := tests/clients/.venv/bin/python
PACKAGING_PYTHON := $(abspath $(CARGO_TARGET_DIR))/tools/packaging/bin/python
# As `make image`, the manifests and the chart name it; a test holds them together.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
MINIMUM := $(shell sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)

ENVOY := $(abspath $(CARGO_TARGET_DIR))/tools/envoy/bin/envoy

# What scripts/setup unpacks rather than installs: Debian's packages would start services, one of
# them on the gateway's own admin port.
export PATH := $(abspath $(CARGO_TARGET_DIR))/tools/usr/bin:$(PATH)
export CARGO_TARGET_DIR

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

.PHONY: demo
demo: ## Gateway, backend and one machine in one process, until Ctrl-C (ONCE=1: show the steps and exit)
	@scripts/setup build
	$(CARGO) build --locked
	@if [ -z "$(ONCE)" ] && [ -t 0 ] && [ -t 1 ]; then \
		exec "$(BINARY)" demo; \
	else \
		exec "$(BINARY)" demo --once; \
	fi

.PHONY: test
test: ## Every test: unit, integration, real clients, golden vectors, every document's commands and links
	@scripts/setup test
	$(CARGO) test --locked --workspace # builds the binary too, for the integration tests
	@if server=$$(command -v valkey-server); then \
		echo "The tests of the shared store once more, with Valkey"; \
		REDIS_SERVER="$$server" $(CARGO) test --locked --test integration -- shared:: siege::two; \
	else \
		echo "test: there is no valkey-server here; the tests with it are left out"; \
	fi
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/run.py
	$(VENV_PYTHON) tests/vectors/generate.py --check
	$(VENV_PYTHON) tests/vectors/verify.py
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/documents/check.py
	sh tests/readme.sh "$(BINARY)"
	sh tests/readme.sh "$(BINARY)" docs/vault.md Set-up
	sh tests/readme.sh "$(BINARY)" docs/fleet.md "Ten minutes"
	COUNTERSIGN="$(BINARY)" $(PACKAGING_PYTHON) tests/packages/charts.py

.PHONY: screenshots
screenshots: ## The status page in each state, light, dark and on a small screen, into target/screenshots
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/screenshots.py "$(CARGO_TARGET_DIR)/screenshots" $(STATES)

.PHONY: reference
reference: ## Rewrite what is generated in docs/reference: the metrics and the command line
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/documents/check.py --write

.PHONY: test-root
test-root: ## What takes root: real power loss under load (a disk image is copied as it is), and a full disk
	@scripts/setup test
	$(CARGO) test --locked --test integration power:: -- --ignored --nocapture

.PHONY: test-slow
test-slow: ## Forwarding that takes minutes by its nature: slow backends, clients that read nothing
	@scripts/setup test
	$(CARGO) test --locked --test integration forwarding:: -- --ignored --nocapture

.PHONY: outage
outage: ## What clients see while a backend is killed, stopped and started again, as a table
	@scripts/setup test
	$(CARGO) test --locked --test integration outage:: -- --nocapture --test-threads=1

.PHONY: siege-clients
siege-clients: ## Refuses uploads of requests, httpx, curl, Go, Node and the agent: COUNT (200) of each, as a table
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/lost_refusals.py --count $(or $(COUNT),200)

.PHONY: siege-mixed
siege-mixed: ## Wrong backends behind five machines, for SECONDS (60) each: whether an answer reaches another machine
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/mixed_answers.py --seconds $(or $(SECONDS),60)

.PHONY: openbao-faults
openbao-faults: ## Breaks OpenBao in each way that it breaks, and prints what clients get meanwhile, as a table
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/backend_faults.py

.PHONY: siege-openbao
siege-openbao: ## MACHINES (1000) before OpenBao for a day of SECONDS (300); which of their tokens are left, and open what
	@scripts/setup test
	$(CARGO) build --locked
	sh tests/clients/setup.sh
	COUNTERSIGN="$(BINARY)" $(VENV_PYTHON) tests/clients/siege_openbao.py --machines $(or $(MACHINES),1000) \
		--seconds $(or $(SECONDS),300) --lease $(or $(LEASE),600)

.PHONY: first-starts
first-starts: ## A hundred first starts of each kind that fail or are killed, and the start after each
	@scripts/setup test
	$(CARGO) test --locked --test integration starts:: -- --include-ignored --nocapture

.PHONY: lint
lint: ## Format, clippy and docs with warnings denied, and the dependencies by deny.toml
	@scripts/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	$(CARGO) deny --offline --locked check --hide-inclusion-graph bans licenses sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then \
		$(CARGO) deny --locked check advisories; \
	else \
		echo "lint: NOT CHECKED: advisories. Their database cannot be fetched here (cargo deny fetch db)"; \
	fi

.PHONY: bench
bench: ## Beside nginx and Envoy, into bench/RESULTS.md (QUICK=1: two minutes, SECONDS=60 of open loop)
	@scripts/setup bench
	@sh bench/setup.sh
	$(CARGO) bench --locked --bench side_by_side -- --envoy "$(ENVOY)" \
		$(if $(QUICK),--quick,--out bench/RESULTS.md) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: bench-memory
bench-memory: ## What the gateway's memory does in REQUESTS (2000000) of them
	@scripts/setup bench
	$(CARGO) bench --locked --bench side_by_side -- memory $(or $(REQUESTS),2000000)

.PHONY: bench-core
bench-core: ## Micro benchmark of the decision, and the CPU cost of an accepted request against the signature alone
	@scripts/setup build
	$(CARGO) bench --locked --bench core --bench accepted --bench echo

.PHONY: bench-instructions
bench-instructions: ## Instructions of each part of the decision, counted by callgrind, into bench/INSTRUCTIONS.md
	@scripts/setup count
	$(CARGO) bench --locked --bench instructions

.PHONY: bench-login
bench-login: ## What a cached token of a login costs a request beside a credential in a file: instructions, CPU time
	@scripts/setup count
	$(CARGO) bench --locked --bench login

.PHONY: bench-streaming
bench-streaming: ## How much later events of a stream arrive through the gateway, with and without the echo check
	@scripts/setup build
	$(CARGO) bench --locked --bench streaming

.PHONY: bench-registry
bench-registry: ## Loads, reloads and lookups of up to MACHINES (100000; a million take minutes)
	@scripts/setup build
	MACHINES=$(or $(MACHINES),100000) $(CARGO) bench --locked --bench registry

.PHONY: bench-nonces
bench-nonces: ## Memory and claim latency of up to five million live nonces, with and without the journal
	@scripts/setup build
	$(CARGO) bench --locked --bench nonces

.PHONY: bench-audit
bench-audit: ## What an audit record costs, and how long a million of them take to check
	@scripts/setup build
	$(CARGO) bench --locked --bench audit

.PHONY: bench-agent
bench-agent: ## What the agent adds to a request: straight to the gateway against through the agent
	@scripts/setup build
	$(CARGO) bench --locked --bench agent

.PHONY: bench-flood
bench-flood: ## Floods of bad requests beside honest ones: their latency, and what the audit trail takes
	@scripts/setup build
	$(CARGO) bench --locked --bench flood

.PHONY: bench-timing
bench-timing: ## Whether time tells an unknown machine from a bad signature
	@scripts/setup build
	$(CARGO) bench --locked --bench timing

.PHONY: soak
soak: ## Honest load and every kind of attack at once, for MINUTES (5), as a table
	@scripts/setup test
	SOAK_MINUTES=$(or $(MINUTES),5) $(CARGO) bench --locked --bench soak

.PHONY: build
build: ## The release binary, in target/release (fat LTO: minutes)
	@scripts/setup build
	scripts/release

.PHONY: package
package: ## The Debian package and the bill of materials, in target/package, checked by lintian
	@scripts/setup package
	scripts/package

.PHONY: test-package
test-package: ## A package of the debug build, installed, used, upgraded and purged in a clean Debian; takes root
	@scripts/setup root
	sh tests/packages/clean_root.sh "$$(scripts/package --debug | tail -1)"

.PHONY: sbom
sbom: ## The bill of materials as CycloneDX, in target/package: the crates that the linker is given
	@scripts/setup package
	mkdir -p target/package
	$(CARGO) build --locked
	$(PACKAGING_PYTHON) scripts/sbom.py write "target/package/countersign_$(VERSION).cdx.json" \
		target/package/third-party-licenses.txt
	$(PACKAGING_PYTHON) scripts/sbom.py check "target/package/countersign_$(VERSION).cdx.json" "$(BINARY)"

.PHONY: reproducible
reproducible: ## Builds the release twice, in two folders, and compares them (fat LTO: minutes)
	@scripts/setup build
	scripts/reproducible

.PHONY: image
image: ## The image of the Dockerfile, by docker, podman or buildah, under the name that the manifests use
	@for engine in "docker build" "podman build --format docker" "buildah build --format docker"; do \
		if $${engine%% *} info >/dev/null 2>&1; then exec $$engine -t "countersign:$(VERSION)" .; fi; \
	done; \
	echo "image: none of docker, podman and buildah works here: install one, or start docker's daemon" >&2; exit 1

.PHONY: minimum
minimum: ## Checks the sources with the oldest compiler that Cargo.toml allows
	@scripts/setup build
	rustup toolchain install --profile minimal $(MINIMUM)
	CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)/minimum" cargo +$(MINIMUM) check --locked --workspace
