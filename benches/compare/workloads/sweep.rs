//! Getting rid of what has lapsed, while others take and free.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use super::adopted;
use crate::candidates::Candidate;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, Server};
use crate::traffic;

/// Who takes and frees meanwhile, in which table, what the sweep is called, and the sweep: it
/// answers how long it took.
type Candidates = [(
    Candidate,
    &'static str,
    &'static str,
    fn(&mut Client) -> Duration,
); 2];

const CANDIDATES: Candidates = [
    (Candidate::Softlock, "softlock.locks", "softlock", sweep),
    (Candidate::Upsert, "upsert_locks", "plain DELETE", delete),
];

/// Live locks among the lapsed ones.
const LIVE: i64 = 100_000;

pub fn run(plan: &Plan, out: &mut Recorder) {
    for round in plan.rounds() {
        for (candidate, table, name, delete) in CANDIDATES {
            server::clear();
            let mut client = server::connect(server::DATABASE);
            server::load(&mut client, table, 0, 1, plan.lapsed, "-1 day");
            server::load(&mut client, table, plan.lapsed, 1, LIVE, "12 hours");
            Server::Now.settle(server::DATABASE);
            let (took, p99) = traffic::beside(candidate, plan.slice * 3, || delete(&mut client));
            let left = format!("SELECT count(*) FROM {table} WHERE expires_at <= now()");
            let left: i64 = client.query_one(&left, &[]).expect("it counts").get(0);
            assert_eq!(left, 0);
            let rows = plan.lapsed as f64 / took.as_secs_f64();
            out.note("rows", "beside live traffic", name, round, rows);
            out.note("p99", "before", name, round, p99.before);
            out.note("p99", "during", name, round, p99.during);
        }
    }
    adopted::run(plan, out);
}

/// The background worker's sweep, until it has said what it did. The last one was more than a second ago,
/// so that it begins at once.
fn sweep(_: &mut Client) -> Duration {
    let (took, _) = worker_sweep(Server::Now);
    took
}

/// Has the background worker sweep: how long it took, from when it was asked for to its line in the server's
/// log, and what that line says.
pub fn worker_sweep(server: Server) -> (Duration, String) {
    const LINE: &str = "softlock sweep released";
    let before = server.log().len();
    let start = Instant::now();
    server.set("softlock.sweep_interval", "1s");
    let said = loop {
        let log = server.log();
        let mut lines = log[before..].split_inclusive('\n');
        if let Some(line) = lines.find(|line| line.contains(LINE) && line.ends_with('\n')) {
            break line.to_owned();
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nothing was swept"
        );
        thread::sleep(Duration::from_millis(1));
    };
    let took = start.elapsed();
    server.set("softlock.sweep_interval", "0");
    (took, said)
}

fn delete(client: &mut Client) -> Duration {
    let start = Instant::now();
    client
        .execute("DELETE FROM upsert_locks WHERE expires_at <= now()", &[])
        .expect("it deletes");
    start.elapsed()
}
