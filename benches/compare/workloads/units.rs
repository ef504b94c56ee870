//! Many take units of the same resource, of which there are more than enough, and as many take units of a
//! resource each.

use serde_json::Value;

use crate::load::{as_many_as, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, DATABASE};

const CONNECTIONS: usize = 64;
const CAPACITY: i32 = 1_000_000;

/// As the reports call it, and which resource a connection takes units of.
type Way = (&'static str, fn(usize) -> String);
const WAYS: [Way; 2] = [
    ("one resource", |_| "stock".into()),
    ("a resource each", |number| format!("stock:{number}")),
];

pub fn run(plan: &Plan, out: &mut Recorder) {
    for round in plan.rounds() {
        for (name, resource) in WAYS {
            server::clear();
            let grants = slice(plan, resource);
            let case = super::connections(CONNECTIONS);
            out.note("grants", &case, name, round, grants);
        }
    }
}

/// Grants per second of all connections together, each to a holder of its own.
fn slice(plan: &Plan, resource: fn(usize) -> String) -> f64 {
    const TAKE: &str = "SELECT softlock_acquire($1, $2, units => 1, capacity => $3)";
    let mut tills: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = server::connect(DATABASE);
            let take = client.prepare(TAKE).expect("the statement is valid");
            (client, take)
        })
        .collect();
    let done = together(&mut tills, |number, (client, take), barrier| {
        let resource = resource(number);
        let mut grant = |holder: usize| {
            let owner = format!("till {number}, cart {holder}");
            let row = client.query_one(&*take, &[&resource, &owner, &CAPACITY]);
            let answer: Value = row.expect("the statement succeeds").get(0);
            assert_eq!(answer["outcome"], "granted");
        };
        // So that plans are made and caches filled.
        const WARM_UP: usize = 6;
        (0..WARM_UP).for_each(&mut grant);
        barrier.wait();
        as_many_as(plan.slice, WARM_UP.., grant)
    });
    done.iter().map(|done| done.per_second).sum()
}
