//! What a call costs does not grow with how often its resource was taken, renewed and freed before, also
//! while an old snapshot keeps vacuum from cleaning up. Counted are the pages that it touches, which no
//! other load on the machine changes.

use serde_json::Value;

use crate::harness::{Ask, Cluster, wait_until};
use postgres::Client;

fn cluster() -> (Cluster, Client) {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0", "max_wal_size = 4GB"]);
    let client = cluster.with_extension("postgres");
    (cluster, client)
}

/// Keeps everything that is deleted from now on from being cleaned up.
fn old_snapshot(cluster: &Cluster) -> Client {
    let mut reader = cluster.connect("postgres");
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()")
        .unwrap();
    reader
}

/// How many pages a statement touches.
fn pages(client: &mut Client, statement: &str) -> i64 {
    let plan = client.ask(&format!(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}"
    ));
    let plan: Value = serde_json::from_str(&plan).expect("a plan");
    let touched = |what: &str| plan[0]["Plan"][what].as_i64().expect("a count");
    touched("Shared Hit Blocks") + touched("Shared Read Blocks")
}

/// What each call costs: the median of some, the first ones left out, which fill the caches.
fn costs(client: &mut Client) -> Vec<(&'static str, i64)> {
    let calls = [
        ("take", "SELECT softlock_acquire('k', 'anna')"),
        ("refusal", "SELECT softlock_acquire('k', 'boris')"),
        ("renewal", "SELECT softlock_renew('k', 'anna')"),
        ("status", "SELECT * FROM softlock_status('{k}')"),
        ("release", "SELECT softlock_release('k', 'anna')"),
        (
            "status of what is free",
            "SELECT * FROM softlock_status('{k}')",
        ),
        ("take again", "SELECT softlock_acquire('k', 'anna')"),
        ("consume", "SELECT softlock_consume('{k}', 'anna')"),
    ];
    let mut samples = vec![Vec::new(); calls.len()];
    for _ in 0..14 {
        for (call, samples) in calls.iter().zip(&mut samples) {
            samples.push(pages(client, call.1));
        }
    }
    let median = |samples: &mut Vec<i64>| {
        samples.drain(..3);
        samples.sort_unstable();
        samples[samples.len() / 2]
    };
    calls
        .iter()
        .zip(&mut samples)
        .map(|(call, samples)| (call.0, median(samples)))
        .collect()
}

#[test]
fn no_call_costs_more_after_a_hundred_thousand_takes_and_frees_and_twenty_thousand_renewals() {
    let (cluster, mut client) = cluster();
    // As many others as a shop has, so that the indexes are as high as there.
    client.ask("SELECT count(softlock_acquire('other:' || n, 'clara')) FROM generate_series(1, 20000) AS n");
    let _reader = old_snapshot(&cluster);
    let before = costs(&mut client);
    client
        .batch_execute(
            "DO $$ BEGIN
                FOR n IN 1 .. 100000 LOOP
                    PERFORM softlock_acquire('k', 'anna');
                    PERFORM softlock_release('k', 'anna');
                    COMMIT;
                END LOOP;
                PERFORM softlock_acquire('k', 'anna');
                FOR n IN 1 .. 20000 LOOP
                    PERFORM softlock_renew('k', 'anna', make_interval(secs => 2000 + n));
                    COMMIT;
                END LOOP;
                PERFORM softlock_release('k', 'anna');
            END $$",
        )
        .unwrap();
    let size: i64 = client
        .ask("SELECT pg_relation_size('softlock.locks')")
        .parse()
        .unwrap();
    assert!(
        size > 10_000_000,
        "old versions were cleaned up: {size} bytes"
    );
    let after = costs(&mut client);
    println!("pages before: {before:?}\npages after: {after:?}");
    for ((call, before), (_, after)) in before.iter().zip(&after) {
        assert!(
            after <= &(2 * before),
            "{call}: {before} pages before, {after} now"
        );
    }
}

/// How many pages of softlock's table and its indexes have been touched by all sessions so far.
fn pages_of_table(client: &mut Client) -> i64 {
    client
        .ask(
            "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
             FROM pg_statio_all_tables WHERE relid = 'softlock.locks'::regclass",
        )
        .parse()
        .expect("a count")
}

/// The pages that the worker touches in one sweep that finds nothing.
fn pages_of_sweep(cluster: &Cluster, client: &mut Client) -> i64 {
    const SWEEPS: usize = 3;
    let begun = || cluster.log_count("starting background worker process \"softlock sweeper\"");
    let next = |than: usize| wait_until("the next sweep", || begun() > than);
    // From the end of one sweep to the end of another: each has reported what it touched when it ends.
    let ended = |client: &mut Client| {
        wait_until("the sweep's end", || {
            client.ask(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'softlock sweeper'",
            ) == "0"
        });
    };
    next(begun());
    ended(client);
    let (first, before) = (begun(), pages_of_table(client));
    next(first + SWEEPS - 1);
    ended(client);
    let (last, after) = (begun(), pages_of_table(client));
    (after - before) / (last - first) as i64
}

#[test]
fn a_sweep_that_finds_nothing_costs_no_more_after_a_hundred_thousand_locks_have_lapsed() {
    let (cluster, mut client) = cluster();
    let _reader = old_snapshot(&cluster);
    // A sweep of one, so that there is something that it came by.
    client.lapse("k");
    cluster.reload(&["softlock.sweep_interval = 1", "log_min_messages = debug1"]);
    wait_until("the first sweep", || client.rows() == 0);
    let before = pages_of_sweep(&cluster, &mut client);
    client
        .batch_execute(
            "DO $$ BEGIN
                FOR n IN 1 .. 100 LOOP
                    PERFORM softlock_acquire(n || ':' || g, 'anna', '1 ms') FROM generate_series(1, 1000) AS g;
                    COMMIT;
                END LOOP;
            END $$",
        )
        .unwrap();
    wait_until("the sweep of all", || client.rows() == 0);
    // A lock may lapse while it is being written, so what lapsed just before a sweep is looked at again.
    let mut after = Vec::new();
    wait_until("a sweep that looks at none of it", || {
        after.push(pages_of_sweep(&cluster, &mut client));
        after.last() <= Some(&(2 * before.max(10)))
    });
    println!("pages before: {before}, after: {after:?}");
}
