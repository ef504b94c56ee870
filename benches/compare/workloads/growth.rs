//! The same work beside ever more live locks. Each size has a database of its own, so that the sizes
//! can take turns, too.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::{Client, Statement};

use crate::candidates::Candidate;
use crate::load::{as_many_as, take_and_free, together};
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, Server};

const CANDIDATES: [(Candidate, &str); 3] = [
    (Candidate::Softlock, "softlock.locks"),
    (Candidate::Before, "softlock.locks"),
    (Candidate::Upsert, "upsert_locks"),
];
const CONNECTIONS: usize = 16;
/// Kits that a page asks about.
const KITS: i64 = 100;
/// Which kits those are: as a shop lists them, or the worst for any cache.
const PAGES: [(&str, Page); 2] = [("status", neighbours), ("status, scattered", scattered)];
/// Keys a connection may take in a slice.
const MOST: u64 = 10_000;

pub fn run(plan: &Plan, out: &mut Recorder) {
    let fewest = plan.growth[0].1;
    let databases = plan.growth.map(|(name, size)| {
        eprintln!("   loading {size} locks");
        let database = format!("growth_{size}");
        for server in Server::all().filter(|s| is_measured(*s, size, fewest)) {
            create(server, &database, size);
        }
        (name, size, database)
    });
    for round in plan.rounds() {
        for (candidate, _) in CANDIDATES {
            for (case, size, database) in &databases {
                let server = candidate.server();
                if !candidate.is_there() || !is_measured(server, *size, fewest) {
                    continue;
                }
                let mut note =
                    |metric, value| out.note(metric, case, candidate.name(), round, value);
                let mut tills = candidate.connect_many(database, CONNECTIONS);
                let keys = |number| free_keys(*size as u64, number as u64, round as u64);
                let (acquired, released) = take_and_free(&mut tills, plan.slice / 2, keys);
                note("acquire", acquired);
                note("release", released);
                for (metric, page) in PAGES {
                    note(
                        metric,
                        look(candidate, database, *size, page, plan.slice / 2),
                    );
                }
            }
        }
    }
    for (_, size, database) in databases {
        for server in Server::all().filter(|s| is_measured(*s, size, fewest)) {
            server
                .connect(server::DATABASE)
                .batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)"))
                .expect("nobody needs the database any more");
        }
    }
}

/// The version before takes part beside the fewest locks only.
fn is_measured(server: Server, size: i64, fewest: i64) -> bool {
    server == Server::Now || size == fewest
}

/// Locks on the even numbers; the odd ones in between stay free.
fn create(server: Server, database: &str, size: i64) {
    server
        .connect(server::DATABASE)
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .expect("a superuser may create a database");
    server.set_up(database);
    thread::scope(|scope| {
        for (_, table) in CANDIDATES.into_iter().filter(|(c, _)| c.server() == server) {
            scope.spawn(move || {
                let mut client = server.connect(database);
                server::load(&mut client, table, 0, 2, size, "12 hours");
            });
        }
    });
    server.settle(database);
}

/// Free keys of one connection's own, in no order, each once, and others in each round.
fn free_keys(size: u64, connection: u64, round: u64) -> Vec<String> {
    // A prime that divides no share, so that its multiples visit all of it before they come back.
    const STRIDE: u64 = 2_654_435_761;
    let share = size / CONNECTIONS as u64;
    let count = share.min(MOST);
    (round * count..(round + 1) * count)
        .map(|n| {
            let free = n * STRIDE % share * CONNECTIONS as u64 + connection;
            format!("kit:{}", 2 * free + 1)
        })
        .collect()
}

/// Kits to ask about, of so many.
type Page = fn(&mut Rng, i64) -> Vec<String>;

fn neighbours(random: &mut Rng, kits: i64) -> Vec<String> {
    let first = random.i64(0..=kits - KITS);
    (first..first + KITS).map(|n| format!("kit:{n}")).collect()
}

fn scattered(random: &mut Rng, kits: i64) -> Vec<String> {
    (0..KITS)
        .map(|_| format!("kit:{}", random.i64(0..kits)))
        .collect()
}

/// Calls per second that ask about a page of kits, half of them held.
fn look(candidate: Candidate, database: &str, size: i64, page: Page, time: Duration) -> f64 {
    let status = match candidate {
        Candidate::Upsert => include_str!("../by_hand/status.sql"),
        _ => "SELECT * FROM softlock_status($1, $2)",
    };
    let mut readers: Vec<(Client, Statement)> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = candidate.server().connect(database);
            let statement = client.prepare(status).expect("the statement is valid");
            (client, statement)
        })
        .collect();
    let done = together(&mut readers, |number, (client, statement), barrier| {
        let mut random = Rng::with_seed(number as u64);
        let mut pages = std::iter::repeat_with(|| page(&mut random, 2 * size));
        let mut ask = |page: Vec<String>| {
            let rows = client
                .query(&*statement, &[&page, &"till 1"])
                .expect("the statement succeeds");
            assert_eq!(rows.len(), KITS as usize);
        };
        pages.by_ref().take(6).for_each(&mut ask);
        barrier.wait();
        as_many_as(time, pages, ask)
    });
    done.iter().map(|done| done.per_second).sum()
}
