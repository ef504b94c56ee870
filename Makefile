# What can be done here; `make help` lists it. Everything works as root and as an ordinary user, and
# installs what it misses.

.PHONY: help demo psql till test soak bench install lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while read -r name what; do \
	    printf 'make %-9s %s\n' "$$name" "$$what"; done
	@sed -n 's/^#   /    /p' tests/run
	@echo 'One test:  make test SUITES=isolation TESTS=acquire'
	@echo '           make test SUITES=rust TESTS=part_of_its_name'

demo: ## the main job, shown on a private server
	@tests/demo

psql: ## psql on a private server with softlock, which stops when psql ends
	@tests/demo psql

till: ## the flower shop's till on Django with sample data, at http://localhost:8000
	@tests/till/run

test: ## every suite: rust regress isolation pgspot cluster till
	@tests/run

soak: ## ten minutes of the randomized checker: no double sale, no overlap
	@tests/soak

bench: ## softlock measured beside what people use today; BENCH_QUICK=1 for a smoke run
	@benches/run

install: ## a release build into the server of PG_CONFIG
	@tests/setup/install

lint: ## rustfmt, clippy and shellcheck, warnings denied
	@tests/setup/lint

clean: ## remove what was built here
	cargo clean
