//! Units of a resource: never more than there are, whatever happens at the same time.

mod sell_out;
mod undone;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::Client;
use postgres::error::SqlState;

use crate::harness::{Ask, Cluster, wait_until};

/// A resource's live units, with all of its capacity free again for who asks after the ends that no account
/// hears of: lapses, prepared transactions, a terminated backend.
#[test]
fn what_ends_unseen_is_free_again() {
    let cluster = Cluster::start(&[
        "max_prepared_transactions = 5",
        "softlock.sweep_interval = 0",
    ]);
    let mut client = cluster.with_extension("postgres");
    let take = |units: usize, ttl: &str, owner: &str| {
        format!(
            "SELECT softlock_acquire('k', '{owner}', '{ttl}', units => {units}, capacity => 10)->>'outcome'"
        )
    };
    let held = "SELECT units FROM softlock_status('{k}')";
    client.ask(&take(6, "20 ms", "anna"));
    wait_until("the lapse", || client.ask(held) == "0");
    assert_eq!(client.ask(&take(10, "1 h", "boris")), "granted");
    client.ask("SELECT softlock_release('k', 'boris')");
    client
        .batch_execute(&format!(
            "BEGIN; {}; PREPARE TRANSACTION 'p'",
            take(7, "1 h", "anna")
        ))
        .unwrap();
    assert_eq!(client.ask(&take(4, "1 h", "boris")), "contended");
    assert_eq!(client.ask(&take(3, "1 h", "boris")), "granted");
    client.batch_execute("ROLLBACK PREPARED 'p'").unwrap();
    assert_eq!(client.ask(&take(10, "1 h", "boris")), "renewed");
    client.ask("SELECT softlock_release('k', 'boris')");
    let mut victim = cluster.connect("postgres");
    victim
        .batch_execute(&format!("BEGIN; {}", take(10, "1 h", "anna")))
        .unwrap();
    let pid = victim.ask("SELECT pg_backend_pid()");
    assert_eq!(client.ask(&take(1, "1 h", "boris")), "contended");
    client.ask(&format!("SELECT pg_terminate_backend({pid})"));
    wait_until("the units of the terminated backend", || {
        client.ask(&take(10, "1 h", "boris")) != "contended"
    });
    assert_eq!(client.ask(held), "10");
}

/// Others count a lock that lapses while it is being renewed as gone, and touch no row of it when they take
/// its units, or one more lock.
#[test]
fn a_renewal_that_comes_too_late_does_not_bring_a_lock_back() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0"]);
    let (mut admin, mut client) = (
        cluster.with_extension("postgres"),
        cluster.connect("postgres"),
    );
    for (renewal, too_late) in [
        ("softlock_renew('k', 'anna')->>'outcome'", "expired"),
        ("softlock_renew_all('anna')->>'lapsed'", "[\"k\"]"),
    ] {
        loop {
            client.ask("SELECT softlock_acquire('k', 'anna', '300 ms', units => 2, capacity => 3)");
            // It finds the lock alive, and then has to wait for about a second at most.
            admin
                .batch_execute("BEGIN; LOCK TABLE softlock.locks IN SHARE MODE")
                .unwrap();
            let answer = thread::scope(|scope| {
                let renewing = scope.spawn(|| client.query_one(&format!("SELECT {renewal}"), &[]));
                let live = "SELECT count(*) FROM softlock_active";
                wait_until("the lapse", || admin.ask(live) == "0");
                admin.batch_execute("COMMIT").unwrap();
                renewing.join().unwrap()
            });
            match answer {
                Ok(row) => {
                    assert_eq!(row.get::<_, String>(0), too_late);
                    break;
                }
                // The machine was too slow to show it.
                Err(error) => assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE)),
            }
        }
    }
}

/// As `docs/scaling/split` copies them to a new server.
#[test]
fn units_that_a_superuser_brings_by_sql_count() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0"]);
    let mut client = cluster.with_extension("postgres");
    let take = |owner: &str, units: usize| {
        format!(
            "SELECT softlock_acquire('k', '{owner}', '1 h', units => {units}, capacity => 5)->>'outcome'"
        )
    };
    client.ask(&take("anna", 4));
    let file = cluster.dir().join("kept");
    let file = file.display();
    client
        .batch_execute(&format!(
            "CREATE TABLE kept AS TABLE softlock.locks; COPY kept TO '{file}';
             CREATE FUNCTION by_function() RETURNS void LANGUAGE sql AS
                 $$ UPDATE softlock.locks SET units = 4 WHERE owner = 'anna' $$"
        ))
        .unwrap();
    let copy = format!("COPY softlock.locks FROM '{file}'");
    for (units, bring) in [
        (0, "INSERT INTO softlock.locks TABLE kept"),
        (0, &copy),
        (1, "SELECT by_function()"),
    ] {
        for (begin, end) in [("", ""), ("BEGIN", "COMMIT")] {
            client.batch_execute("TRUNCATE softlock.locks").unwrap();
            if units > 0 {
                assert_eq!(client.ask(&take("anna", units)), "granted");
            }
            // It has been counted.
            assert_eq!(client.ask(&take("boris", 1)), "granted");
            client.batch_execute(begin).unwrap();
            client.batch_execute(bring).unwrap();
            assert_eq!(client.ask(&take("clara", 1)), "held", "{bring}");
            client.batch_execute(end).unwrap();
            assert_eq!(client.ask(&take("clara", 1)), "held", "{bring}");
        }
    }
}

#[test]
fn an_owners_limit_holds_exactly_under_concurrency() {
    let cluster = Cluster::start(&["max_connections = 100"]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("INSERT INTO softlock.policies (kind, max_per_owner) VALUES ('seat', 5)")
        .unwrap();
    let connections: Vec<_> = (0..64).map(|_| cluster.connect("postgres")).collect();
    let is_over = AtomicBool::new(false);
    let (granted, quota) = thread::scope(|scope| {
        let runs: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| {
                scope.spawn(move || {
                    let (mut granted, mut quota) = (0, 0);
                    for round in 0..20 {
                        let seat = format!("seat:{}", (n * 7 + round * 3) % 100);
                        let take = format!("SELECT softlock_acquire('{seat}', 'anna')->>'outcome'");
                        match client.ask(&take).as_str() {
                            "granted" => granted += 1,
                            "quota" => quota += 1,
                            "renewed" | "contended" => (),
                            other => panic!("{other}"),
                        }
                        if round % 4 == 0 {
                            client.ask(&format!("SELECT softlock_release('{seat}', 'anna')"));
                        }
                    }
                    (granted, quota)
                })
            })
            .collect();
        let is_over = &is_over;
        let watching = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let most = client.ask("SELECT count(*) FROM softlock_active");
                assert!(most.parse::<i64>().unwrap() <= 5, "{most}");
            }
        });
        let counts = runs.into_iter().map(|run| run.join().unwrap());
        let counts = counts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap();
        counts
    });
    assert!(
        granted >= 5 && quota > 0,
        "{granted} granted, {quota} refused"
    );
}

#[test]
fn all_seats_get_sold_to_those_who_want_any() {
    let cluster = Cluster::start(&["max_connections = 60"]);
    let mut client = cluster.with_extension("postgres");
    let seats: Vec<_> = (0..100).map(|n| format!("seat:{n}")).collect();
    let seats = seats.join(",");
    for count in [1, 3] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS sold; CREATE TABLE sold (seat text PRIMARY KEY); SELECT softlock_break_all(prefix => 'seat:')",
            )
            .unwrap();
        let connections: Vec<_> = (0..32).map(|_| cluster.connect("postgres")).collect();
        thread::scope(|scope| {
            for (n, mut client) in connections.into_iter().enumerate() {
                let seats = &seats;
                scope.spawn(move || {
                    loop {
                        // A sold seat stays held, so that nobody is offered it.
                        let got = client.ask(&format!(
                            "WITH got AS MATERIALIZED (
                                 SELECT softlock_acquire_any('{{{seats}}}', 'owner{n}:' || gen_random_uuid(), {count}) AS g)
                             , bought AS (INSERT INTO sold SELECT l->>'resource' FROM got, jsonb_array_elements(g->'locks') AS l RETURNING 1)
                             SELECT (g->>'acquired') || ' ' || coalesce((SELECT string_agg(DISTINCT c->>'outcome', ' ') FROM jsonb_array_elements(g->'conflicts') AS c), '') FROM got"
                        ));
                        match got.trim_end() {
                            "true" => (),
                            // Nobody is taking any more: fewer are left than asked for.
                            "false held" => return,
                            other => assert!(other.starts_with("false"), "{other}"),
                        }
                    }
                });
            }
        });
        let sold: usize = client.ask("SELECT count(*) FROM sold").parse().unwrap();
        assert_eq!(sold, 100 / count * count, "any {count} of 100");
    }
}

#[test]
fn those_who_want_any_three_of_four_do_not_all_refuse_each_other() {
    let cluster = Cluster::start(&[]);
    drop(cluster.with_extension("postgres"));
    let connections: Vec<_> = (0..8).map(|_| cluster.connect("postgres")).collect();
    let granted: usize = thread::scope(|scope| {
        let runs: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| {
                scope.spawn(move || {
                    // In another order each, so that they are in each other's way.
                    let order = ["a,b,c,d", "d,c,b,a", "b,d,a,c", "c,a,d,b"][n % 4];
                    let call = format!(
                        "SELECT softlock_acquire_any('{{{order}}}', 'owner{n}', 3)->>'acquired'"
                    );
                    let mut granted = 0;
                    for _ in 0..300 {
                        if client.ask(&call) == "true" {
                            granted += 1;
                            client.ask(&format!("SELECT softlock_release_all('owner{n}')"));
                        }
                    }
                    granted
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(granted > 100, "{granted}");
}

#[test]
fn a_policy_counts_from_the_next_call_on_in_every_session() {
    let cluster = Cluster::start(&[]);
    let mut dba = cluster.with_extension("postgres");
    let mut till = cluster.connect("postgres");
    let mut seconds = |dba: &mut Client, change: &str| {
        dba.batch_execute(change).unwrap();
        till.batch_execute("SELECT softlock_release('kit:1', 'anna')")
            .unwrap();
        till.ask("SELECT softlock_acquire('kit:1', 'anna')");
        till.ask("SELECT round(extract(epoch FROM expires_at - acquired_at)) FROM softlock_active")
    };
    assert_eq!(seconds(&mut dba, "SELECT 1"), "1800");
    let write = "INSERT INTO softlock.policies (kind, default_ttl) VALUES ('kit', '1 min')";
    assert_eq!(seconds(&mut dba, write), "60");
    assert_eq!(
        seconds(&mut dba, "UPDATE softlock.policies SET max_hold = '30 s'"),
        "30"
    );
    // What is not committed is nobody else's yet, also where the table is locked by it.
    let open = "BEGIN; TRUNCATE softlock.policies";
    assert_eq!(seconds(&mut dba, open), "30");
    assert_eq!(seconds(&mut dba, "COMMIT"), "1800");
    assert_eq!(till.ask("SELECT count(*) FROM softlock.policies"), "0");
}

#[test]
fn nobody_waits_for_others_units_and_who_waits_is_woken_when_there_are_enough() {
    let cluster = Cluster::start(&[]);
    let mut anna = cluster.with_extension("postgres");
    let (mut boris, mut clara) = (cluster.connect("postgres"), cluster.connect("postgres"));
    anna.batch_execute("BEGIN; SELECT softlock_acquire('k', 'anna', units => 4, capacity => 5)")
        .unwrap();
    let take = |owner: &str, units: usize, wait: &str| {
        format!(
            "SELECT softlock_acquire('k', '{owner}', units => {units}, capacity => 5, wait => '{wait}')->>'outcome'"
        )
    };
    assert_eq!(boris.ask(&take("boris", 1, "0")), "granted");
    let pid = boris.ask("SELECT pg_backend_pid()");
    let waiting = thread::spawn(move || boris.ask(&take("boris", 4, "50 s")));
    wait_until("boris in line", || {
        clara.ask(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event IS NOT NULL AND state = 'active'"
        )) == "1"
    });
    anna.batch_execute("ROLLBACK").unwrap();
    assert_eq!(waiting.join().unwrap(), "renewed");
    let error = clara
        .batch_execute("SELECT softlock_acquire('k', 'clara', units => 0)")
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
}

#[test]
fn lapsed_locks_of_other_resources_beside_those_that_have_units_are_taken_over() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0"]);
    let mut client = cluster.with_extension("postgres");
    // So many of both that some share a mutex.
    client
        .batch_execute(
            "SELECT softlock_acquire('rose:' || n, 'anna', units => 2, capacity => 9) FROM generate_series(1, 50) AS n;
             SELECT softlock_acquire('kit:' || n, 'anna', '1 microsecond') FROM generate_series(1, 2000) AS n",
        )
        .unwrap();
    let granted = "SELECT count(*) FROM generate_series(1, 2000) AS n
                   WHERE softlock_acquire('kit:' || n, 'boris')->>'outcome' = 'granted'";
    assert_eq!(client.ask(granted), "2000");
}

#[test]
fn in_a_copy_of_a_database_units_are_whose_they_were() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("shop");
    let ask = |owner: &str, units: u32| {
        format!(
            "SELECT concat_ws(' ', a->>'outcome', a->>'available')
             FROM softlock_acquire('rose', '{owner}', '1 h', units => {units}, capacity => 10) AS a"
        )
    };
    assert_eq!(client.ask(&ask("anna", 3)), "granted");
    assert_eq!(client.ask(&ask("boris", 3)), "granted");
    drop(client);
    let copy = "CREATE DATABASE copy TEMPLATE shop";
    cluster.connect("postgres").batch_execute(copy).unwrap();
    let mut client = cluster.connect("copy");
    assert_eq!(client.ask(&ask("anna", 4)), "renewed");
    assert_eq!(client.ask(&ask("clara", 4)), "held 3");
    assert_eq!(
        client.ask("SELECT softlock_consume('{rose}', 'boris')->>'consumed_count'"),
        "1"
    );
    assert_eq!(
        client.ask("SELECT units FROM softlock_status('{rose}')"),
        "4"
    );
    assert_eq!(client.rows(), 1);
}
