# What can be done here; `make help` lists it. Everything works as root and as an ordinary user, and
# installs what it misses, but for `all`, `install` and `clean`: those are as packagers expect them.

.PHONY: help demo psql till test test-all soak bench all install deb dist lint clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while read -r name what; do \
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

test: ## every suite: rust regress isolation pgspot cluster patroni sharding till
	@tests/run

test-all: ## what depends on the server, on every major version from 13 to 18: before a release
	@tests/majors 13 14 15 16 17 18

soak: ## ten minutes of the randomized checker, then a thousand sweeps of 300 databases
	@tests/soak
	@tests/soak databases

bench: ## softlock measured beside what people use today; BENCH_QUICK=1 for a smoke run
	@benches/run

all: ## a release build for the server of PG_CONFIG
	@tests/setup/build >/dev/null

install: ## builds and installs into the server of PG_CONFIG, below DESTDIR
	@DESTDIR='$(DESTDIR)' tests/setup/install

deb: ## postgresql-NN-softlock for the server of PG_CONFIG, by Debian's tools, into target/deb
	@debian/build

dist: ## what is uploaded to PGXN, into target/dist
	@tests/setup/dist

lint: ## rustfmt, clippy and shellcheck, warnings denied
	@tests/setup/lint

clean: ## remove what was built here
	rm -rf target
