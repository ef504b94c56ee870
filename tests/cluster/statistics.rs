//! `pg_stat_softlock` and `pg_stat_softlock_sweep`: every counter, who may see them, and how long they last.

use std::collections::BTreeMap;

use postgres::Client;

use crate::harness::{Ask, Cluster, as_server, run, wait_until};
use crate::worker_watch::{EVERY_SECOND, OFF, complaints, fails_again, hold_sweepers};

/// The row of a view for a database: each column's value, as text.
fn row(client: &mut Client, view: &str, database: &str) -> BTreeMap<String, String> {
    let query = format!(
        "SELECT string_agg(key || '=' || coalesce(value, ''), '|')
         FROM {view} AS v, jsonb_each_text(to_jsonb(v)) WHERE datname = '{database}'"
    );
    let columns = client.ask(&query);
    let pairs = columns.split('|').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn counts(client: &mut Client) -> BTreeMap<String, f64> {
    let columns = row(client, "pg_stat_softlock", "postgres").into_iter();
    columns
        .filter(|(name, _)| !["datid", "datname", "stats_reset"].contains(&name.as_str()))
        .map(|(name, value)| (name, value.parse().expect("a number")))
        .collect()
}

/// What the statement, which may fail, has moved, and by how much; in milliseconds it only says that it did.
#[track_caller]
fn moved(client: &mut Client, statement: &str) -> Vec<(String, u64)> {
    client.ask("SELECT pg_stat_softlock_reset()");
    let _ = client.batch_execute(statement);
    let moved = counts(client).into_iter().filter(|(_, count)| *count > 0.0);
    moved
        .map(|(name, count)| match name == "wait_time" {
            true => (name, 1),
            false => (name, count as u64),
        })
        .collect()
}

#[test]
fn each_counter_moves_by_one_and_no_other_does() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute(
            "INSERT INTO softlock.policies (kind, max_per_owner) VALUES ('few', 1);
             CREATE TABLE kit (id int);
             CREATE TRIGGER held BEFORE INSERT ON kit FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'id');
             CREATE TABLE needs (id int);
             CREATE TRIGGER held BEFORE INSERT ON needs FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'id', 'require')",
        )
        .unwrap();
    let mut taker = cluster.connect("postgres");
    taker
        .batch_execute("BEGIN; SELECT softlock_acquire('taken', 'anna')")
        .unwrap();
    for (statement, counters) in [
        ("SELECT softlock_acquire('kit:1', 'anna')", "grants"),
        ("SELECT softlock_acquire('kit:1', 'anna')", "renewals"),
        ("SELECT softlock_renew('kit:1', 'anna')", "renewals"),
        (
            "SELECT softlock_acquire('kit:1', 'anna', session => 's')",
            "moves",
        ),
        ("SELECT softlock_acquire('kit:1', 'boris')", "held"),
        ("SELECT softlock_acquire('taken', 'boris')", "contended"),
        (
            "SELECT softlock_acquire('kit:1', 'boris', wait => '10 ms')",
            "held wait_time wait_timeouts waits",
        ),
        ("INSERT INTO kit VALUES (1)", "guard_refusals"),
        ("INSERT INTO needs VALUES (2)", "guard_refusals"),
        (
            "SET softlock.owner = 'anna'; INSERT INTO needs VALUES (1)",
            "",
        ),
        (
            "SELECT softlock_consume('{kit:1}', 'boris')",
            "consume_failures",
        ),
        (
            "SELECT softlock_consume('{kit:1,kit:2}', 'anna')",
            "consume_failures",
        ),
        ("SELECT softlock_consume('{kit:1}', 'anna')", "consumes"),
        (
            "SELECT softlock_acquire_many('{kit:1}', 'anna', '1 h')",
            "grants",
        ),
        ("SELECT softlock_release('kit:1', 'anna')", "releases"),
        ("SELECT softlock_release('kit:1', 'anna')", ""),
        ("SELECT softlock_acquire('kit:1', 'anna')", "grants"),
        ("SELECT softlock_release_all('anna')", "releases"),
        ("SELECT softlock_acquire('kit:1', 'anna')", "grants"),
        ("SELECT softlock_break('kit:1')", "breaks"),
        ("SELECT softlock_break('kit:1')", ""),
        ("SELECT softlock_acquire('few:1', 'anna')", "grants"),
        ("SELECT softlock_acquire('few:2', 'anna')", "quota"),
        ("SELECT softlock_acquire_any('{few:1}', 'boris')", "held"),
        (
            "SELECT softlock_acquire('few:1', 'boris', units => 2, capacity => 2)",
            "held",
        ),
        ("SELECT softlock_renew_all('anna')", "renewals"),
        (
            "SELECT softlock_transfer('{few:1}', 'anna', 'boris')",
            "moves",
        ),
        ("SELECT softlock_break_all(owner => 'boris')", "breaks"),
        (
            "SELECT softlock_acquire('units', 'anna', units => 2, capacity => 3)",
            "grants",
        ),
        (
            "SELECT softlock_acquire('units', 'boris', units => 2, capacity => 3)",
            "held",
        ),
        (
            "SELECT softlock_acquire('units', 'boris', units => 1, capacity => 3)",
            "grants",
        ),
        (
            "SELECT softlock_acquire_any('{few:1,few:2}', 'anna')",
            "grants",
        ),
        ("SELECT softlock_break_all(prefix => 'few')", "breaks"),
        ("SELECT * FROM softlock_status('{kit:1,taken}')", ""),
        (
            "SELECT softlock_acquire('short', 'anna', '200 ms')",
            "grants",
        ),
        // Until that has lapsed, and is taken over.
        (
            "SELECT softlock_acquire('short', 'boris', wait => '20 s')",
            "grants wait_time waits",
        ),
        // What was decided is counted, whatever becomes of it.
        (
            "BEGIN; SELECT softlock_acquire('kit:9', 'anna'); ROLLBACK",
            "grants",
        ),
        (
            "BEGIN; SAVEPOINT s; SELECT softlock_acquire('kit:9', 'anna'); ROLLBACK TO s; COMMIT",
            "grants",
        ),
    ] {
        let expected: Vec<_> = counters
            .split_whitespace()
            .map(|name| (name.to_owned(), 1))
            .collect();
        assert_eq!(moved(&mut client, statement), expected, "{statement}");
    }
}

#[test]
fn each_resource_of_a_cart_is_counted() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    let mut moved = |statement| moved(&mut client, statement);
    let take = "SELECT softlock_acquire_many('{a,b,c}', 'anna')";
    let three = |name: &str| vec![(name.to_owned(), 3)];
    assert_eq!(moved(take), three("grants"));
    assert_eq!(moved(take), three("renewals"));
    assert_eq!(
        moved("SELECT softlock_acquire_many('{a,b,c,d}', 'boris')"),
        three("held")
    );
    assert_eq!(
        moved("SELECT softlock_consume('{a,b,c}', 'anna')"),
        three("consumes")
    );
}

#[test]
fn a_wait_is_counted_in_milliseconds() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna')");
    client.ask("SELECT softlock_acquire('k', 'boris', wait => '100 ms')");
    let waited = counts(&mut client)["wait_time"];
    assert!((100.0..60_000.0).contains(&waited), "{waited}");
}

#[test]
fn sweeps_are_counted_by_hand_and_of_the_worker_and_their_failures_say_why() {
    let cluster = Cluster::start(&[OFF, "log_min_messages = debug1"]);
    let mut client = cluster.with_extension("postgres");
    let sweeps = |client: &mut Client| row(client, "pg_stat_softlock_sweep", "postgres");
    client.lapse("k");
    let before = sweeps(&mut client);
    for (column, value) in [
        ("sweeps", "0"),
        ("swept", "0"),
        ("sweep_time", "0"),
        ("last_sweep", ""),
        ("last_swept", ""),
        ("failed", "0"),
        ("last_failed", ""),
        ("last_error", ""),
        ("next_sweep", ""),
    ] {
        assert_eq!(before[column], value, "{column}: {before:?}");
    }
    client.ask("SELECT softlock_sweep()");
    let by_hand = sweeps(&mut client);
    for (column, value) in [
        ("sweeps", "1"),
        ("swept", "1"),
        ("last_swept", "1"),
        ("failed", "0"),
    ] {
        assert_eq!(by_hand[column], value, "{column}: {by_hand:?}");
    }
    assert!(!by_hand["last_sweep"].is_empty(), "{by_hand:?}");
    assert!(by_hand["sweep_time"].parse::<f64>().unwrap() > 0.0);

    client.lapse("k");
    let holder = hold_sweepers(&cluster, "postgres");
    cluster.reload(&[EVERY_SECOND]);
    fails_again(&cluster, "postgres");
    let failing = sweeps(&mut client);
    assert!(failing["failed"].parse::<usize>().unwrap() >= complaints(&cluster, "postgres").1);
    assert_eq!(failing["sweeps"], "1");
    assert_eq!(
        failing["last_error"],
        "canceling statement due to lock timeout"
    );
    assert!(
        failing["last_failed"] > by_hand["last_sweep"],
        "{failing:?}"
    );
    drop(holder);
    wait_until("a sweep that finds nothing after one that did", || {
        let now = sweeps(&mut client);
        now["swept"] == "2" && now["last_swept"] == "0"
    });
    // The next ones are told ahead, and anew.
    let next = sweeps(&mut client)["next_sweep"].clone();
    wait_until("the sweep after that", || {
        sweeps(&mut client)["next_sweep"] > next
    });
    let is_soon = "SELECT next_sweep BETWEEN now() - '10 s'::interval AND now() + '2 s'::interval
                   FROM pg_stat_softlock_sweep WHERE datname = 'postgres'";
    assert_eq!(client.ask(is_soon), "t");
    cluster.reload(&[OFF]);
    wait_until("no next one", || {
        sweeps(&mut client)["next_sweep"].is_empty()
    });
    client.ask("SELECT pg_stat_softlock_reset()");
    let reset = sweeps(&mut client);
    assert_eq!(
        (reset["sweeps"].as_str(), reset["last_error"].as_str()),
        ("0", "")
    );
}

#[test]
fn a_reset_is_of_this_database_only_and_says_when() {
    let cluster = Cluster::start(&[OFF]);
    let mut shop = cluster.with_extension("shop");
    let mut other = cluster.with_extension("other");
    for client in [&mut shop, &mut other] {
        client.ask("SELECT softlock_acquire('k', 'anna')");
    }
    let before = row(&mut shop, "pg_stat_softlock", "shop");
    assert_eq!(before["grants"], "1");
    shop.ask("SELECT pg_stat_softlock_reset()");
    let after = row(&mut shop, "pg_stat_softlock", "shop");
    assert_eq!(after["grants"], "0");
    assert!(after["stats_reset"] > before["stats_reset"]);
    assert_eq!(row(&mut shop, "pg_stat_softlock", "other")["grants"], "1");
    drop(other);
    shop.batch_execute("DROP DATABASE other").unwrap();
    assert!(row(&mut shop, "pg_stat_softlock", "other").is_empty());
}

#[test]
fn counts_outlive_sessions_and_the_extension_but_no_restart_nor_a_crash() {
    let cluster = Cluster::start(&[OFF]);
    drop(cluster.with_extension("shop"));
    let take = |resource: &str| {
        let mut client = cluster.reconnect("shop");
        client.ask(&format!("SELECT softlock_acquire('{resource}', 'anna')"))
    };
    let grants =
        || row(&mut cluster.reconnect("shop"), "pg_stat_softlock", "shop")["grants"].clone();
    take("a");
    take("b");
    assert_eq!(grants(), "2");
    cluster
        .connect("shop")
        .batch_execute("DROP EXTENSION softlock; CREATE EXTENSION softlock")
        .unwrap();
    take("a");
    assert_eq!(grants(), "3");
    cluster.stop("fast");
    cluster.up();
    take("c");
    assert_eq!(grants(), "1");
    // A process that dies takes the shared memory with it.
    let mut victim = cluster.connect("shop");
    let pid = victim.ask("SELECT pg_backend_pid()");
    run(as_server("kill").args(["-KILL", &pid]));
    wait_until("the end", || victim.batch_execute("SELECT 1").is_err());
    wait_until("the server's return", || {
        cluster.log_count("database system is ready to accept connections") == 3
    });
    take("d");
    assert_eq!(grants(), "1");
}

#[test]
fn not_preloaded_the_statistics_say_so_and_the_verbs_work() {
    let cluster = Cluster::start_bare(&[]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna')");
    for ask in [
        "TABLE pg_stat_softlock",
        "TABLE pg_stat_softlock_sweep",
        "SELECT pg_stat_softlock_reset()",
    ] {
        let error = client.batch_execute(ask).expect_err(ask);
        let error = error.as_db_error().expect("an error of the server's");
        assert_eq!(error.code().code(), "55000");
        assert_eq!(
            error.message(),
            "softlock counts only where it is preloaded"
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("shared_preload_libraries"))
        );
    }
}

#[test]
fn who_monitors_sees_all_databases_and_only_a_superuser_begins_anew() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna')");
    client
        .batch_execute(
            "CREATE ROLE monitor IN ROLE pg_monitor; CREATE ROLE reader IN ROLE pg_read_all_stats; CREATE ROLE till",
        )
        .unwrap();
    for role in ["monitor", "reader"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for view in ["pg_stat_softlock", "pg_stat_softlock_sweep"] {
            assert_eq!(
                client.ask(&format!("SELECT count(*) FROM {view}")),
                "1",
                "{role}"
            );
        }
        let reset = client.batch_execute("SELECT pg_stat_softlock_reset()");
        assert_eq!(reset.unwrap_err().code().unwrap().code(), "42501");
    }
    client.batch_execute("SET ROLE till").unwrap();
    for ask in [
        "TABLE pg_stat_softlock",
        "TABLE pg_stat_softlock_sweep",
        "SELECT * FROM softlock.statistics()",
        "SELECT * FROM softlock_check()",
    ] {
        let error = client.batch_execute(ask).expect_err(ask);
        assert_eq!(error.code().unwrap().code(), "42501", "{ask}");
    }
}

#[test]
fn a_database_in_another_encoding_shows_the_names_and_errors_of_all() {
    let cluster = Cluster::start(&[OFF, "log_min_messages = debug1"]);
    let mut shop = cluster.with_extension("shop");
    // A column whose name is in the error.
    shop.batch_execute("ALTER TABLE softlock.locks ADD COLUMN \"note\" text")
        .unwrap();
    cluster
        .connect("postgres")
        .batch_execute(
            "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        )
        .unwrap();
    let mut latin = cluster.connect("latin");
    latin.batch_execute("CREATE EXTENSION softlock").unwrap();
    cluster.reload(&[EVERY_SECOND]);
    fails_again(&cluster, "shop");
    for client in [&mut latin, &mut shop] {
        let failed = row(client, "pg_stat_softlock_sweep", "shop");
        assert_eq!(failed["last_error"], "softlock.locks has been altered");
    }
}
