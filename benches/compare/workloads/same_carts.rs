//! Many clients want carts of the same things: what they get together, beside what one gets alone.

use fastrand::Rng;

use super::carts::{Take, in_one_call};
use crate::candidates::Candidate;
use crate::load::{as_many_as, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, DATABASE};

/// As the reports call it, how many keys there are, and how many of them make a cart.
const CARTS: [(&str, usize, usize); 3] = [
    ("the same 50", 50, 50),
    ("the same 1000", 1000, 1000),
    ("3 of 20", 20, 3),
];
/// As the reports call them.
const CLIENTS: [(&str, usize); 3] = [("one alone", 1), ("2 clients", 2), ("16 clients", 16)];

pub fn run(plan: &Plan, out: &mut Recorder) {
    for (case, keys, size) in CARTS {
        for round in plan.rounds() {
            let candidates = [Candidate::Softlock, Candidate::Before];
            for candidate in candidates.into_iter().filter(|c| c.is_there()) {
                for (clients, count) in CLIENTS {
                    server::clear();
                    let carts = slice(plan, candidate, count, || draw(keys, size));
                    let name = format!("{}, {clients}", candidate.name());
                    out.note("carts", case, &name, round, carts);
                }
            }
        }
    }
}

/// In an order of its own each time.
fn draw(keys: usize, size: usize) -> Vec<String> {
    let mut rng = Rng::new();
    let mut cart = rng.choose_multiple(0..keys, size);
    rng.shuffle(&mut cart);
    cart.into_iter().map(|n| format!("kit:{n}")).collect()
}

/// A client, and how it gives back what it has.
struct Shopper {
    take: Take,
    give_back: Box<dyn FnMut() + Send>,
}

impl Shopper {
    fn connect(candidate: Candidate, owner: String) -> Shopper {
        let take = in_one_call(candidate, &owner);
        let mut client = candidate.server().connect(DATABASE);
        let all = client
            .prepare("SELECT softlock_release_all($1)")
            .expect("the statement is valid");
        let give_back = Box::new(move || {
            client
                .query(&all, &[&owner])
                .expect("what is held can be given back");
        });
        Shopper { take, give_back }
    }
}

/// Carts per second that all clients together have got, and given back at once.
fn slice(
    plan: &Plan,
    candidate: Candidate,
    count: usize,
    draw: impl Fn() -> Vec<String> + Sync,
) -> f64 {
    let mut shoppers: Vec<_> = (0..count)
        .map(|n| Shopper::connect(candidate, format!("till {n}")))
        .collect();
    let granted = together(&mut shoppers, |_, shopper, barrier| {
        let carts: Vec<_> = (0..100).map(|_| draw()).collect();
        let mut granted = 0.0;
        let mut shop = |cart: &Vec<String>| {
            if (shopper.take)(cart) {
                (shopper.give_back)();
                granted += 1.0;
            }
        };
        barrier.wait();
        as_many_as(plan.slice, carts.iter().cycle(), &mut shop);
        granted
    });
    granted.iter().sum::<f64>() / plan.slice.as_secs_f64()
}
