//! Units of a resource: never more than there are, whatever happens at the same time.
//!
//! `SOFTLOCK_CHECK_SECONDS` says how long the randomized test runs.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use postgres::Client;
use postgres::error::SqlState;

use crate::harness::{Ask, Cluster, wait_until};

const CLIENTS: usize = 32;
const RESOURCES: usize = 8;

/// A stock for each resource: what there was, and what has been sold of it. Units come off it in the sale's
/// own transaction, and nothing but the holds keeps it from being sold too often.
const SHOP: &str = "
    CREATE TABLE stock (id int PRIMARY KEY, on_hand int NOT NULL CHECK (on_hand >= 0), brought int NOT NULL,
                        sold int NOT NULL DEFAULT 0)";

fn seconds() -> u64 {
    env::var("SOFTLOCK_CHECK_SECONDS").map_or(6, |text| text.parse().expect("seconds"))
}

/// What one till did, counted.
#[derive(Default, Debug)]
struct Done {
    granted: usize,
    refused: usize,
    sold: usize,
    rolled_back: usize,
    not_held: usize,
}

impl Done {
    fn add(mut self, other: Done) -> Done {
        self.granted += other.granted;
        self.refused += other.refused;
        self.sold += other.sold;
        self.rolled_back += other.rolled_back;
        self.not_held += other.not_held;
        self
    }
}

/// The stock of `id` where there is any: read under a lock that a sale conflicts with, so that it is not an
/// old number.
fn stock(id: usize) -> String {
    format!("(SELECT on_hand FROM stock WHERE id = {id} AND on_hand > 0 FOR SHARE OFFSET 0)")
}

/// Takes units as many as `units`, with the stock as the capacity.
fn take(id: usize, owner: &str, units: usize, ttl: &str) -> String {
    format!(
        "SELECT coalesce((SELECT softlock_acquire('rose:{id}', '{owner}', '{ttl}', units => {units}, capacity => on_hand)->>'acquired'
                          FROM {} AS s), 'none left')",
        stock(id)
    )
}

/// Sells what `owner` has of it. Renewed first, in the sale's own transaction, so that the number that comes
/// off the stock is that of the hold that ends: another connection acts for the same owner.
fn sell(client: &mut Client, id: usize, owner: &str, end: &str) -> bool {
    client.batch_execute("BEGIN").unwrap();
    let renewed = client.ask(&format!(
        "SELECT softlock_renew('rose:{id}', '{owner}')->>'outcome'"
    ));
    if renewed != "renewed" {
        client.batch_execute("ROLLBACK").unwrap();
        return false;
    }
    client
        .batch_execute(&format!(
            "UPDATE stock AS s SET on_hand = on_hand - l.units, sold = sold + l.units
             FROM softlock.locks AS l WHERE s.id = {id} AND l.resource = 'rose:{id}' AND l.owner = '{owner}';
             SELECT softlock_consume('{{rose:{id}}}', '{owner}'); {end}"
        ))
        .unwrap();
    true
}

/// One thing that a till does.
fn step(client: &mut Client, rng: &mut Rng, owner: &str, done: &mut Done) {
    let id = rng.usize(..RESOURCES);
    let units = 1 + rng.usize(..4);
    let ttl = ["30 ms", "1 s", "1 min"][rng.usize(..3)];
    let mut count = |answer: String| match answer.as_str() {
        "true" => done.granted += 1,
        "false" => done.refused += 1,
        other => assert_eq!(other, "none left"),
    };
    match rng.usize(..10) {
        0..=3 => count(client.ask(&take(id, owner, units, ttl))),
        4 => drop(client.ask(&format!("SELECT softlock_release('rose:{id}', '{owner}')"))),
        5 => {
            // A cart of several, of which the first is given back to a savepoint.
            let other = (id + 1) % RESOURCES;
            let (first, second) = (take(id, owner, units, ttl), take(other, owner, 1, ttl));
            let all = format!("BEGIN; SAVEPOINT s; {first}; ROLLBACK TO s; {second}; COMMIT");
            client.batch_execute(&all).unwrap();
        }
        6 => {
            let taken = take(id, owner, units, ttl);
            client
                .batch_execute(&format!("BEGIN; {taken}; ROLLBACK"))
                .unwrap();
            done.rolled_back += 1;
        }
        7 => {
            let (low, high) = (id.min(RESOURCES - 2), id.min(RESOURCES - 2) + 1);
            count(client.ask(&format!(
                "SELECT coalesce((SELECT softlock_acquire_many(ARRAY['rose:{low}', 'rose:{high}'], '{owner}', '{ttl}',
                                         units => '{{1,2}}', capacities => ARRAY[a.on_hand, b.on_hand])->>'acquired'
                                  FROM {} AS a, {} AS b), 'none left')",
                stock(low),
                stock(high)
            )));
        }
        _ => {
            let end = if rng.bool() { "COMMIT" } else { "ROLLBACK" };
            match sell(client, id, owner, end) {
                true if end == "COMMIT" => done.sold += 1,
                true => done.rolled_back += 1,
                false => done.not_held += 1,
            }
        }
    }
}

/// Looks again and again whether more is held than there is, in one snapshot of locks and stock. Nothing
/// brings the stock down but sales, which end the holds of what they sell.
fn watch(client: &mut Client, is_over: &AtomicBool) -> usize {
    let mut looks = 0;
    while !is_over.load(Ordering::Relaxed) {
        let too_much = client.ask(
            "SELECT coalesce(string_agg(format('%s: %s of %s', s.id, h.units, s.on_hand), ', '), '')
             FROM stock AS s JOIN (SELECT resource, sum(units) AS units FROM softlock_active GROUP BY resource) AS h
             ON h.resource = 'rose:' || s.id AND h.units > s.on_hand",
        );
        assert_eq!(too_much, "", "more is held than there is");
        looks += 1;
    }
    looks
}

fn sell_out(preloaded: bool) {
    let settings = ["max_connections = 60", "softlock.sweep_interval = 1s"];
    let cluster = match preloaded {
        true => Cluster::start(&settings),
        false => Cluster::start_bare(&settings[..1]),
    };
    let mut setup = cluster.with_extension("postgres");
    setup.batch_execute(SHOP).unwrap();
    let stock = "INSERT INTO stock SELECT n, c, c FROM (SELECT n, (ARRAY[1, 2, 3, 5, 8, 13, 30, 50])[n + 1] AS c FROM generate_series(0, 7) AS n) AS s";
    setup.batch_execute(stock).unwrap();
    let mut old = cluster.connect("postgres");
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()")
        .unwrap();
    let (is_over, end) = (
        AtomicBool::new(false),
        Instant::now() + Duration::from_secs(seconds()),
    );
    let clients: Vec<_> = (0..CLIENTS).map(|_| cluster.connect("postgres")).collect();
    let mut watcher = cluster.connect("postgres");
    let (done, looks) = thread::scope(|scope| {
        let is_over = &is_over;
        let watching = scope.spawn(move || watch(&mut watcher, is_over));
        let tills: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| {
                scope.spawn(move || {
                    let (mut rng, mut done) = (Rng::new(), Done::default());
                    // Two connections act for each owner.
                    let owner = format!("owner{}", n / 2);
                    while Instant::now() < end {
                        step(&mut client, &mut rng, &owner, &mut done);
                    }
                    done
                })
            })
            .collect();
        // One by one: a cart locks the stock of two, in another order than an update of all of them would.
        for id in (0..RESOURCES).cycle() {
            if Instant::now() > end {
                break;
            }
            let restock = "UPDATE stock SET on_hand = on_hand + 5, brought = brought + 5 WHERE on_hand < 3 AND id =";
            setup.batch_execute(&format!("{restock} {id}")).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        let done = tills.into_iter().map(|till| till.join().unwrap());
        let done = done.fold(Done::default(), Done::add);
        is_over.store(true, Ordering::Relaxed);
        (done, watching.join().unwrap())
    });
    println!("{done:?}, {looks} looks");
    assert!(
        done.granted > 100 && done.refused > 100 && done.sold > 10,
        "{done:?}"
    );
    assert!(looks > 10);
    // What is sold never exceeds what there was, and the books are in order.
    let wrong = "SELECT count(*) FROM stock WHERE sold > brought OR on_hand < 0 OR on_hand + sold <> brought";
    assert_eq!(setup.ask(wrong), "0");
    assert_eq!(cluster.log_count("deadlock detected"), 0);
}

#[test]
fn never_more_units_are_held_than_there_are_and_never_more_sold() {
    sell_out(true);
}

#[test]
fn the_same_holds_without_preloading() {
    sell_out(false);
}

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
