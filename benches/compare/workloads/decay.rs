//! What a call costs when its key has been taken, freed and renewed ever so often, and a sweep when ever so
//! many locks have been swept, while an old snapshot keeps vacuum from cleaning up: as a dump does that
//! runs for hours, or a forgotten transaction. Nobody waits for the disk, which does not decay.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};
use serde_json::Value;

use super::sweep::worker_sweep;
use crate::figure::Figure;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, Server};

/// A way to hold a key, `$1`.
struct Way {
    name: &'static str,
    server: Server,
    table: &'static str,
    /// Frees and takes a key `$1` times, and renews it `$2` times.
    wear: &'static str,
    take: &'static str,
    free: &'static str,
    renew: &'static str,
    refuse: &'static str,
    status: &'static str,
    consume: &'static str,
    /// Sweeps what has lapsed.
    sweep: fn(&Way) -> Cost,
}

const SOFTLOCK: Way = Way {
    name: "softlock",
    server: Server::Now,
    table: "softlock.locks",
    wear: "CALL churn_softlock(0, 1, $1, $2)",
    take: "SELECT softlock_acquire($1, 'anna')",
    free: "SELECT softlock_release($1, 'anna')",
    renew: "SELECT softlock_renew($1, 'anna')",
    refuse: "SELECT softlock_acquire($1, 'boris')",
    status: "SELECT * FROM softlock_status(ARRAY[$1], 'boris')",
    consume: "SELECT softlock_consume(ARRAY[$1], 'anna')",
    sweep: sweep_by_worker,
};

const BEFORE: Way = Way {
    name: "softlock before",
    server: Server::Before,
    ..SOFTLOCK
};

const BY_HAND: Way = Way {
    name: "PL/pgSQL upsert",
    server: Server::Now,
    table: "plpgsql_locks",
    wear: "CALL churn_plpgsql(0, 1, $1, $2)",
    take: "SELECT plpgsql_acquire($1, 'anna')",
    free: "SELECT plpgsql_release($1, 'anna')",
    renew: "SELECT plpgsql_acquire($1, 'anna')",
    refuse: "SELECT plpgsql_acquire($1, 'boris')",
    status: "SELECT plpgsql_holder($1)",
    consume: "SELECT plpgsql_release($1, 'anna')",
    sweep: sweep_by_hand,
};

/// What is measured of each way.
const CALLS: [&str; 5] = ["take and free", "renewal", "refusal", "status", "consume"];

/// The key that is worn, as the procedures name it.
const KEY: &str = "kit:0";
/// Live locks on other keys.
const LIVE: i64 = 100_000;
/// A renewal for so many pairs.
const PAIRS_PER_RENEWAL: i32 = 5;
/// How often a figure is taken: so often of so many keys. Few, since each wears its key a little.
const KEYS: usize = 5;
const TIMES: usize = 6;
const SWEEPS: usize = 3;
const ROUNDS: usize = 3;

struct Cost {
    microseconds: f64,
    pages: f64,
}

pub fn run(plan: &Plan, out: &mut Recorder) {
    let ways = [SOFTLOCK, BEFORE, BY_HAND];
    let is_there = |way: &&Way| way.server.directory().is_some();
    for round in 1..=plan.rounds.min(ROUNDS) {
        for way in ways.iter().filter(is_there) {
            // The others take hours to come as far.
            let steps = match way.name == SOFTLOCK.name {
                true => &plan.wear[..],
                false => &plan.wear[..plan.wear.len() - 1],
            };
            let snapshot = begin(way);
            measure_calls(way, steps, round, out);
            drop(snapshot);
            let snapshot = begin(way);
            measure_sweep(way, plan, round, out);
            drop(snapshot);
        }
    }
}

/// Begins with nothing but live locks, so that the indexes are as high at the start as later.
fn begin(way: &Way) -> OldSnapshot {
    server::clear();
    let mut client = way.server.connect(server::DATABASE);
    server::load(&mut client, way.table, 1, 1, LIVE, "12 hours");
    way.server.settle(server::DATABASE);
    OldSnapshot::hold(way.server)
}

/// A transaction that sees what was there when it began, until it is dropped.
struct OldSnapshot(#[expect(dead_code, reason = "it has only to be there")] Client);

impl OldSnapshot {
    fn hold(server: Server) -> OldSnapshot {
        let mut client = server.connect(server::DATABASE);
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            .expect("a transaction begins");
        OldSnapshot(client)
    }
}

fn measure_calls(way: &Way, steps: &[i32], round: usize, out: &mut Recorder) {
    let mut till = Till::connect(way);
    let fresh: Vec<String> = (0..KEYS).map(|n| format!("fresh:{n}")).collect();
    till.take("warm");
    for _ in 0..TIMES {
        till.costs_of("warm");
    }
    for key in &fresh {
        till.take(key);
    }
    till.note("start", &fresh, round, out);
    till.take(KEY);
    let mut worn = 0;
    for step in steps {
        let pairs = step - worn;
        till.client
            .execute(way.wear, &[&pairs, &(pairs / PAIRS_PER_RENEWAL)])
            .expect("the key is this connection's own");
        worn = *step;
        let case = format!("after {step}");
        till.note(&case, &vec![KEY.to_owned(); KEYS], round, out);
    }
}

/// A connection that makes the calls.
struct Till<'a> {
    way: &'a Way,
    client: Client,
    take: Statement,
    free: Statement,
    renew: Statement,
    refuse: Statement,
    status: Statement,
    consume: Statement,
}

impl Till<'_> {
    fn connect(way: &Way) -> Till<'_> {
        let mut client = way.server.connect(server::DATABASE);
        client
            .batch_execute("SET synchronous_commit = off")
            .expect("anyone may set that");
        let mut prepare = |sql: &str| {
            let typed = sql.replace("$1", "$1::text");
            client.prepare(&typed).expect("the statement is valid")
        };
        Till {
            way,
            take: prepare(way.take),
            free: prepare(way.free),
            renew: prepare(way.renew),
            refuse: prepare(way.refuse),
            status: prepare(way.status),
            consume: prepare(way.consume),
            client,
        }
    }

    fn take(&mut self, key: &str) {
        self.client
            .query(&self.take, &[&key])
            .expect("the key is free");
    }

    /// Notes what each call costs, of keys that are held before and after.
    fn note(&mut self, case: &str, keys: &[String], round: usize, out: &mut Recorder) {
        let mut times: [Vec<f64>; CALLS.len()] = Default::default();
        for _ in 0..TIMES {
            for key in keys {
                let costs = self.costs_of(key);
                times
                    .iter_mut()
                    .zip(costs)
                    .for_each(|(all, one)| all.push(one));
            }
        }
        let pages = self.pages_of(&keys[0]);
        for ((call, times), pages) in CALLS.into_iter().zip(times).zip(pages) {
            let time = Figure::of(times).expect("it was measured");
            out.note(call, case, self.way.name, round, time.median);
            let metric = format!("{call}, pages");
            out.note(&metric, case, self.way.name, round, pages);
        }
    }

    /// Microseconds that each call takes.
    fn costs_of(&mut self, key: &str) -> [f64; CALLS.len()] {
        let client = &mut self.client;
        let mut time = |statements: &[&Statement]| {
            let start = Instant::now();
            for statement in statements {
                client.query(*statement, &[&key]).expect("it succeeds");
            }
            start.elapsed().as_secs_f64() * 1e6
        };
        let costs = [
            time(&[&self.free, &self.take]),
            time(&[&self.renew]),
            time(&[&self.refuse]),
            time(&[&self.status]),
            time(&[&self.consume]),
        ];
        self.take(key);
        costs
    }

    /// Pages that each call touches, those that it touches again included.
    fn pages_of(&mut self, key: &str) -> [f64; CALLS.len()] {
        let client = &mut self.client;
        let mut pages = |sql: &str| explain(client, &sql.replace("$1", &format!("'{key}'"))).pages;
        let way = self.way;
        let pages = [
            pages(way.free) + pages(way.take),
            pages(way.renew),
            pages(way.refuse),
            pages(way.status),
            pages(way.consume),
        ];
        self.take(key);
        pages
    }
}

/// Executes a statement, and has the server say what it cost.
fn explain(client: &mut Client, sql: &str) -> Cost {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
    let row = client.query_one(&explain, &[]).expect("it succeeds");
    let said: Value = row.get(0);
    let number = |value: &Value| value.as_f64().expect("it is a number");
    let plan = &said[0]["Plan"];
    Cost {
        microseconds: number(&said[0]["Execution Time"]) * 1000.0,
        pages: number(&plan["Shared Hit Blocks"]) + number(&plan["Shared Read Blocks"]),
    }
}

fn measure_sweep(way: &Way, plan: &Plan, round: usize, out: &mut Recorder) {
    let mut note = |case: &str| {
        let costs: Vec<Cost> = std::iter::repeat_with(|| {
            leave_one_lapsed(way);
            (way.sweep)(way)
        })
        .take(SWEEPS)
        .collect();
        let mut median = |metric, of: fn(&Cost) -> f64| {
            let figure = Figure::of(costs.iter().map(of)).expect("it was measured");
            out.note(metric, case, way.name, round, figure.median);
        };
        median("sweep", |cost| cost.microseconds / 1000.0);
        median("sweep, pages", |cost| cost.pages);
    };
    note("start");
    let lapsed = plan.lapsed.min(100_000);
    let mut client = way.server.connect(server::DATABASE);
    server::load(&mut client, way.table, LIVE + 1, 1, lapsed, "-1 day");
    leave(client, way.server);
    (way.sweep)(way);
    note(&format!("after {lapsed}"));
}

/// Something to find, so that the log says when the sweep was.
fn leave_one_lapsed(way: &Way) {
    let mut client = way.server.connect(server::DATABASE);
    server::load(&mut client, way.table, -1, 1, 1, "-1 millisecond");
    leave(client, way.server);
}

/// What the worker says of its sweep, and the server of the pages.
fn sweep_by_worker(way: &Way) -> Cost {
    let before = pages_of_table(way);
    let (_, said) = worker_sweep(way.server);
    let milliseconds = said
        .split_once(" in ")
        .and_then(|(_, rest)| rest.split_once(" ms"))
        .and_then(|(number, _)| number.parse::<f64>().ok())
        .expect("the line says how long it took");
    let mut client = way.server.connect(server::DATABASE);
    wait_until(
        &mut client,
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'softlock sweeper')",
    );
    Cost {
        microseconds: milliseconds * 1000.0,
        pages: pages_of_table(way) - before,
    }
}

fn sweep_by_hand(way: &Way) -> Cost {
    let delete = format!(
        "DELETE FROM {} WHERE expires_at <= clock_timestamp()",
        way.table
    );
    explain(&mut way.server.connect(server::DATABASE), &delete)
}

/// Pages of the table and its indexes that have been touched so far by sessions which have ended.
fn pages_of_table(way: &Way) -> f64 {
    let query = "SELECT (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::float8
                 FROM pg_statio_all_tables WHERE relid = $1::text::regclass";
    way.server
        .connect(server::DATABASE)
        .query_one(query, &[&way.table])
        .expect("a superuser may ask")
        .get(0)
}

/// Ends a session, and waits for it to have ended.
fn leave(mut client: Client, server: Server) {
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("the server answers")
        .get(0);
    drop(client);
    let gone = format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})");
    wait_until(&mut server.connect(server::DATABASE), &gone);
}

fn wait_until(client: &mut Client, condition: &str) {
    while !client
        .query_one(condition, &[])
        .expect("the condition is valid")
        .get::<_, bool>(0)
    {
        thread::sleep(Duration::from_millis(1));
    }
}
