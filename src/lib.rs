//! Soft locks for PostgreSQL: short, owned, expiring holds on business resources.

use pgrx::prelude::*;

mod adopted;
mod answer;
mod ask;
mod cart;
mod error;
mod events;
mod functions;
mod history;
mod journal;
mod lock;
mod names;
mod outdated;
mod pg;
#[cfg(any(test, feature = "pg_test"))]
mod pg_tests;
mod policy;
mod settings;
mod statistics;
mod store;
mod text;
mod units;
mod verbs;
mod worker;

::pgrx::pg_module_magic!(name = c"softlock", version = c"0.2.0");

extension_sql_file!("../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!(
    "../sql/policies.sql",
    name = "policies",
    requires = ["tables", functions::carts::policies_changed]
);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["tables"]);
extension_sql_file!(
    "../sql/adopted.sql",
    name = "adopted",
    requires = ["tables"]
);
extension_sql_file!(
    "../sql/history.sql",
    name = "history",
    requires = ["tables"]
);
extension_sql_file!(
    "../sql/statistics.sql",
    name = "statistics",
    requires = [
        "views",
        softlock_statistics_rows,
        softlock_sweep_statistics_rows,
        softlock_statistics_reset,
        softlock_check_rows
    ]
);
extension_sql_file!("../sql/functions.sql", name = "functions", finalize);

/// Runs when the library is loaded: in the postmaster where it is in `shared_preload_libraries`,
/// else in the session that first calls one of the functions.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::register();
    pg::register_preloaded();
    worker::register();
}

/// What `cargo pgrx test` needs to know.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'softlock'"]
    }
}
