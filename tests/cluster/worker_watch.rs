//! What the tests of the background worker look at and do.

use postgres::Client;

use crate::harness::{Ask, Cluster, wait_until};

pub const EVERY_SECOND: &str = "softlock.sweep_interval = 1";
/// Sweeps at start-up only.
pub const RARELY: &str = "softlock.sweep_interval = 3600";
pub const OFF: &str = "softlock.sweep_interval = 0";
/// With `OFF` at first: sweeps that are tried again in vain are in the log at DEBUG1.
pub const DEBUG: &str = "log_min_messages = debug1";
/// The launcher has one slot, which leaves one for a sweeper.
pub const ONE_SLOT: [&str; 2] = [
    "max_worker_processes = 2",
    "max_logical_replication_workers = 0",
];

fn pid(client: &mut Client, kind: &str) -> Option<i32> {
    let pid = client.ask(&format!(
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE {kind}"
    ));
    Some(pid.parse().expect("a pid")).filter(|&pid| pid != 0)
}

pub fn launcher(client: &mut Client) -> Option<i32> {
    pid(client, "backend_type = 'softlock launcher'")
}

/// The launcher's pid, once there is one other than `old`.
#[track_caller]
pub fn new_launcher(client: &mut Client, old: i32) -> i32 {
    let mut new = None;
    wait_until("a new launcher", || {
        new = launcher(client).filter(|&new| new != old);
        new.is_some()
    });
    new.expect("a pid")
}

#[track_caller]
pub fn sweeps(client: &mut Client) {
    client.lapse("k");
    wait_until("a sweep", || client.rows() == 0);
}

/// Has every sweeper that enters this database wait there until the client answered is dropped.
pub fn hold_sweepers(cluster: &Cluster, database: &str) -> Client {
    let mut holder = cluster.connect(database);
    holder
        .batch_execute("BEGIN; LOCK pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    holder
}

/// The pid of a sweeper that is in this database, and waits there.
#[track_caller]
pub fn held_sweeper(client: &mut Client, database: &str) -> i32 {
    let held = format!(
        "backend_type = 'softlock sweeper' AND datname = '{database}' AND wait_event_type = 'Lock'"
    );
    let mut found = None;
    wait_until("a sweeper that waits", || {
        found = pid(client, &held);
        found.is_some()
    });
    found.expect("a pid")
}

/// Has every sweeper wait that is about to enter this database, to which nobody may be connected,
/// until the client answered is dropped.
pub fn lock_database(cluster: &Cluster, database: &str) -> Client {
    let mut altering = cluster.connect("template1");
    altering
        .batch_execute(&format!(
            "BEGIN; ALTER DATABASE {database} RENAME TO renamed"
        ))
        .unwrap();
    altering
}

/// The pid of a sweeper that waits to enter a database.
#[track_caller]
pub fn waiting_sweeper(client: &mut Client) -> i32 {
    let waiting = "SELECT coalesce(max(pid), 0) FROM pg_locks
                   WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND NOT granted";
    let mut found = 0;
    wait_until("a sweeper that waits to enter", || {
        found = client.ask(waiting).parse().expect("a pid");
        found != 0
    });
    found
}

/// How often the log has said that this database could not be swept: as a warning, and at DEBUG1.
pub fn complaints(cluster: &Cluster, database: &str) -> (usize, usize) {
    let count = |level| {
        cluster.log_count(&format!(
            "{level}:  softlock could not sweep database \"{database}\": "
        ))
    };
    (count("WARNING"), count("DEBUG"))
}

/// Waits until a sweep of this database has failed twice more than it is `told` of.
#[track_caller]
pub fn fails_again(cluster: &Cluster, database: &str) {
    let before = complaints(cluster, database).1;
    wait_until("more sweeps that fail", || {
        complaints(cluster, database).1 >= before + 2
    });
}

/// That nothing but what the launcher says of `database` is in the log.
#[track_caller]
pub fn assert_quiet(cluster: &Cluster, database: &str) {
    let log = cluster.log();
    let about = format!("WARNING:  softlock could not sweep database \"{database}\"");
    let loud = log.lines().find(|line| {
        ["WARNING: ", "ERROR: ", "FATAL: ", "PANIC: "]
            .iter()
            .any(|level| line.contains(level))
            && !line.contains(&about)
    });
    assert_eq!(loud, None);
}

/// The bytes that the launcher uses, as PostgreSQL counts them; pg_log_backend_memory_contexts is there
/// from 14 on.
#[cfg(not(feature = "pg13"))]
pub fn launchers_memory(cluster: &Cluster, launcher: i32) -> i64 {
    let totals = || {
        let log = cluster.log();
        let lines = log.lines().filter(|line| line.contains("Grand total:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let said = totals().len();
    cluster.connect("postgres").ask(&format!(
        "SELECT pg_log_backend_memory_contexts({launcher})"
    ));
    wait_until("the launcher's answer", || totals().len() > said);
    let last = totals().pop().expect("a line");
    let used = last
        .rsplit("; ")
        .next()
        .and_then(|used| used.strip_suffix(" used"));
    used.unwrap_or_else(|| panic!("{last}")).parse().unwrap()
}
