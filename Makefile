# `make quickstart` runs a whole experiment, `make test` all tests, `make check` what a change must pass.
# Each sets up what it needs: libtorch in .libtorch/ (see setup/libtorch.sh), then what Cargo builds.

# A LIBTORCH of yours wins; without one it is fetched.
ifndef LIBTORCH
export LIBTORCH := $(CURDIR)/.libtorch
FETCH := env -u LIBTORCH sh setup/libtorch.sh
else
FETCH := echo "libtorch: using LIBTORCH=$(LIBTORCH)"
endif
# Test programs of the worker load libtorch themselves; `gradus` finds it without this.
export LD_LIBRARY_PATH := $(LIBTORCH)/lib:$(LD_LIBRARY_PATH)

.PHONY: help setup build quickstart papers test check lint docs bench fuzz catalog clean

help: ## List what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Put libtorch in place
	@$(FETCH)

build: setup ## Build gradus and its worker, optimised
	cargo build --locked --release --workspace --bins

quickstart: build ## From nothing to an aligned model, with a report
	target/release/gradus run pipelines/quickstart.yaml

papers: build ## Try the claims of published methods; verdicts go to pipelines/papers/RESULTS.md
	GRADUS_WORKER=$(CURDIR)/target/release/gradus-worker python3 pipelines/papers/results.py target/release/gradus

test: setup ## Run all tests
	cargo build --locked --workspace --bins
	GRADUS_WORKER=$(CURDIR)/target/debug/gradus-worker cargo test --locked --workspace

check: lint docs test ## Everything that a change must pass

lint: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: setup
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items

bench: setup ## Measure what gradus costs, and how fast it trains; figures go to benches/results/
	cargo build --locked --release --workspace --bins
	python3 benches/bench.py

fuzz: ## Feed every reader of strangers' bytes with made-up ones, FUZZ_SECONDS (20) each
	sh fuzz/run.sh

catalog: setup ## Write stages/catalog.json anew from the code
	cargo run --locked --quiet -p gradus-stages -- catalog > stages/catalog.json.new
	mv stages/catalog.json.new stages/catalog.json

clean: ## Delete what was built; .libtorch and the cache stay
	cargo clean
