//! Of carts that overlap at least one is taken: they do not all refuse each other.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Cluster;
use fastrand::Rng;
use postgres::Client;

/// A cart that was asked for.
struct Call {
    began: Instant,
    answered: Instant,
    answer: Answer,
}

enum Answer {
    /// Taken, and given back by then.
    Taken(Instant),
    /// Somebody held some of it.
    Held,
    /// Nobody held any of it, but somebody was taking some.
    Contended,
}

/// What a client puts into its cart.
type Draw = fn(&mut Rng) -> Vec<String>;

fn same(count: usize, rng: &mut Rng) -> Vec<String> {
    // In an order of its own each time: opposite ones are among them.
    let mut keys: Vec<_> = (0..count).map(|n| format!("kit:{n}")).collect();
    rng.shuffle(&mut keys);
    keys
}

fn fifty(rng: &mut Rng) -> Vec<String> {
    same(50, rng)
}

fn thousand(rng: &mut Rng) -> Vec<String> {
    same(1000, rng)
}

fn three_of_twenty(rng: &mut Rng) -> Vec<String> {
    rng.choose_multiple(0..20, 3)
        .into_iter()
        .map(|n| format!("kit:{n}"))
        .collect()
}

/// Takes carts, and gives each back at once, until the time is up.
fn shop(client: &mut Client, owner: &str, carts: &[Vec<String>], end: Instant) -> Vec<Call> {
    let take = client
        .prepare(
            "SELECT a->>'acquired' = 'true', a->'conflicts' @? '$[*].outcome ? (@ == \"held\")'
             FROM softlock_acquire_many($1, $2) AS a",
        )
        .unwrap();
    let give_back = client.prepare("SELECT softlock_release_all($1)").unwrap();
    let mut calls = Vec::new();
    for cart in carts.iter().cycle() {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let row = client.query_one(&take, &[cart, &owner]).unwrap();
        let answered = Instant::now();
        let (taken, held): (bool, Option<bool>) = (row.get(0), row.get(1));
        let answer = match (taken, held) {
            (true, _) => {
                client.execute(&give_back, &[&owner]).unwrap();
                Answer::Taken(Instant::now())
            }
            (false, Some(true)) => Answer::Held,
            (false, _) => Answer::Contended,
        };
        calls.push(Call {
            began,
            answered,
            answer,
        });
    }
    calls
}

/// So many clients at once, for a while.
fn shop_together(cluster: &Cluster, clients: usize, draw: Draw, time: Duration) -> Vec<Call> {
    let start = Barrier::new(clients);
    let connections: Vec<_> = (0..clients).map(|_| cluster.connect("postgres")).collect();
    thread::scope(|scope| {
        let start = &start;
        let runs: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| {
                scope.spawn(move || {
                    let mut rng = Rng::new();
                    let carts: Vec<_> = (0..100).map(|_| draw(&mut rng)).collect();
                    start.wait();
                    let end = Instant::now() + time;
                    shop(&mut client, &format!("owner{n}"), &carts, end)
                })
            })
            .collect();
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    })
}

/// What came of it: how many carts were taken, how many refused, and how many of these in vain: since
/// somebody was taking them, whom nobody granted anything at that time; or since somebody held them, while
/// nobody had any.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    taken: usize,
    refused: usize,
    in_vain: usize,
}

fn outcome(calls: &[Call]) -> Outcome {
    let taken = |until: fn(&Call, Instant) -> Instant| {
        Spans::new(calls.iter().filter_map(|call| match call.answer {
            Answer::Taken(given_back) => Some((call.began, until(call, given_back))),
            _ => None,
        }))
    };
    let (grants, holds) = (
        taken(|call, _| call.answered),
        taken(|_, given_back| given_back),
    );
    let mut outcome = Outcome::default();
    for call in calls {
        let others = match call.answer {
            Answer::Taken(_) => {
                outcome.taken += 1;
                continue;
            }
            Answer::Held => &holds,
            Answer::Contended => &grants,
        };
        outcome.refused += 1;
        outcome.in_vain += usize::from(!others.overlap(call.began, call.answered));
    }
    outcome
}

/// Spans of time.
struct Spans {
    begins: Vec<Instant>,
    /// Up to each of them, the latest end.
    ends: Vec<Instant>,
}

impl Spans {
    fn new(spans: impl Iterator<Item = (Instant, Instant)>) -> Self {
        let mut spans: Vec<_> = spans.collect();
        spans.sort();
        let latest = |last: &mut Option<Instant>, &(_, end): &(Instant, Instant)| {
            *last = (*last).max(Some(end));
            *last
        };
        Spans {
            begins: spans.iter().map(|&(begin, _)| begin).collect(),
            ends: spans.iter().scan(None, latest).collect(),
        }
    }

    fn overlap(&self, began: Instant, ended: Instant) -> bool {
        let begun = self.begins.partition_point(|&begin| begin <= ended);
        begun > 0 && self.ends[begun - 1] >= began
    }
}

/// Two and sixteen clients over the same keys: the refusals in vain are at most one in a hundred, and the
/// carts taken at least `share` of what one client takes alone. The machine may be busy with something
/// else in one of the two times, so there are more rounds where the first ones do not show the share.
fn is_progress(draw: Draw, share: f64) {
    // One at a time: sixteen clients beside it would leave the one that is alone next to nothing.
    static MEASURING: Mutex<()> = Mutex::new(());
    let _measuring = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(&["softlock.sweep_interval = 0", "autovacuum_naptime = 1"]);
    cluster.with_extension("postgres");
    let time = Duration::from_secs(1);
    for clients in [2, 16] {
        let (mut all, mut best) = (Outcome::default(), 0.0_f64);
        for round in 0..20 {
            if round >= 3 && best >= share {
                break;
            }
            let alone = outcome(&shop_together(&cluster, 1, draw, time)).taken;
            let together = outcome(&shop_together(&cluster, clients, draw, time));
            println!("{clients} clients: {together:?}, one alone takes {alone}");
            best = best.max(together.taken as f64 / alone as f64);
            all.taken += together.taken;
            all.refused += together.refused;
            all.in_vain += together.in_vain;
        }
        println!("{clients} clients: {all:?}, {best:.2} of one alone");
        assert!(
            all.in_vain * 100 <= all.refused,
            "{clients} clients: {all:?}"
        );
        assert!(best >= share, "{clients} clients: {best:.2} of one alone");
    }
}

#[test]
fn carts_of_the_same_fifty_make_progress() {
    is_progress(fifty, 0.25);
}

#[test]
fn carts_of_the_same_thousand_make_progress() {
    is_progress(thousand, 0.1);
}

#[test]
fn carts_of_three_of_twenty_make_progress() {
    is_progress(three_of_twenty, 0.25);
}

#[test]
fn a_refusal_is_in_vain_when_nobody_was_granted_anything() {
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let call = |began: u64, answered: u64, answer| Call {
        began: at(began),
        answered: at(answered),
        answer,
    };
    let calls = [
        call(0, 10, Answer::Taken(at(20))),
        call(1, 2, Answer::Taken(at(3))),
        call(5, 6, Answer::Contended),
        call(9, 12, Answer::Contended),
        call(11, 13, Answer::Contended), // in vain: it was had already
        call(11, 13, Answer::Held),
        call(19, 22, Answer::Held),
        call(21, 23, Answer::Held), // in vain
        call(25, 26, Answer::Taken(at(27))),
    ];
    let outcome = outcome(&calls);
    assert_eq!((outcome.taken, outcome.refused, outcome.in_vain), (3, 6, 2));
}
