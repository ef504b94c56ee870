//! The randomized checker: many connections do at random whatever softlock offers, and what they were
//! told is then proven to fit together.
//!
//! `SOFTLOCK_CHECK_SECONDS` says how long, `SOFTLOCK_SEED` repeats what was drawn.

mod client;
mod history;
mod load;

use std::env;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::harness::{Ask, Cluster};
use client::{Client, Counts};
use history::{Event, contradictions};

/// Set up beside the extension: the items that were sold, with nothing but the locks to keep one
/// from being sold twice, and a row per busy key for the guard.
const SHOP: &str = "
    CREATE TABLE sold (item int NOT NULL, token bigint NOT NULL);
    CREATE INDEX ON sold (item);
    CREATE TABLE guarded (key text PRIMARY KEY, writes bigint NOT NULL DEFAULT 0);
    INSERT INTO guarded SELECT 'busy:' || n FROM generate_series(0, 3) AS n;
    CREATE TRIGGER held BEFORE UPDATE OR DELETE ON guarded
        FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'key')";

fn seconds() -> u64 {
    env::var("SOFTLOCK_CHECK_SECONDS").map_or(8, |text| text.parse().expect("seconds"))
}

fn rng() -> Rng {
    let seed = env::var("SOFTLOCK_SEED").map_or_else(
        |_| fastrand::u64(..),
        |text| text.parse().expect("a number as SOFTLOCK_SEED"),
    );
    println!("SOFTLOCK_SEED={seed}");
    Rng::with_seed(seed)
}

type Load = fn(&mut Client);

/// Runs each load in a thread of its own, again and again until the time is up.
fn run(cluster: &Cluster, loads: &[Load], time: Duration, rng: &mut Rng) -> (Vec<Event>, Counts) {
    let end = Instant::now() + time;
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
    let clients: Vec<_> = clients.collect();
    let (mut events, mut counts) = (Vec::new(), Counts::new());
    thread::scope(|scope| {
        let start = &start;
        let runs: Vec<_> = clients
            .into_iter()
            .map(|(mut client, load)| {
                scope.spawn(move || {
                    start.wait();
                    while Instant::now() < end {
                        load(&mut client);
                    }
                    (client.events, client.counts)
                })
            })
            .collect();
        for run in runs {
            let (its_events, its_counts) = run.join().expect("the client met nothing unexpected");
            events.extend(its_events);
            for (what, count) in its_counts {
                *counts.entry(what).or_default() += count;
            }
        }
    });
    (events, counts)
}

#[test]
fn no_two_holders_overlap_and_nothing_is_sold_twice_whatever_happens() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 1", "log_min_messages = log"]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    let mut rng = rng();
    let mut loads: Vec<Load> = vec![load::busy_keys; 8];
    loads.extend([load::till as Load; 8]);
    loads.push(load::administrator);
    // In slices, so that the history of a long run need not be kept whole.
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut counts = Counts::new();
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let slice = left.min(Duration::from_secs(20));
        let (events, slice_counts) = run(&cluster, &loads, slice, &mut rng);
        let wrong = contradictions(&events);
        assert!(
            wrong.is_empty(),
            "{} contradictions:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        for (what, count) in slice_counts {
            *counts.entry(what).or_default() += count;
        }
        // The next slice knows nothing of this one's holds.
        client
            .batch_execute("SELECT softlock_break(resource) FROM softlock_active")
            .unwrap();
    }
    let twice = client
        .ask("SELECT count(*) FROM (SELECT FROM sold GROUP BY item HAVING count(*) > 1) AS twice");
    assert_eq!(twice, "0", "items were sold twice");
    let sold: u64 = client.ask("SELECT count(*) FROM sold").parse().unwrap();
    assert_eq!(
        Some(&sold),
        counts.get("sold"),
        "each sale that was confirmed, and no other"
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
        "savepoint rolled back",
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
        "error 55P03",
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
        let (events, _) = run(&cluster, &loads, Duration::from_secs(1), &mut rng);
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
