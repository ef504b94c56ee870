//! Soft locks for PostgreSQL: short, owned, expiring holds on business resources.

use pgrx::prelude::*;

mod answer;
mod cart;
mod error;
mod functions;
mod lock;
mod names;
mod pg;
#[cfg(any(test, feature = "pg_test"))]
mod pg_tests;
mod settings;
mod store;
mod verbs;
mod worker;

::pgrx::pg_module_magic!(name = c"softlock", version = c"0.1.0");

extension_sql_file!("../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["tables"]);
extension_sql_file!("../sql/functions.sql", name = "functions", finalize);

/// Runs when the library is loaded: in the postmaster where it is in `shared_preload_libraries`,
/// else in the session that first calls one of the functions.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::register();
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
