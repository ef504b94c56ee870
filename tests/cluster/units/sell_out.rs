//! A shop of many tills that sells out of stock, at random, with units held, given back, lapsing and sold all the
//! time.
//!
//! `SOFTLOCK_CHECK_SECONDS` says how long it runs.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use postgres::Client;

use crate::harness::{Ask, Cluster};

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
    given_back: usize,
    not_held: usize,
}

impl Done {
    fn add(mut self, other: Done) -> Done {
        self.granted += other.granted;
        self.refused += other.refused;
        self.sold += other.sold;
        self.rolled_back += other.rolled_back;
        self.given_back += other.given_back;
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
             FROM softlock_active AS l WHERE s.id = {id} AND l.resource = 'rose:{id}' AND l.owner = '{owner}';
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
    match rng.usize(..11) {
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
            // Gives back what it has, and takes some itself, under its own name or another one; what came of it is
            // undone or not.
            let (undo, end) = [
                ("", "COMMIT"),
                ("", "ROLLBACK"),
                ("ROLLBACK TO s", "COMMIT"),
            ][rng.usize(..3)];
            let by = [owner, "guest"][rng.usize(..2)];
            let taken = take(id, by, units, ttl);
            client
                .batch_execute(&format!(
                    "BEGIN; SAVEPOINT s; SELECT softlock_release('rose:{id}', '{owner}'); {taken}; {undo}; {end}"
                ))
                .unwrap();
            done.given_back += 1;
        }
        8 => {
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
