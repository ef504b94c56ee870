//! Whole carts at once, and the same key by key.

use super::connections;
use crate::candidates::{Candidate, UPSERT_MANY, acquired};
use crate::load::{as_many_as, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

/// A way to take a cart's keys.
#[derive(Clone, Copy)]
enum Way {
    InOneCall(Candidate),
    KeyByKey(Candidate),
}

const WAYS: [Way; 5] = [
    Way::InOneCall(Candidate::Softlock),
    Way::InOneCall(Candidate::Before),
    Way::KeyByKey(Candidate::Softlock),
    Way::InOneCall(Candidate::Upsert),
    Way::KeyByKey(Candidate::Upsert),
];

impl Way {
    fn is_there(self) -> bool {
        let (Way::InOneCall(candidate) | Way::KeyByKey(candidate)) = self;
        candidate.is_there()
    }

    fn name(self) -> String {
        match self {
            Way::InOneCall(candidate) => format!("{}, one call", candidate.name()),
            Way::KeyByKey(candidate) => format!("{}, a call per key", candidate.name()),
        }
    }

    fn connect(self, owner: &str) -> Take {
        match self {
            Way::InOneCall(candidate) => in_one_call(candidate, owner),
            Way::KeyByKey(candidate) => {
                let mut till = candidate.connect(owner);
                Box::new(move |keys| keys.iter().all(|key| till.acquire(key)))
            }
        }
    }
}

/// Takes all of the keys, on a connection of its own: whether it got them.
pub type Take = Box<dyn FnMut(&[String]) -> bool + Send>;

/// All of the keys at once.
pub fn in_one_call(candidate: Candidate, owner: &str) -> Take {
    let mut client = candidate.server().connect(server::DATABASE);
    let owner = owner.to_owned();
    let statement = match candidate {
        Candidate::Upsert => UPSERT_MANY,
        _ => "SELECT softlock_acquire_many($1, $2)",
    };
    let statement = client.prepare(statement).expect("the statement is valid");
    Box::new(move |keys| {
        let rows = client
            .query(&statement, &[&keys, &owner])
            .expect("the statement succeeds");
        match candidate {
            Candidate::Upsert => rows.len() == keys.len(),
            _ => acquired(&rows[0]),
        }
    })
}

pub fn run(plan: &Plan, out: &mut Recorder) {
    for count in [1, 16] {
        for size in [1, 10, 100] {
            for round in plan.rounds() {
                for way in WAYS.into_iter().filter(|way| way.is_there()) {
                    let keys = slice(way, count, size, plan);
                    let case = format!("{size} × {}", connections(count));
                    out.note("keys", &case, &way.name(), round, keys);
                    server::clear();
                }
            }
        }
    }
}

/// Keys taken per second by all connections together.
fn slice(way: Way, count: usize, size: usize, plan: &Plan) -> f64 {
    let mut cashiers: Vec<Take> = (0..count)
        .map(|n| way.connect(&format!("till {n}")))
        .collect();
    let done = together(&mut cashiers, |number, take, barrier| {
        let mut carts = (0..).map(|cart| -> Vec<String> {
            (0..size)
                .map(|n| format!("kit:{number}-{}", cart * size + n))
                .collect()
        });
        // So that plans are made and caches filled.
        for cart in carts.by_ref().take(6) {
            assert!(take(&cart));
        }
        barrier.wait();
        as_many_as(plan.slice, carts, |cart| assert!(take(&cart)))
    });
    done.iter().map(|done| done.per_second).sum::<f64>() * size as f64
}
