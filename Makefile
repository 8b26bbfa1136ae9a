# The few commands of this repository. Everything but `test`, `e2e`, `bench` and `dashboard` needs a Rust toolchain alone.

CONFIG ?= proxy.yaml
ARGS ?=
CARGO ?= cargo
PYTHON := target/venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo run test e2e lint bench docs image dashboard

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: ## See it work: a small backend, the proxy in front of it, some traffic (ARGS="--no-traffic")
	@echo "Building touchline. The first time this takes a few minutes; after that it starts at once."
	@$(CARGO) run --locked --release -- demo $(ARGS)

run: ## Run the proxy with CONFIG (proxy.yaml) beside your backend
	$(CARGO) run --locked --release -- run -c $(CONFIG) $(ARGS)

test: ## Run every test; installs what the end-to-end tests need first
	scripts/setup-test
	$(CARGO) test --locked --all-targets
	$(CARGO) test --locked --doc
	cd src/admin/dashboard && npm test
	$(MAKE) --no-print-directory e2e

e2e: ## Run the end-to-end tests against the debug build (ARGS="-k drain")
	scripts/setup-test
	$(CARGO) build --locked --bin touchline --example fake_claude
	$(PYTHON) -m pytest tests/e2e $(ARGS)

lint: ## Check format, lints, docs and dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	scripts/check-dependencies

bench: ## Run touchline beside its peers, on Redis and on Claude, rewrite the tables of docs/benchmarks.md, time telemetry and the hot functions
	benches/peers/run --write $(ARGS)
	benches/redis/run --write
	benches/rollout/run --write
	benches/reload/run --write
	benches/peers/claude/run --write
	benches/telemetry/run
	$(CARGO) bench --locked --bench hot

docs: ## Rewrite the generated documents and build the API docs
	UPDATE_GOLDEN=1 $(CARGO) test --locked --test documents --test metrics_doc
	scripts/chart-docs
	$(CARGO) doc --locked --no-deps

image: ## Make the container image and the list of what is in it, in target/image (needs musl-tools, and buildah or Docker)
	scripts/image

dashboard: ## Bundle the page of the admin listener anew and test it, after a change of its sources (needs Node 20)
	cd src/admin/dashboard && npm ci --ignore-scripts && npm run build && npm test
