//! softlock on several servers behind a PL/Proxy router, as `docs/scaling.md` says. The suite `sharding` of
//! `tests/run` has PL/Proxy, which the distribution packages for its own PostgreSQL.

mod checked;
mod routed;
mod servers;
mod split;
