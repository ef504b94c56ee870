//! Tests on real clusters, on the server of `PG_CONFIG`, which must have softlock installed.

mod checker;
mod durability;
mod harness;
mod waiting;
mod worker;
mod worker_survives;
