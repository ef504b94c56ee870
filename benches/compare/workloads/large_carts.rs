//! Single grants while somebody takes large carts of other keys all the time, beside the same while
//! somebody writes as much to another table.

use std::time::Duration;

use super::carts::in_one_call;
use crate::candidates::Candidate;
use crate::load::as_many_as;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;
use crate::traffic;

/// Keys of a cart.
const KEYS: usize = 1000;
const OWNER: &str = "wholesale";

/// Beside what, how a cart is taken, and how it is freed.
const WRITERS: [(&str, Candidate, &str); 2] = [
    (
        "carts of 1000",
        Candidate::Softlock,
        "SELECT softlock_release_all($1)",
    ),
    (
        "as much written to another table",
        Candidate::Upsert,
        "DELETE FROM upsert_locks WHERE owner = $1",
    ),
];

pub fn run(plan: &Plan, out: &mut Recorder) {
    for round in plan.rounds() {
        for (case, candidate, free) in WRITERS {
            server::clear();
            let (carts, p99) = traffic::beside(Candidate::Softlock, plan.slice, || {
                write_carts(candidate, free, plan.slice * 3)
            });
            out.note("p99", case, "softlock", round, p99.during);
            out.note("carts", case, "softlock", round, carts);
        }
    }
}

/// Takes and frees one cart after the other: carts per second.
fn write_carts(candidate: Candidate, free: &str, time: Duration) -> f64 {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("cart:{n}")).collect();
    let mut take = in_one_call(candidate, OWNER);
    let mut client = server::connect(server::DATABASE);
    let free = client.prepare(free).expect("the statement is valid");
    let done = as_many_as(time, std::iter::repeat(keys), |keys| {
        assert!(take(&keys));
        client
            .query(&free, &[&OWNER])
            .expect("the keys are the owner's");
    });
    done.per_second
}
