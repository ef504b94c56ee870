//! Of carts that overlap at least one is taken: they do not all refuse each other.

use std::panic::catch_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Ask, Cluster, wait_until};
use fastrand::Rng;

/// A cart that was asked for.
#[derive(Clone)]
struct Call {
    began: Instant,
    answered: Instant,
    answer: Answer,
}

#[derive(Clone)]
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

/// One who takes carts.
struct Client {
    connection: postgres::Client,
    owner: String,
    rng: Rng,
    draw: Draw,
}

impl Client {
    fn many(cluster: &Cluster, clients: usize, draw: Draw) -> Vec<Client> {
        (0..clients)
            .map(|n| Client {
                connection: cluster.connect("postgres"),
                owner: format!("owner{n}"),
                rng: Rng::new(),
                draw,
            })
            .collect()
    }

    fn ask(&mut self) -> Call {
        let cart = (self.draw)(&mut self.rng);
        let began = Instant::now();
        let row = self.connection.query_one(
            "SELECT a->>'acquired' = 'true', a->'conflicts' @? '$[*].outcome ? (@ == \"held\")'
             FROM softlock_acquire_many($1, $2) AS a",
            &[&cart, &self.owner],
        );
        let answered = Instant::now();
        let (taken, held): (bool, Option<bool>) = row.map(|row| (row.get(0), row.get(1))).unwrap();
        let answer = match (taken, held) {
            (true, _) => Answer::Taken(answered),
            (false, Some(true)) => Answer::Held,
            (false, _) => Answer::Contended,
        };
        Call {
            began,
            answered,
            answer,
        }
    }

    fn give_back(&mut self) {
        self.connection
            .execute("SELECT softlock_release_all($1)", &[&self.owner])
            .unwrap();
    }

    /// Asks for a cart, and gives it back at once.
    fn shop(&mut self) -> Call {
        let mut call = self.ask();
        if let Answer::Taken(given_back) = &mut call.answer {
            self.give_back();
            *given_back = Instant::now();
        }
        call
    }
}

/// What each of the clients does, beginning at the same moment.
fn at_once<T: Send>(clients: &mut [Client], does: fn(&mut Client) -> T) -> Vec<T> {
    let start = Barrier::new(clients.len());
    thread::scope(|scope| {
        let start = &start;
        let each: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    start.wait();
                    does(client)
                })
            })
            .collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// What came of it: how many carts were taken, how many refused, and how many of these in vain: since
/// somebody was taking them, whom nobody granted anything at that time; or since somebody held them, while
/// nobody had any.
#[derive(Debug, Default)]
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

fn cluster() -> Cluster {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0", "autovacuum_naptime = 1"]);
    cluster.with_extension("postgres");
    cluster
}

/// Two and sixteen clients over the same keys, each as fast as it can: the refusals in vain are at most one in
/// a hundred. How many carts they take in a time, beside one alone, is what `make bench` measures.
fn few_are_refused_in_vain(draw: Draw) {
    const CALLS: usize = 200;
    let cluster = cluster();
    let calls = [2, 16].map(|count| {
        at_once(&mut Client::many(&cluster, count, draw), |client| {
            (0..CALLS).map(|_| client.shop()).collect::<Vec<_>>()
        })
    });
    let outcome = outcome(&calls.concat().concat());
    println!("{outcome:?}");
    assert!(outcome.taken > 0 && outcome.refused > 0, "{outcome:?}");
    assert!(outcome.in_vain * 100 <= outcome.refused, "{outcome:?}");
}

/// As often as clients ask all at once, and none gives anything back before all are answered, one is granted.
fn one_is_granted_each_time(draw: Draw) {
    let cluster = cluster();
    for count in [2, 16] {
        let mut clients = Client::many(&cluster, count, draw);
        for time in 1..=100 {
            let calls = at_once(&mut clients, Client::ask);
            let taken = |call: &Call| matches!(call.answer, Answer::Taken(_));
            assert!(calls.iter().any(taken), "time {time}, {count} clients");
            for (client, _) in clients.iter_mut().zip(&calls).filter(|(_, c)| taken(c)) {
                client.give_back();
            }
        }
    }
}

#[test]
fn few_carts_of_the_same_fifty_are_refused_in_vain() {
    few_are_refused_in_vain(fifty);
}

#[test]
fn few_carts_of_the_same_thousand_are_refused_in_vain() {
    few_are_refused_in_vain(thousand);
}

#[test]
fn few_carts_of_three_of_twenty_are_refused_in_vain() {
    few_are_refused_in_vain(three_of_twenty);
}

#[test]
fn of_carts_of_the_same_fifty_asked_for_at_once_one_is_granted() {
    one_is_granted_each_time(fifty);
}

#[test]
fn of_carts_of_the_same_thousand_asked_for_at_once_one_is_granted() {
    one_is_granted_each_time(thousand);
}

#[test]
fn of_carts_of_three_of_twenty_asked_for_at_once_one_is_granted() {
    one_is_granted_each_time(three_of_twenty);
}

#[test]
fn who_comes_back_at_once_with_a_refused_cart_gives_way_to_others() {
    const GIVES_WAY: &str = "SELECT count(*) FROM pg_stat_activity
         WHERE application_name = 'hasty' AND wait_event = 'Extension'";
    let cluster = cluster();
    let mut clients = Client::many(&cluster, 2, thousand);
    let (anna, boris) = clients.split_at_mut(1);
    assert!(matches!(anna[0].ask().answer, Answer::Taken(_)));
    let hasty = &mut boris[0];
    hasty
        .connection
        .batch_execute("SET application_name = 'hasty'")
        .unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                assert!(matches!(hasty.ask().answer, Answer::Held));
            }
        });
        // Also where it is not seen to, the other must come to its end.
        let seen = catch_unwind(|| {
            let mut observer = cluster.connect("postgres");
            wait_until("it gives way", || observer.ask(GIVES_WAY) == "1");
        });
        is_over.store(true, Relaxed);
        seen.unwrap();
    });
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
