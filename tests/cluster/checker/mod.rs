//! The randomized checker: many connections do at random whatever softlock offers, and what they were
//! told is then proven to fit together.
//!
//! `SOFTLOCK_CHECK_SECONDS` says how long, `SOFTLOCK_SEED` repeats what was drawn.

pub mod client;
pub mod crash;
pub mod history;
#[cfg(test)]
mod history_tests;
pub mod load;
mod verbs;

use std::collections::BTreeMap;
use std::env;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::harness::{Ask, Cluster};
use client::{Client, Counts};
use history::{Event, contradictions};

pub use crash::{compare, rows};

/// Set up beside the extension: the items that were sold, with nothing but the locks to keep one
/// from being sold twice, and a row per busy key for the guard.
pub const SHOP: &str = "
    CREATE TABLE sold (item int NOT NULL, token bigint NOT NULL);
    CREATE INDEX ON sold (item);
    CREATE TABLE guarded (key text PRIMARY KEY, writes bigint NOT NULL DEFAULT 0);
    INSERT INTO guarded SELECT 'busy:0' || n FROM generate_series(0, 3) AS n;
    CREATE TRIGGER held BEFORE UPDATE OR DELETE ON guarded
        FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'key')";

pub fn seconds() -> u64 {
    env::var("SOFTLOCK_CHECK_SECONDS").map_or(8, |text| text.parse().expect("seconds"))
}

pub fn rng() -> Rng {
    let seed = env::var("SOFTLOCK_SEED").map_or_else(
        |_| fastrand::u64(..),
        |text| text.parse().expect("a number as SOFTLOCK_SEED"),
    );
    println!("SOFTLOCK_SEED={seed}");
    Rng::with_seed(seed)
}

pub type Load = fn(&mut Client);

/// What else happens while the loads run.
#[derive(Clone, Copy, Default)]
pub struct Disturbance {
    /// Somebody has a snapshot open all the time, so that vacuum can't clean up.
    old_snapshot: bool,
    /// One of the server's processes is killed in the middle.
    kill: bool,
}

/// Runs each load in a thread of its own, again and again until the time is up or the server has died.
pub fn run(
    cluster: &Cluster,
    loads: &[Load],
    time: Duration,
    disturbance: Disturbance,
    rng: &mut Rng,
) -> (Vec<Event>, Counts) {
    let start = Barrier::new(loads.len());
    let clients = loads.iter().enumerate().map(|(at, load)| {
        // Two connections act for each owner.
        let client = Client::new(
            cluster.connect("postgres"),
            format!("owner{}", at / 2),
            rng.fork(),
        );
        (client, load)
    });
    let mut clients: Vec<_> = clients.collect();
    let victim = rng.usize(..loads.len());
    let victim = clients[victim].0.connection.ask("SELECT pg_backend_pid()");
    let mut reader = cluster.connect("postgres");
    if disturbance.old_snapshot {
        reader
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()")
            .unwrap();
    }
    let end = Instant::now() + time;
    let dies_after = time.mul_f64(0.4 + rng.f64() / 2.0);
    let (mut events, mut counts) = (Vec::new(), Counts::new());
    thread::scope(|scope| {
        let start = &start;
        let runs: Vec<_> = clients
            .into_iter()
            .map(|(mut client, load)| {
                scope.spawn(move || {
                    start.wait();
                    // The victim must be there still when it is killed, however slow the machine is.
                    while (disturbance.kill || Instant::now() < end) && !client.is_lost {
                        load(&mut client);
                    }
                    (client.events, client.counts)
                })
            })
            .collect();
        if disturbance.kill {
            thread::sleep(dies_after);
            crash::kill(victim.parse().expect("a process id"));
        }
        for run in runs {
            let (its_events, its_counts) = run.join().expect("the client met nothing unexpected");
            events.extend(its_events);
            add(&mut counts, its_counts);
        }
    });
    (events, counts)
}

pub fn add(counts: &mut Counts, more: Counts) {
    for (what, count) in more {
        *counts.entry(what).or_default() += count;
    }
}

/// The largest token that each resource has been told, which later ones have to be past.
pub fn largest_told(events: &[Event]) -> Vec<Event> {
    let mut largest: BTreeMap<&str, &Event> = BTreeMap::new();
    let token = |event: &Event| match event {
        Event::Drawn { token, .. } => *token,
        _ => 0,
    };
    for event in events {
        if let Event::Drawn { resource, .. } = event {
            let known = largest.entry(resource).or_insert(event);
            if token(event) > token(known) {
                *known = event;
            }
        }
    }
    largest.into_values().cloned().collect()
}

#[test]
fn no_two_holders_overlap_and_nothing_is_sold_twice_whatever_happens() {
    let cluster = Cluster::start(&[
        "softlock.sweep_interval = 1",
        "log_min_messages = log",
        "max_prepared_transactions = 30",
        "restart_after_crash = on",
    ]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    let mut rng = rng();
    let mut loads: Vec<Load> = vec![load::busy_keys; 8];
    loads.extend([load::till as Load; 8]);
    loads.extend([load::long_holds as Load; 4]);
    loads.push(load::administrator);
    // In slices, so that the history of a long run need not be kept whole.
    let slice = Duration::from_secs((seconds() / 4).clamp(1, 20));
    let end = Instant::now() + Duration::from_secs(seconds());
    let (mut counts, mut told) = (Counts::new(), Vec::new());
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        let disturbance = Disturbance {
            old_snapshot: round % 2 == 1,
            kill: round % 4 < 2,
        };
        let began = client::now();
        let (mut events, slice_counts) = run(&cluster, &loads, slice, disturbance, &mut rng);
        add(&mut counts, slice_counts);
        let mut wrong = Vec::new();
        if disturbance.kill {
            wrong = crash::contradictions(&cluster, &events, began, &mut rng);
            *counts.entry("crash".into()).or_default() += 1;
        }
        events.append(&mut told);
        wrong.extend(contradictions(&events));
        assert!(
            wrong.is_empty(),
            "{} contradictions:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        told = largest_told(&events);
        // The next slice knows nothing of this one's holds.
        client = cluster.reconnect("postgres");
        client
            .batch_execute("SELECT softlock_break(resource) FROM softlock_active")
            .unwrap();
    }
    let twice = client
        .ask("SELECT count(*) FROM (SELECT FROM sold GROUP BY item HAVING count(*) > 1) AS twice");
    assert_eq!(twice, "0", "items were sold twice");
    let sold: u64 = client.ask("SELECT count(*) FROM sold").parse().unwrap();
    let count = |what: &str| counts.get(what).copied().unwrap_or_default();
    let confirmed = count("sold");
    assert!(
        (confirmed..=confirmed + count("sold perhaps")).contains(&sold),
        "{sold} sales, of which {confirmed} were confirmed"
    );
    println!("{counts:#?}\nsold twice: {twice}");
    for what in [
        "granted",
        "renewed",
        "moved",
        "held",
        "contended",
        "committed",
        "rolled back",
        "prepared",
        "savepoint rolled back",
        "savepoint released",
        "release: released",
        "release: held",
        "renew: renewed",
        "release_all",
        "cart taken",
        "cart refused",
        "sold",
        "broken",
        "swept",
        "guarded write",
        "status",
        "crash",
        "error SL001",
        "error SL002",
        "error 40001",
    ] {
        assert!(counts.contains_key(what), "never happened: {what}");
    }
}

#[test]
fn the_checker_catches_check_then_write() {
    let cluster = Cluster::start_bare(&[]);
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(include_str!("check_then_write.sql"))
        .unwrap();
    let mut rng = rng();
    let loads = [load::few_verbs as Load; 8];
    let caught = (0..30).any(|_| {
        let time = Duration::from_secs(1);
        let (events, _) = run(&cluster, &loads, time, Disturbance::default(), &mut rng);
        contradictions(&events)
            .iter()
            .any(|wrong| wrong.contains("at least"))
    });
    assert!(caught, "no overlap found in what is known to be broken");
}

#[test]
fn carts_in_opposite_orders_never_deadlock_and_never_both_win() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    let keys: Vec<_> = (0..10).map(|n| format!("kit:{n}")).collect();
    let backwards: Vec<_> = keys.iter().rev().cloned().collect();
    let mut tills = [("anna", keys), ("boris", backwards)].map(|(owner, keys)| {
        let connection = cluster.connect("postgres");
        (connection, owner, keys)
    });
    let mut wins = 0;
    for round in 0..100 {
        let start = Barrier::new(2);
        let won = thread::scope(|scope| {
            let start = &start;
            let runs = tills.each_mut().map(|(connection, owner, keys)| {
                scope.spawn(move || {
                    start.wait();
                    let take = "SELECT softlock_acquire_many($1, $2)";
                    let answer: Value = connection.query_one(take, &[keys, owner]).unwrap().get(0);
                    answer["acquired"] == true
                })
            });
            runs.map(|run| run.join().unwrap())
        });
        assert_ne!(won, [true, true], "round {round}");
        let expected = if won.contains(&true) { "10" } else { "0" };
        assert_eq!(client.rows().to_string(), expected, "round {round}");
        wins += u32::from(won.contains(&true));
        client
            .batch_execute("SELECT softlock_break(resource) FROM softlock_active")
            .unwrap();
    }
    assert!(wins > 0, "nobody ever won");
}
