//! Databases that can't be swept: the others are, and the log names each once until it can be.

use std::fs;

use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::*;

#[test]
fn a_database_locked_by_an_open_alter_database_holds_up_no_other_and_is_named_once_a_streak() {
    let mut settings = vec![OFF, DEBUG];
    settings.extend(ONE_SLOT);
    let cluster = Cluster::start(&settings);
    let mut before = cluster.with_extension("aaa");
    drop(cluster.with_extension("mmm"));
    let mut after = cluster.with_extension("zzz");
    for streak in 1..=2 {
        cluster.connect("mmm").lapse("k");
        let altering = lock_database(&cluster, "mmm");
        cluster.reload(&[EVERY_SECOND]);
        sweeps(&mut before);
        sweeps(&mut after);
        fails_again(&cluster, "mmm");
        assert_eq!(complaints(&cluster, "mmm").0, streak);
        drop(altering);
        let mut locked = cluster.connect("mmm");
        wait_until("the sweep of the locked one", || locked.rows() == 0);
        wait_until("the end of the streak", || {
            cluster.log_count("LOG:  softlock sweeps database \"mmm\" again") == streak
        });
    }
    assert_quiet(&cluster, "mmm");
    let hint = "HINT:  Look in pg_locks for the transaction that has locked it, and end that.";
    assert!(cluster.log_count(hint) >= 2, "{}", cluster.log());
}

#[test]
fn a_table_that_was_altered_is_named_once_with_detail_and_hint_and_swept_once_it_is_put_right() {
    let cluster = Cluster::start(&[OFF, DEBUG, "log_line_prefix = '%m [%p] %e '"]);
    let mut other = cluster.with_extension("other");
    let mut client = cluster.with_extension("altered");
    client.lapse("k");
    client
        .batch_execute("ALTER TABLE softlock.locks ADD CONSTRAINT odd CHECK (true)")
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    fails_again(&cluster, "altered");
    sweeps(&mut other);
    assert_eq!(complaints(&cluster, "altered").0, 1);
    assert_quiet(&cluster, "altered");
    let log = cluster.log();
    let mut lines = log
        .lines()
        .skip_while(|line| !line.contains("WARNING:  softlock could not"));
    let mut next = || lines.next().expect("a line");
    assert!(next().contains(" 55000 WARNING:  "), "{log}");
    assert!(next().contains("DETAIL:  "), "{log}");
    assert!(next().contains("HINT:  "), "{log}");
    client
        .batch_execute("ALTER TABLE softlock.locks DROP CONSTRAINT odd")
        .unwrap();
    wait_until("the sweep", || client.rows() == 0);
}

#[test]
fn a_database_whose_files_are_gone_holds_up_no_other_and_is_named_once() {
    // A checkpoint and autovacuum would have words of their own about it.
    let cluster = Cluster::start(&[OFF, DEBUG, "autovacuum = off"]);
    let mut other = cluster.with_extension("other");
    let mut broken = cluster.with_extension("broken");
    broken.lapse("k");
    let oid = broken.ask("SELECT oid FROM pg_database WHERE datname = 'broken'");
    drop(broken);
    other.batch_execute("CHECKPOINT").unwrap();
    let files = cluster.data().join("base").join(oid);
    let elsewhere = files.with_extension("elsewhere");
    fs::rename(&files, &elsewhere).unwrap();
    cluster.reload(&[EVERY_SECOND]);
    fails_again(&cluster, "broken");
    sweeps(&mut other);
    assert_eq!(complaints(&cluster, "broken").0, 1);
    assert_quiet(&cluster, "broken");
    fs::rename(&elsewhere, &files).unwrap();
    let mut broken = cluster.connect("broken");
    wait_until("the sweep", || broken.rows() == 0);
}

#[test]
fn a_locked_table_does_not_hold_a_sweeper_for_ever_and_is_no_error() {
    let cluster = Cluster::start(&[OFF, DEBUG]);
    let mut other = cluster.with_extension("other");
    let mut client = cluster.with_extension("shop");
    client.lapse("k");
    let mut blocker = cluster.connect("shop");
    blocker
        .batch_execute("BEGIN; LOCK softlock.locks IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    for _ in 0..8 {
        sweeps(&mut other);
    }
    drop(blocker);
    wait_until("the sweep", || client.rows() == 0);
    assert!(complaints(&cluster, "shop").0 <= 1, "{}", cluster.log());
    assert_quiet(&cluster, "shop");
}

#[test]
fn a_sweeper_gives_up_a_lock_in_its_database_and_is_no_error() {
    let cluster = Cluster::start(&[OFF, DEBUG]);
    let mut client = cluster.with_extension("shop");
    client.lapse("k");
    let holder = hold_sweepers(&cluster, "shop");
    cluster.reload(&[EVERY_SECOND]);
    fails_again(&cluster, "shop");
    drop(holder);
    wait_until("the sweep", || client.rows() == 0);
    assert_eq!(complaints(&cluster, "shop").0, 1);
    assert_quiet(&cluster, "shop");
}

#[test]
fn a_sweeper_that_is_held_up_on_its_way_in_by_something_else_is_ended_and_is_no_error() {
    let cluster = Cluster::start(&[OFF, DEBUG]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    // New processes only, so none of the test's; the server sleeps with signals blocked.
    cluster.reload(&["post_auth_delay = 10s", EVERY_SECOND]);
    fails_again(&cluster, "postgres");
    assert_eq!(complaints(&cluster, "postgres").0, 1);
    assert!(cluster.log_count("\"postgres\": it could not be entered in time") > 1);
    cluster.reload(&["post_auth_delay = 0"]);
    wait_until("the sweep", || client.rows() == 0);
    assert_eq!(cluster.log_count("FATAL:"), 0, "{}", cluster.log());
}

#[test]
fn a_database_that_is_dropped_or_copied_is_not_named() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.connect("postgres");
    for round in 0..6 {
        drop(cluster.with_extension("shop"));
        client
            .batch_execute(&format!("CREATE DATABASE copy{round} TEMPLATE shop"))
            .unwrap();
        client.batch_execute("DROP DATABASE shop").unwrap();
    }
    let mut copy = cluster.connect("copy5");
    sweeps(&mut copy);
    assert_quiet(&cluster, "");
}
