//! Tokens grow whatever the server's clock does. Each of these servers has a clock of its own.

use crate::harness::{Ask, Cluster, PRELOAD};
use crate::tokens::{Told, free, take, take_often};

/// What hurries nobody to disk: only what has to be there is.
const LAZY: &[&str] = &["synchronous_commit = off", "wal_writer_delay = 10s"];

fn settings(more: &[&'static str]) -> Vec<&'static str> {
    [LAZY, more].concat()
}

/// Steps the clock back by an hour while the server runs, over a restart, and over a crash; and forward
/// again.
fn grow_over_steps_back(more: &[&'static str]) {
    let cluster = Cluster::start_with_clock("+0", &settings(more));
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    take_often(&mut client, &mut told, 20);
    let time = "SELECT extract(epoch FROM clock_timestamp())::bigint";
    let before: i64 = client.ask(time).parse().unwrap();
    cluster.set_clock("-1h");
    let after: i64 = client.ask(time).parse().unwrap();
    assert!(after < before - 3000, "the clock was not set back: {after}");
    take_often(&mut client, &mut told, 20);
    // Who has not drawn before does not know that the clock went further once.
    take_often(&mut cluster.connect("postgres"), &mut told, 20);
    for (how, time) in [("fast", "-1h"), ("immediate", "-2h"), ("immediate", "-3h")] {
        cluster.stop(how);
        cluster.set_clock(time);
        cluster.up();
        client = cluster.connect("postgres");
        free(&mut client); // whose end may have been lost
        take_often(&mut client, &mut told, 20);
        client.batch_execute("VACUUM softlock.locks").unwrap();
        client.batch_execute("BEGIN").unwrap();
        told.grown("a grant that is not committed", take(&mut client));
    }
    cluster.stop("immediate");
    cluster.up();
    client = cluster.connect("postgres");
    take_often(&mut client, &mut told, 20);
    cluster.set_clock("+0");
    take_often(&mut client, &mut told, 20);
    take_often(&mut cluster.connect("postgres"), &mut told, 20);
}

#[test]
fn tokens_grow_while_the_clock_steps_back() {
    grow_over_steps_back(&[PRELOAD]);
}

#[test]
fn tokens_grow_while_the_clock_steps_back_without_preloading() {
    grow_over_steps_back(&[]);
}

/// A crash right after a token has been told, before anything is on disk that need not be, and a clock
/// that is set back meanwhile. Nothing of `k` is left that would tell how far its tokens had come.
fn grow_over_a_crash_and_a_step_back(more: &[&'static str], step: &str) {
    let cluster = Cluster::start_with_clock("2030-01-01 12:00:00", &settings(more));
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    client.batch_execute("CHECKPOINT").unwrap();
    // Each token is what the clock reads, which need not be on disk for a commit like these.
    for time in ["2030-01-01 12:00:20", "2030-01-01 12:00:30"] {
        cluster.set_clock(time);
        told.grown("a grant", take(&mut client));
        free(&mut client);
    }
    client.batch_execute("BEGIN").unwrap();
    cluster.set_clock("2030-01-01 12:00:40");
    told.grown("a grant that is not committed", take(&mut client));
    cluster.stop("immediate");
    cluster.set_clock(step);
    cluster.up();
    client = cluster.connect("postgres");
    free(&mut client);
    take_often(&mut client, &mut told, 5);
}

#[test]
fn tokens_grow_over_a_crash_while_the_clock_is_set_back() {
    grow_over_a_crash_and_a_step_back(&[PRELOAD], "2030-01-01 12:00:10");
    grow_over_a_crash_and_a_step_back(&[PRELOAD], "2030-01-01 11:00:00");
}

#[test]
fn tokens_grow_over_a_crash_while_the_clock_is_set_back_without_preloading() {
    grow_over_a_crash_and_a_step_back(&[], "2030-01-01 12:00:10");
    grow_over_a_crash_and_a_step_back(&[], "2030-01-01 11:00:00");
}

/// A clock that is set back by so little that it reads, when the first token is drawn again, what it read
/// when the last one was.
fn grow_over_a_small_step_back(more: &[&'static str]) {
    let cluster = Cluster::start_with_clock("2030-01-01 12:00:00", &settings(more));
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    for time in [
        "2030-01-01 12:00:00",
        "2030-01-01 12:00:01",
        "2030-01-01 12:00:02",
    ] {
        cluster.set_clock(time);
        take_often(&mut client, &mut told, 5);
    }
    client.batch_execute("VACUUM softlock.locks").unwrap();
    cluster.stop("fast");
    cluster.set_clock("2030-01-01 12:00:01");
    cluster.up();
    cluster.set_clock("2030-01-01 12:00:02");
    take_often(&mut cluster.connect("postgres"), &mut told, 5);
}

#[test]
fn tokens_grow_over_a_restart_while_the_clock_is_set_back_by_a_second() {
    grow_over_a_small_step_back(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_a_restart_while_the_clock_is_set_back_by_a_second_without_preloading() {
    grow_over_a_small_step_back(&[]);
}
