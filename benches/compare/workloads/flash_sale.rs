//! Everyone wants the same few things, and all of them are held.

use super::connections;
use crate::candidates::Candidate;
use crate::load::{as_many_as, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

const CANDIDATES: [Candidate; 9] = [
    Candidate::Softlock,
    Candidate::Before,
    Candidate::Select,
    Candidate::Upsert,
    Candidate::Plpgsql,
    Candidate::Orm,
    Candidate::Advisory,
    Candidate::RedisAlways,
    Candidate::RedisEverysec,
];

const KEYS: usize = 10;
const CONNECTIONS: usize = 64;

pub fn run(plan: &Plan, out: &mut Recorder) {
    let mut admin = server::connect(server::DATABASE);
    let keys: Vec<String> = (0..KEYS).map(|n| format!("kit:{n}")).collect();
    for key in &keys {
        admin
            .execute("INSERT INTO reservation (kit) VALUES ($1)", &[key])
            .expect("the application's row is written");
        // The holder of an advisory lock is a session; this one lasts as long as the workload.
        admin
            .execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", &[key])
            .expect("the advisory lock is free");
    }
    let candidates = || CANDIDATES.into_iter().filter(|c| c.is_there());
    for candidate in candidates().filter(|c| c.holds()) {
        let mut holder = candidate.connect("holder");
        assert!(keys.iter().all(|key| holder.acquire(key)));
    }
    for round in plan.rounds() {
        for candidate in candidates() {
            let mut admin = candidate.server().connect(server::DATABASE);
            let mut tills = candidate.connect_many(server::DATABASE, CONNECTIONS);
            let before = written(&mut admin);
            let done = together(&mut tills, |number, till, _| {
                let endless = keys.iter().cycle().skip(number % KEYS);
                as_many_as(plan.slice, endless, |key| assert!(!till.acquire(key)))
            });
            let after = written(&mut admin);
            let refusals: usize = done.iter().map(|done| done.count).sum();
            let per_second = done.iter().map(|done| done.per_second).sum();
            let case = connections(CONNECTIONS);
            let mut note = |metric, value| out.note(metric, &case, candidate.name(), round, value);
            note("refusals", per_second);
            if !candidate.is_redis() {
                note("wal", (after.0 - before.0) / refusals as f64);
                note("xids", (after.1 - before.1) / refusals as f64);
            }
        }
    }
}

/// The end of the WAL, and the next transaction id.
fn written(admin: &mut postgres::Client) -> (f64, f64) {
    let row = admin
        .query_one(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8,
                    pg_snapshot_xmax(pg_current_snapshot())::text::float8",
            &[],
        )
        .expect("a superuser may ask");
    (row.get(0), row.get(1))
}
