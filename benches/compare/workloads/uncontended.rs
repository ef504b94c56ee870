//! Everyone takes keys of their own, as many as they can, and then frees them.

use std::time::Duration;

use super::connections;
use crate::candidates::Candidate;
use crate::load::{as_many_as, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

const CANDIDATES: [Candidate; 7] = [
    Candidate::Softlock,
    Candidate::Upsert,
    Candidate::Plpgsql,
    Candidate::Orm,
    Candidate::Advisory,
    Candidate::RedisAlways,
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
    server::settle(server::DATABASE);
    for count in [1, 4, 16, 64] {
        for round in plan.rounds() {
            for candidate in CANDIDATES {
                let (acquired, released) = slice(candidate, count, plan.slice / 2);
                let case = connections(count);
                out.note("acquire", &case, candidate.name(), round, acquired);
                if candidate.holds() {
                    out.note("release", &case, candidate.name(), round, released);
                }
            }
        }
    }
}

/// Acquires and releases per second of all connections together.
fn slice(candidate: Candidate, count: usize, time: Duration) -> (f64, f64) {
    let mut tills = candidate.connect_many(server::DATABASE, count);
    let share = KEYS / count;
    let done = together(&mut tills, |number, till, barrier| {
        let keys: Vec<String> = (0..share)
            .map(|n| format!("kit:{}", number * share + n))
            .collect();
        barrier.wait();
        let acquired = as_many_as(time, &keys, |key| assert!(till.acquire(key)));
        barrier.wait();
        let taken = &keys[..acquired.count];
        let released = as_many_as(Duration::MAX, taken, |key| assert!(till.release(key)));
        (acquired.per_second, released.per_second)
    });
    done.iter()
        .fold((0.0, 0.0), |sum, done| (sum.0 + done.0, sum.1 + done.1))
}
