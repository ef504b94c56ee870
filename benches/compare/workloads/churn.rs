//! Taking and freeing the same keys all the time: what becomes of the table and its indexes. All
//! candidates at the same time, since autovacuum goes by the clock. The commits don't wait for the
//! disk, which only gives autovacuum less time.

use std::time::Instant;

use postgres::Client;

use crate::load::together;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

const KEYS: i32 = 10_000;
/// Connections of each candidate.
const CONNECTIONS: i32 = 2;
/// Pairs of release and acquire in a call, which is short so that what it did is soon counted.
const PER_CALL: i32 = 500;
/// How often the sizes are looked at.
const LOOKS: i64 = 10;

struct Churner {
    client: Client,
    call: &'static str,
    first: i32,
}

/// Name, table, call that takes a key, procedure that churns.
const CANDIDATES: [(&str, &str, &str, &str); 2] = [
    (
        "softlock",
        "softlock.locks",
        "softlock_acquire",
        "CALL churn_softlock($1, $2, $3)",
    ),
    (
        "PL/pgSQL upsert",
        "plpgsql_locks",
        "plpgsql_acquire",
        "CALL churn_plpgsql($1, $2, $3)",
    ),
];

pub fn run(plan: &Plan, out: &mut Recorder) {
    let mut admin = server::connect(server::DATABASE);
    for (_, _, acquire, _) in CANDIDATES {
        admin
            .batch_execute(&format!(
                "SELECT {acquire}('kit:' || n, 'anna', '1 day') FROM generate_series(0, {KEYS} - 1) AS n"
            ))
            .expect("every key is free");
    }
    look(&mut admin, out, "start");
    let mut churners: Vec<Churner> = CANDIDATES
        .iter()
        .flat_map(|(_, _, _, call)| (0..CONNECTIONS).map(move |n| churner(call, n)))
        .collect();
    let calls = plan.churn / LOOKS / i64::from(PER_CALL) / i64::from(CONNECTIONS);
    for step in 1..=LOOKS {
        let seconds = together(&mut churners, |_, churner, _| {
            let start = Instant::now();
            for _ in 0..calls {
                churner
                    .client
                    .execute(
                        churner.call,
                        &[&churner.first, &(KEYS / CONNECTIONS), &PER_CALL],
                    )
                    .expect("the keys are this connection's own");
            }
            start.elapsed().as_secs_f64()
        });
        let case = format!("{} thousand", plan.churn / LOOKS * step / 1000);
        look(&mut admin, out, &case);
        let per_candidate = seconds.chunks(CONNECTIONS as usize);
        for ((name, ..), seconds) in CANDIDATES.iter().zip(per_candidate) {
            let pairs = (calls * i64::from(PER_CALL)) as f64;
            let per_second = seconds.iter().map(|seconds| pairs / seconds).sum();
            out.note("pairs", &case, name, 1, per_second);
        }
    }
}

fn churner(call: &'static str, number: i32) -> Churner {
    let mut client = server::connect(server::DATABASE);
    client
        .batch_execute("SET synchronous_commit = off")
        .expect("anyone may set that");
    Churner {
        client,
        call,
        first: KEYS / CONNECTIONS * number,
    }
}

/// Notes the sizes, in MB.
fn look(admin: &mut Client, out: &mut Recorder, case: &str) {
    for (name, table, _, _) in CANDIDATES {
        let row = admin
            .query_one(
                "SELECT pg_table_size($1::text::regclass) / 1e6::float8,
                        pg_indexes_size($1::text::regclass) / 1e6::float8",
                &[&table],
            )
            .expect("a superuser may look");
        let (heap, indexes): (f64, f64) = (row.get(0), row.get(1));
        out.note("size", case, name, 1, heap + indexes);
        out.note("table", case, name, 1, heap);
        out.note("indexes", case, name, 1, indexes);
    }
}
