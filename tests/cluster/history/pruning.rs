//! How the history is kept short.

use postgres::Client;

use super::{COUNT, NEVER, lines};
use crate::harness::{Ask, Cluster, wait_until};

/// Puts rows into the history as they would be there from earlier.
fn fill(client: &mut Client, count: usize, age: &str) {
    client
        .batch_execute(&format!(
            "INSERT INTO softlock.history
             SELECT floor(extract(epoch FROM t.at) * 1000000)::bigint + g, t.at, 'released', 'old:' || g, 'anna',
                    NULL, 1, 'postgres'::regrole, 'postgres', NULL, '1 s', 1
             FROM generate_series(1, {count}) AS g, LATERAL (SELECT clock_timestamp() - interval '{age}') AS t (at)"
        ))
        .unwrap();
}

#[test]
fn a_sweep_removes_what_is_too_old_and_what_is_too_much_oldest_first() {
    let cluster = Cluster::start(&[
        NEVER,
        "softlock.history_retention = '1 d'",
        "softlock.history_max_rows = 50",
    ]);
    let mut client = cluster.with_extension("postgres");
    fill(&mut client, 30, "25 hours");
    fill(&mut client, 60, "2 hours");
    // By hand, no more than asked for.
    client.ask("SELECT softlock_sweep(10)");
    assert_eq!(client.ask(COUNT), "80");
    client.ask("SELECT softlock_sweep(25)");
    assert_eq!(client.ask(COUNT), "55");
    assert_eq!(
        client.ask("SELECT min(substr(resource, 5)::int) FROM softlock.history"),
        "6",
        "the oldest went first"
    );
    client.ask("SELECT softlock_sweep()");
    assert_eq!(client.ask(COUNT), "50");
    client.ask("SELECT softlock_sweep()");
    assert_eq!(client.ask(COUNT), "50");
    // By the worker, until it is done.
    fill(&mut client, 330, "25 hours");
    fill(&mut client, 20, "1 hour");
    cluster.reload(&["softlock.sweep_batch = 100", "softlock.sweep_interval = 1"]);
    wait_until("the worker's pruning", || client.ask(COUNT) == "50");
    assert_eq!(
        client.ask(&format!("{COUNT} WHERE at > now() - interval '90 minutes'")),
        "20",
        "the newest stay"
    );
}

#[test]
fn pruning_leaves_rows_that_others_have_locked_and_waits_for_nobody() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    fill(&mut client, 10, "30 days");
    let mut other = cluster.connect("postgres");
    other
        .batch_execute("BEGIN; SELECT * FROM softlock.history WHERE resource IN ('old:1', 'old:5') FOR KEY SHARE")
        .unwrap();
    client
        .batch_execute("SET statement_timeout = '20 s'")
        .unwrap();
    client.ask("SELECT softlock_sweep()");
    assert_eq!(
        lines(
            &mut client,
            "SELECT resource FROM softlock.history ORDER BY 1"
        ),
        ["old:1", "old:5"]
    );
    // Two who prune at the same time, also in one that keeps its snapshot.
    other.batch_execute("ROLLBACK").unwrap();
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT softlock_sweep()")
        .unwrap();
    client.ask("SELECT softlock_sweep()");
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(client.ask(COUNT), "0");
    // The table as a whole.
    fill(&mut client, 10, "30 days");
    other
        .batch_execute("BEGIN; LOCK TABLE softlock.history")
        .unwrap();
    client.ask("SELECT softlock_sweep()");
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(client.ask(COUNT), "10");
}
