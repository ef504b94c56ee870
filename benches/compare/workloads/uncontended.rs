//! Everyone takes keys of their own, as many as they can, and then frees them.

use super::connections;
use crate::candidates::Candidate;
use crate::load::take_and_free;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, Server};

const CANDIDATES: [Candidate; 9] = [
    Candidate::Softlock,
    Candidate::Before,
    Candidate::Upsert,
    Candidate::Plpgsql,
    Candidate::Orm,
    Candidate::Advisory,
    Candidate::RedisAlways,
    Candidate::Unsynced,
    Candidate::RedisEverysec,
];

/// More than anyone takes in a slice; each connection has an equal share.
const KEYS: usize = 64_000;

pub fn run(plan: &Plan, out: &mut Recorder) {
    server::connect(server::DATABASE)
        .batch_execute(&format!(
            "INSERT INTO reservation (kit) SELECT 'kit:' || n FROM generate_series(0, {KEYS} - 1) AS n"
        ))
        .expect("the application's rows are written");
    Server::Now.settle(server::DATABASE);
    for count in [1, 4, 16, 64] {
        for round in plan.rounds() {
            for candidate in CANDIDATES.into_iter().filter(|c| c.is_there()) {
                let mut tills = candidate.connect_many(server::DATABASE, count);
                let share = KEYS / count;
                let keys = |number| {
                    let first = number * share;
                    (first..first + share).map(|n| format!("kit:{n}")).collect()
                };
                let (acquired, released) = take_and_free(&mut tills, plan.slice / 2, keys);
                let case = connections(count);
                out.note("acquire", &case, candidate.name(), round, acquired);
                if candidate.holds() {
                    out.note("release", &case, candidate.name(), round, released);
                }
            }
        }
    }
}
