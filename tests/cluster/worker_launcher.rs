//! The launcher looks after several sweepers at a time, waits for none of them, and keeps its memory.

use crate::harness::{Ask, Cluster, as_server, run, wait_until};
use crate::worker_watch::*;

#[test]
fn several_databases_are_swept_at_a_time() {
    let cluster = Cluster::start(&[OFF]);
    drop(cluster.with_extension("first"));
    drop(cluster.with_extension("second"));
    let _held = [
        hold_sweepers(&cluster, "first"),
        hold_sweepers(&cluster, "second"),
    ];
    cluster.reload(&[RARELY]);
    let at_a_time = "SELECT count(*) FROM pg_stat_activity
                     WHERE backend_type = 'softlock sweeper' AND wait_event_type = 'Lock'";
    let mut observer = cluster.connect("postgres");
    wait_until("a sweeper in each", || observer.ask(at_a_time) == "2");
}

#[test]
fn a_sweep_that_takes_long_is_left_to_it_while_the_others_are_swept() {
    let cluster = Cluster::start(&[OFF]);
    let mut other = cluster.with_extension("other");
    let mut big = cluster.with_extension("big");
    // Its trigger keeps the sweeper busy, which would wait for a lock for a second only.
    big.batch_execute(
        "CREATE TABLE cart (id int, until timestamptz);
         CREATE INDEX ON cart (until);
         SELECT softlock_adopt('cart', 'until', label => 'id');
         INSERT INTO cart VALUES (1, now());
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN WHILE NOT pg_try_advisory_xact_lock(1) LOOP PERFORM pg_sleep(0.1); END LOOP; RETURN NEW; END';
         CREATE TRIGGER wait BEFORE UPDATE ON cart FOR EACH ROW EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock(1)",
    )
    .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    let is_old = "SELECT coalesce(max(now() - backend_start), '0') > '12 s' FROM pg_stat_activity
                  WHERE backend_type = 'softlock sweeper' AND datname = 'big' AND wait_event = 'PgSleep'";
    wait_until("a sweeper that has been at it for long", || {
        sweeps(&mut other);
        other.ask(is_old) == "t"
    });
    big.batch_execute("SELECT pg_advisory_unlock(1)").unwrap();
    let released = "LOG:  softlock sweep released 1 expired row of public.cart";
    wait_until("the end of its sweep", || cluster.log_count(released) == 1);
    assert_quiet(&cluster, "");
}

#[test]
fn a_reload_and_a_fast_shutdown_are_heeded_while_a_sweeper_can_not_enter() {
    let cluster = Cluster::start(&[OFF]);
    let mut other = cluster.with_extension("zzz");
    drop(cluster.with_extension("aaa"));
    let _altering = lock_database(&cluster, "aaa");
    cluster.reload(&[RARELY]);
    waiting_sweeper(&mut other);
    other.lapse("k");
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || other.rows() == 0);
    waiting_sweeper(&mut other);
    // It takes a tenth of a second; the bound leaves room for a busy machine.
    run(&mut cluster.pg_ctl(&["stop", "-m", "fast", "-t", "20"]));
}

#[test]
fn a_terminated_launcher_ends_its_sweepers() {
    let cluster = Cluster::start(&[OFF]);
    cluster.with_extension("shop").lapse("k");
    let mut observer = cluster.connect("template1");
    let old = launcher(&mut observer).expect("a launcher");
    let altering = lock_database(&cluster, "shop");
    cluster.reload(&[RARELY]);
    let sweeper = waiting_sweeper(&mut observer);
    observer.ask(&format!("SELECT pg_terminate_backend({old})"));
    new_launcher(&mut observer, old);
    wait_until("the sweeper's end", || {
        observer.ask(&format!(
            "SELECT count(*) FROM pg_locks WHERE pid = {sweeper}"
        )) == "0"
    });
    drop(altering);
    let mut client = cluster.connect("shop");
    wait_until("the new launcher's sweep", || client.rows() == 0);
}

#[test]
fn a_terminate_while_the_launcher_starts_is_heeded_and_it_comes_back() {
    let cluster = Cluster::start(&[OFF, "autovacuum = off"]);
    let mut client = cluster.with_extension("postgres");
    let mut known = children(&cluster);
    let mut last = launcher(&mut client).expect("a launcher");
    // Applied by a worker's process before anything else, while its signals are blocked.
    cluster.reload(&["post_auth_delay = 3s"]);
    client.ask(&format!("SELECT pg_terminate_backend({last})"));
    for _ in 0..3 {
        // The launcher is the only process that starts by itself.
        wait_until("the launcher's start", || {
            let new = children(&cluster)
                .into_iter()
                .find(|pid| !known.contains(pid));
            last = new.unwrap_or(last);
            new.is_some()
        });
        run(as_server("kill").args(["-TERM", &last.to_string()]));
        known.push(last);
    }
    cluster.reload(&["post_auth_delay = 0"]);
    new_launcher(&mut client, last);
    cluster.reload(&[EVERY_SECOND]);
    sweeps(&mut client);
    cluster.stop("fast");
}

#[test]
fn a_fast_shutdown_right_after_the_start_does_not_hang() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    drop(cluster.with_extension("postgres"));
    cluster.stop("fast");
    for _ in 0..5 {
        run(&mut cluster.pg_ctl(&["start", "-t", "90"]));
        run(&mut cluster.pg_ctl(&["stop", "-m", "fast", "-t", "20"]));
    }
}

/// pg_log_backend_memory_contexts is there from 14 on.
#[cfg(not(feature = "pg13"))]
#[test]
fn the_launchers_memory_does_not_grow_from_round_to_round() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.connect("postgres");
    for number in 0..8 {
        client
            .batch_execute(&format!("CREATE DATABASE shop{number}"))
            .unwrap();
    }
    let launcher = launcher(&mut client).expect("a launcher");
    // Two commits at most of each sweeper.
    let mut rounds = |number: i64| {
        let mut count = || {
            let count =
                client.ask("SELECT xact_commit FROM pg_stat_database WHERE datname = 'shop7'");
            count.parse::<i64>().unwrap()
        };
        let before = count();
        wait_until("more rounds", || count() >= before + 2 * number);
    };
    rounds(3);
    let before = launchers_memory(&cluster, launcher);
    rounds(8);
    let grown = launchers_memory(&cluster, launcher) - before;
    // Eight rounds over ten databases and more. What is left behind of each sweeper or round shows; the
    // handles of a few sweepers that run at the moment do not.
    assert!(grown < 80 * 16, "{grown} bytes more");
}

/// The processes that the postmaster has forked, also those that don't show themselves yet.
fn children(cluster: &Cluster) -> Vec<i32> {
    let file = std::fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
    let postmaster = file.lines().next().expect("a pid");
    let file = format!("/proc/{postmaster}/task/{postmaster}/children");
    let children = std::fs::read_to_string(file).expect("the postmaster runs");
    let children = children.split_ascii_whitespace();
    children.map(|pid| pid.parse().expect("a pid")).collect()
}
