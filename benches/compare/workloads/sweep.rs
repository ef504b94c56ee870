//! Getting rid of what has lapsed, while others take and free.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::candidates::{Candidate, Till};
use crate::figure::percentile;
use crate::load::together;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

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
const CONNECTIONS: usize = 4;
/// How often each of them takes something, and frees it.
const EVERY: Duration = Duration::from_millis(5);

const BEFORE: u8 = 0;
const DURING: u8 = 1;
const AFTER: u8 = 2;

/// Ends the traffic, also after a panic.
struct End<'a>(&'a AtomicU8);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(AFTER, Ordering::Relaxed);
    }
}

pub fn run(plan: &Plan, out: &mut Recorder) {
    for round in plan.rounds() {
        for (candidate, table, name, delete) in CANDIDATES {
            server::clear();
            let mut client = server::connect(server::DATABASE);
            server::load(&mut client, table, 0, 1, plan.lapsed, "-1 day");
            server::load(&mut client, table, plan.lapsed, 1, LIVE, "12 hours");
            server::settle(server::DATABASE);
            let phase = AtomicU8::new(BEFORE);
            let (rows, waits) = thread::scope(|scope| {
                let traffic = scope.spawn(|| traffic(candidate, &phase));
                thread::sleep(plan.slice * 3);
                phase.store(DURING, Ordering::Relaxed);
                let end = End(&phase);
                let took = delete(&mut client);
                drop(end);
                let waits = traffic.join().expect("the traffic flows until the end");
                let left = format!("SELECT count(*) FROM {table} WHERE expires_at <= now()");
                let left: i64 = client.query_one(&left, &[]).expect("it counts").get(0);
                assert_eq!(left, 0);
                (plan.lapsed as f64 / took.as_secs_f64(), waits)
            });
            out.note("rows", "beside live traffic", name, round, rows);
            for (case, phase) in [("before", BEFORE), ("during", DURING)] {
                let of_phase = waits.iter().filter(|(when, _)| *when == phase);
                let milliseconds = of_phase.map(|(_, wait)| wait.as_secs_f64() * 1000.0);
                let p99 = percentile(milliseconds.collect(), 0.99);
                out.note("p99", case, name, round, p99);
            }
        }
    }
}

/// The background worker's sweep, from when it is asked for to its line in the server's log. The last
/// one was more than a second ago, so that it begins at once.
fn sweep(_: &mut Client) -> Duration {
    let before = server::log().len();
    let start = Instant::now();
    server::set("softlock.sweep_interval", "1s");
    while !server::log()[before..].contains("softlock sweep released") {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nothing was swept"
        );
        thread::sleep(Duration::from_millis(1));
    }
    let took = start.elapsed();
    server::set("softlock.sweep_interval", "0");
    took
}

fn delete(client: &mut Client) -> Duration {
    let start = Instant::now();
    client
        .execute("DELETE FROM upsert_locks WHERE expires_at <= now()", &[])
        .expect("it deletes");
    start.elapsed()
}

/// Takes and frees at a steady pace, and answers how long each acquire took, and in which phase. It
/// counts from when it was due, so that an acquire which keeps the next ones from being asked counts
/// as all of them.
fn traffic(candidate: Candidate, phase: &AtomicU8) -> Vec<(u8, Duration)> {
    let mut tills = candidate.connect_many(server::DATABASE, CONNECTIONS);
    let waits = together(&mut tills, |number, till: &mut Box<dyn Till>, _| {
        let mut waits = Vec::new();
        let mut due = Instant::now();
        for n in 0.. {
            let now = phase.load(Ordering::Relaxed);
            if now == AFTER {
                break;
            }
            due += EVERY;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let key = format!("new:{number}-{n}");
            assert!(till.acquire(&key));
            waits.push((now, due.elapsed()));
            assert!(till.release(&key));
        }
        waits
    });
    waits.concat()
}
