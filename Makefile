# Every command works on a fresh Debian or Ubuntu machine with rustup, make, a C compiler, Node with npm, and apt.
.PHONY: help run build test bench fuzz fmt clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

run: ## Install what is missing, build, and serve a demo on 127.0.0.1:3000 (PORT=3001 make run for another port)
	@scripts/run

build: ## All release artefacts: the component, the runner, the Worker bundle
	@scripts/build

test: ## Everything that must hold
	@scripts/test

bench: ## The metered path beside plain forwarding: calls, large replies, streams, webhooks (BENCH="--rounds 3 --seconds 2")
	@scripts/bench $(BENCH)

fuzz: ## Random bodies for the readers of JSON, event streams and content codings, for minutes (FUZZ_INPUTS=2000000)
	@FUZZ_INPUTS=$${FUZZ_INPUTS:-2000000} cargo test --locked --release --lib -- meter::tests::fuzz meter::coding::tests::a_spoilt

fmt: ## Format the sources
	@cargo fmt --all

clean: ## Remove what was built
	@rm -rf target worker/build
