//! Many databases, few of which have the extension: each is swept in every round, by few sweepers, and the
//! launcher's memory stays as it is.
//!
//! `tests/soak databases` runs it at full size: `SOFTLOCK_DATABASES`, `SOFTLOCK_ROUNDS`, and
//! `SOFTLOCK_IN_TIME` to hold it to the interval, which needs a machine that does nothing else.

use std::env;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::harness::{Ask, Cluster, PATIENCE, wait_until};
use crate::worker_watch::*;

/// Of so many databases one has the extension.
const ONE_OF: usize = 10;
/// As the launcher has them at a time, at most.
const SWEEPERS: i64 = 4;
const INTERVAL: Duration = Duration::from_secs(5);

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Databases `plain0`, … and `shop0`, …, each of which has a lock that has lapsed. Answers the connections
/// to the shops.
fn create(cluster: &Cluster, databases: usize) -> Vec<Client> {
    let mut client = cluster.connect("postgres");
    cluster.with_extension("shop").lapse("k");
    let with_extension = databases / ONE_OF;
    for at in 0..databases - with_extension {
        let create = format!("CREATE DATABASE plain{at}");
        client.batch_execute(&create).unwrap();
    }
    let mut shops = Vec::with_capacity(with_extension);
    for at in 0..with_extension {
        let create = format!("CREATE DATABASE shop{at} TEMPLATE shop");
        client.batch_execute(&create).unwrap();
        let mut shop = cluster.connect(&format!("shop{at}"));
        assert_eq!(shop.rows(), 1);
        shops.push(shop);
    }
    shops
}

/// Waits until nothing that has lapsed is left in any of them.
fn all_swept(shops: &mut [Client]) {
    let deadline = Instant::now() + 4 * PATIENCE;
    for shop in shops {
        while shop.rows() > 0 {
            assert!(Instant::now() < deadline, "not swept");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The rounds that the sweepers' commits in the databases without the extension tell of, of the one that
/// has been visited least and the one that has been most. A sweeper commits twice there at most.
fn visits(observer: &mut Client) -> (i64, i64) {
    let row = observer.query_one(
        "SELECT min(xact_commit), max(xact_commit) FROM pg_stat_database WHERE datname LIKE 'plain%'",
        &[],
    );
    let row = row.unwrap();
    (row.get(0), row.get(1))
}

/// What a process has for itself, in bytes: all of its memory, not only what PostgreSQL gave it.
fn own_memory(pid: i32) -> i64 {
    let file = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = file
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    size.expect("a size").trim().parse::<i64>().unwrap() * 1024
}

#[test]
fn each_of_many_databases_is_swept_in_every_round_by_few_sweepers_in_memory_that_stays() {
    let databases = number("SOFTLOCK_DATABASES", 60);
    let rounds = number("SOFTLOCK_ROUNDS", 8) as i64;
    let cluster = Cluster::start(&[OFF, "autovacuum = off"]);
    let mut shops = create(&cluster, databases);
    let mut observer = cluster.connect("postgres");
    let launcher = launcher(&mut observer).expect("a launcher");

    cluster.reload(&["softlock.sweep_interval = 5"]);
    all_swept(&mut shops);
    for _ in 0..2 {
        let began = Instant::now();
        for shop in &mut shops {
            shop.lapse("k");
        }
        all_swept(&mut shops);
        println!("{databases} databases: swept after {:?}", began.elapsed());
        // What lapses right after its database was swept waits for the next round, and that round.
        let in_time = began.elapsed() < 2 * INTERVAL;
        assert!(in_time || env::var("SOFTLOCK_IN_TIME").is_err(), "too late");
    }

    cluster.reload(&[EVERY_SECOND]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut observer = cluster.connect("postgres");
            let mut most = 0;
            while !done.load(SeqCst) {
                let at_a_time =
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'softlock sweeper'";
                most = most.max(observer.ask(at_a_time).parse::<i64>().unwrap());
                thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let (begun, _) = visits(&mut observer);
        let mut after = |rounds: i64| {
            let deadline = Instant::now() + PATIENCE.max(Duration::from_secs(20) * rounds as u32);
            while visits(&mut observer).0 < begun + 2 * rounds {
                assert!(Instant::now() < deadline, "no round for long");
                thread::sleep(Duration::from_millis(50));
            }
        };
        // What is needed for one round is there then.
        after(3);
        let before = (launchers_memory(&cluster, launcher), own_memory(launcher));
        after(3 + rounds);
        let grown = launchers_memory(&cluster, launcher) - before.0;
        let own_grown = own_memory(launcher) - before.1;
        println!("{rounds} rounds: {grown} bytes more in memory contexts, {own_grown} in all");
        done.store(true, SeqCst);
        let most = most.join().unwrap();
        assert!((1..=SWEEPERS).contains(&most), "{most} sweepers at a time");
        // The handles of those that run at the moment.
        assert!(grown < 1024, "{grown} bytes more in memory contexts");
        assert!(own_grown < 256 * 1024, "{own_grown} bytes more");
    });
    cluster.reload(&[OFF]);
    wait_until("the last round's end", || {
        observer
            .ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'softlock sweeper'")
            == "0"
    });
    let (least, most) = visits(&mut observer);
    assert!(
        most - least <= 4,
        "{least} and {most} commits: some are visited more often"
    );
    assert_quiet(&cluster, "");
}
