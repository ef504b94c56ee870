# What can be done here; `make help` lists it. Everything works as root and as an ordinary user, and
# installs what it misses. PG_CONFIG=/path/to/pg_config picks a PostgreSQL other than the
# distribution's.

export PG_CONFIG

.PHONY: help demo psql test soak install lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|'

demo: ## the main job, shown on a private server
	@tests/demo

psql: ## psql on a private server with softlock, which stops when psql ends
	@tests/demo psql

test: ## every suite; SUITES="regress isolation" picks some of: rust regress isolation pgspot cluster
	@tests/run

soak: ## ten minutes of the randomized checker: no double sale, no overlap
	@tests/soak

install: ## a release build into the server of PG_CONFIG
	@tests/setup/install

lint: ## rustfmt and clippy, warnings denied
	@tests/setup/lint

clean: ## remove what was built here
	cargo clean
