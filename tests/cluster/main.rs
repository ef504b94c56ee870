//! Tests on real clusters, on the server of `PG_CONFIG`, which must have softlock installed.

mod adopt;
mod check;
mod checker;
mod clock;
mod decay;
mod durability;
mod encodings;
mod events;
mod examples;
mod harness;
mod history;
mod install;
mod log_at_commit;
mod logical;
#[cfg(not(feature = "pg13"))] // which tells nobody of its memory
mod many_databases;
mod memory;
mod monitoring;
mod no_lock_table;
mod patroni;
mod progress;
mod serve;
mod sharding;
mod standby;
mod statistics;
mod tokens;
mod units;
mod upgrade;
mod versions;
mod waiting;
mod worker;
mod worker_launcher;
mod worker_streaks;
mod worker_survives;
mod worker_watch;
