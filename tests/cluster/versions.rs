//! What a look makes of the versions of a row that other transactions, savepoints, an administrator and
//! vacuum leave behind.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::harness::{Ask, Cluster, wait_until};
use postgres::Client;

/// What Boris is told when he asks for `resource`.
fn asked_by_boris(client: &mut Client, resource: &str) -> String {
    client.ask(&format!(
        "SELECT softlock_acquire('{resource}', 'boris', '1 h')->>'outcome'"
    ))
}

fn give_back(client: &mut Client, resource: &str) {
    assert_eq!(
        client.ask(&format!(
            "SELECT softlock_release('{resource}', 'boris')->>'outcome'"
        )),
        "released"
    );
}

#[test]
fn what_a_rolled_back_savepoint_took_is_free_also_when_its_transaction_has_had_a_hundred() {
    let cluster = Cluster::start(&["statement_timeout = 60s"]);
    let mut client = cluster.with_extension("postgres");
    let mut other = cluster.connect("postgres");
    client.batch_execute("BEGIN").unwrap();
    // More than a snapshot has room for, each with a transaction id of its own.
    for n in 0..100 {
        client
            .batch_execute(&format!(
                "SAVEPOINT s{n}; SELECT softlock_acquire('kept:{n}', 'anna');
                 SAVEPOINT undone; SELECT softlock_acquire('undone:{n}', 'anna'); ROLLBACK TO undone"
            ))
            .unwrap();
    }
    for n in [0, 63, 64, 99] {
        assert_eq!(
            asked_by_boris(&mut other, &format!("kept:{n}")),
            "contended"
        );
        assert_eq!(
            asked_by_boris(&mut other, &format!("undone:{n}")),
            "granted"
        );
    }
    client.batch_execute("ROLLBACK TO s50").unwrap();
    for n in [50, 70, 99] {
        assert_eq!(asked_by_boris(&mut other, &format!("kept:{n}")), "granted");
    }
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(asked_by_boris(&mut other, "kept:0"), "held");
    assert_eq!(
        client.ask("SELECT count(*) FROM softlock_active WHERE owner = 'anna'"),
        "50"
    );
}

#[test]
fn a_row_that_an_administrator_has_updated_in_place_is_held_until_it_is_released() {
    let cluster = Cluster::start(&["autovacuum = off"]);
    let mut client = cluster.with_extension("postgres");
    let mut other = cluster.connect("postgres");
    assert_eq!(asked_by_boris(&mut client, "k"), "granted");
    let update = |n| format!("UPDATE softlock.locks SET metadata = jsonb_build_object('n', {n})");
    for n in 1..=3 {
        client.batch_execute(&update(n)).unwrap();
    }
    wait_until("three updates within the page", || {
        client.ask("SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'locks'") == "3"
    });
    let asked =
        "SELECT a->>'outcome' || (a->'metadata')::text FROM softlock_acquire('k', 'anna') AS a";
    assert_eq!(other.ask(asked), "held{\"n\": 3}");
    client
        .batch_execute(&format!("BEGIN; {}; ROLLBACK", update(4)))
        .unwrap();
    assert_eq!(other.ask(asked), "held{\"n\": 3}");
    client
        .batch_execute(&format!("BEGIN; {}", update(5)))
        .unwrap();
    assert_eq!(other.ask(asked), "held{\"n\": 3}");
    client.batch_execute("COMMIT").unwrap();
    // A snapshot keeps the chain from being pruned.
    let mut reader = cluster.connect("postgres");
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE softlock.locks")
        .unwrap();
    give_back(&mut client, "k");
    assert_eq!(
        other.ask("SELECT is_locked FROM softlock_status('{k}')"),
        "f"
    );
    assert_eq!(
        other.ask("SELECT softlock_acquire('k', 'anna')->>'outcome'"),
        "granted"
    );
    assert_eq!(asked_by_boris(&mut client, "k"), "held");
}

#[test]
fn a_row_that_vacuum_has_frozen_is_held_until_it_is_released() {
    let cluster = Cluster::start(&["autovacuum = off"]);
    let mut client = cluster.with_extension("postgres");
    let mut reader = cluster.connect("postgres");
    assert_eq!(asked_by_boris(&mut client, "k"), "granted");
    client
        .batch_execute("VACUUM (FREEZE) softlock.locks")
        .unwrap();
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'anna')->>'outcome'"),
        "held"
    );
    // The deleted version is there for as long as somebody may see it.
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE softlock.locks")
        .unwrap();
    give_back(&mut client, "k");
    assert_eq!(
        client.ask("SELECT is_locked FROM softlock_status('{k}')"),
        "f"
    );
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'anna')->>'outcome'"),
        "granted"
    );
    assert_eq!(asked_by_boris(&mut client, "k"), "held");
    reader.batch_execute("COMMIT").unwrap();
    client
        .batch_execute("VACUUM (FREEZE) softlock.locks")
        .unwrap();
    assert_eq!(asked_by_boris(&mut client, "k"), "held");
}

#[test]
fn a_prepared_transaction_keeps_what_its_savepoints_took_and_no_more() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    for (end, outcome) in [("COMMIT", "held"), ("ROLLBACK", "granted")] {
        client
            .batch_execute(
                "BEGIN; SAVEPOINT a; SELECT softlock_acquire('kept', 'anna'); RELEASE a;
                 SAVEPOINT b; SELECT softlock_acquire('undone', 'anna'); ROLLBACK TO b;
                 SAVEPOINT c; SELECT softlock_acquire('open', 'anna'); PREPARE TRANSACTION 'sale'",
            )
            .unwrap();
        for resource in ["kept", "open"] {
            assert_eq!(
                client.ask(&format!(
                    "SELECT concat_ws(' ', a->>'outcome', a->>'owner', coalesce(a->>'pid', 'no pid'))
                     FROM softlock_acquire('{resource}', 'boris') AS a"
                )),
                "contended anna no pid"
            );
        }
        assert_eq!(asked_by_boris(&mut client, "undone"), "granted");
        client
            .batch_execute(&format!("{end} PREPARED 'sale'"))
            .unwrap();
        assert_eq!(asked_by_boris(&mut client, "kept"), outcome);
        assert_eq!(asked_by_boris(&mut client, "open"), outcome);
        client
            .batch_execute("SELECT softlock_break(resource) FROM softlock_active")
            .unwrap();
    }
}

#[test]
fn a_hold_that_is_renewed_all_the_time_is_never_seen_free() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    assert_eq!(asked_by_boris(&mut client, "k"), "granted");
    let is_over = AtomicBool::new(false);
    let looks: Vec<i64> = thread::scope(|scope| {
        let lookers: Vec<_> = (0..2)
            .map(|_| {
                let mut looker = cluster.connect("postgres");
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut looks = 0;
                    while !is_over.load(Relaxed) {
                        let free = looker.ask(
                            "SELECT count(*) FILTER (WHERE NOT is_locked OR owner <> 'boris')
                             FROM generate_series(1, 1000) AS n, LATERAL softlock_status(ARRAY['k', left(n::text, 0) || 'k'])",
                        );
                        assert_eq!(free, "0");
                        looks += 2000;
                    }
                    looks
                })
            })
            .collect();
        client
            .batch_execute(
                "DO $$ BEGIN
                    FOR n IN 1 .. 20000 LOOP
                        PERFORM softlock_renew('k', 'boris', '2 h');
                        COMMIT;
                    END LOOP;
                END $$",
            )
            .unwrap();
        is_over.store(true, Relaxed);
        lookers.into_iter().map(|l| l.join().unwrap()).collect()
    });
    assert!(looks.iter().all(|&looks| looks > 0), "{looks:?}");
}

#[test]
fn a_standby_sees_what_is_held_and_what_is_free() {
    let primary = Cluster::start(&[]);
    let mut client = primary.with_extension("postgres");
    let standby = primary.standby();
    let mut reader = standby.connect("postgres");
    client
        .batch_execute(
            "SELECT softlock_acquire('held', 'anna'); SELECT softlock_acquire('released', 'anna');
             SELECT softlock_release('released', 'anna');
             SELECT softlock_acquire('renewed', 'anna'); SELECT softlock_acquire('consumed', 'anna');
             BEGIN; SAVEPOINT s; SELECT softlock_acquire('undone', 'anna'); ROLLBACK TO s;
             SELECT softlock_acquire('taken later', 'anna'); COMMIT;
             BEGIN; SELECT softlock_acquire('rolled back', 'anna'); ROLLBACK;
             BEGIN; SELECT softlock_renew('renewed', 'anna', '2 h');
             SELECT softlock_consume('{consumed}', 'anna');
             SAVEPOINT s; SELECT softlock_acquire('open undone', 'anna'); ROLLBACK TO s;
             SELECT softlock_acquire('open', 'anna')",
        )
        .unwrap();
    // What an open transaction has written is sent along with somebody else's commit.
    let mut other = primary.connect("postgres");
    other.ask("SELECT softlock_acquire('mark', 'boris')");
    wait_until("the last grant on the standby", || {
        reader.ask("SELECT is_locked FROM softlock_status('{mark}')") == "t"
    });
    let held = "SELECT string_agg(resource, ', ' ORDER BY n) FILTER (WHERE is_locked) FROM softlock_status(
        '{held,released,renewed,consumed,undone,taken later,rolled back,open undone,open}')
        WITH ORDINALITY AS s(resource, is_locked, a, b, c, d, e, f, g, h, i, units, n)";
    assert_eq!(reader.ask(held), "held, renewed, consumed, taken later");
    let refused = reader
        .simple_query("SELECT softlock_acquire('released', 'boris')")
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    client.batch_execute("COMMIT").unwrap();
    wait_until("the commit on the standby", || {
        reader.ask(held) == "held, renewed, taken later, open"
    });
}
