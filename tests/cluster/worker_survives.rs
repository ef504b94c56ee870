//! What the background worker outlives: signals, crashes, shutdowns, standbys.

use std::process::Command;

use crate::harness::{Ask, Cluster, as_server, run, wait_until};
use crate::worker_watch::*;

#[test]
fn a_terminated_launcher_comes_back_and_sweeps() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    let old = launcher(&mut client).expect("a launcher");
    assert_eq!(
        client.ask(&format!("SELECT pg_terminate_backend({old})")),
        "t"
    );
    new_launcher(&mut client, old);
    sweeps(&mut client);
    let old = launcher(&mut client).expect("a launcher");
    run(as_server("kill").args(["-TERM", &old.to_string()]));
    new_launcher(&mut client, old);
    sweeps(&mut client);
}

#[test]
fn a_cancelled_idle_launcher_goes_on() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    let pid = launcher(&mut client).expect("a launcher");
    for _ in 0..3 {
        assert_eq!(client.ask(&format!("SELECT pg_cancel_backend({pid})")), "t");
    }
    sweeps(&mut client);
    assert_eq!(launcher(&mut client), Some(pid));
}

#[test]
fn a_terminated_sweeper_leaves_its_work_to_the_next_round() {
    a_sweeper_is_outlived("pg_terminate_backend");
}

#[test]
fn a_cancelled_sweeper_leaves_its_work_to_the_next_round() {
    a_sweeper_is_outlived("pg_cancel_backend");
}

fn a_sweeper_is_outlived(ended_by: &str) {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    let holder = hold_sweepers(&cluster, "postgres");
    cluster.reload(&[EVERY_SECOND]);
    let mut observer = cluster.connect("template1");
    let sweeper = held_sweeper(&mut observer, "postgres");
    assert_eq!(observer.ask(&format!("SELECT {ended_by}({sweeper})")), "t");
    wait_until("a word about it", || {
        complaints(&cluster, "postgres").0 == 1
    });
    drop(holder);
    wait_until("the next round", || client.rows() == 0);
    sweeps(&mut client);
    assert_quiet(&cluster, "postgres");
}

#[test]
fn a_fast_shutdown_does_not_wait_for_a_sweep() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    let _holder = hold_sweepers(&cluster, "postgres");
    cluster.reload(&[EVERY_SECOND]);
    held_sweeper(&mut cluster.connect("template1"), "postgres");
    // It takes a tenth of a second; the bound leaves room for a busy machine.
    run(&mut cluster.pg_ctl(&["stop", "-m", "fast", "-t", "20"]));
}

#[test]
fn a_sweep_can_be_cancelled_between_two_rows_and_then_has_deleted_none() {
    let cluster = Cluster::start(&[OFF, "softlock.sweep_batch = 1000000"]);
    let mut client = cluster.with_extension("postgres");
    // So many take far longer than a millisecond on any machine.
    client
        .batch_execute(
            "INSERT INTO softlock.locks SELECT n, 'anna', NULL, n, 10, NULL, now(), now(), 0, n, 1 FROM generate_series(1, 100000) AS n;
             SET statement_timeout = '1ms'",
        )
        .unwrap();
    let cancelled = client
        .simple_query("SELECT softlock_sweep()")
        .expect_err("a time-out");
    assert_eq!(cancelled.code().map(|code| code.code()), Some("57014"));
    client.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(client.ask("SELECT count(*) FROM softlock.locks"), "100000");
    assert_eq!(
        client.ask("SELECT softlock_sweep()->>'released_count'"),
        "100000"
    );
}

#[test]
fn kill_9_of_a_backend_or_of_the_launcher_is_outlived() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('kept', 'anna')");
    for victim in ["client backend", "softlock launcher"] {
        let victim = if victim == "client backend" {
            client.ask("SELECT pg_backend_pid()")
        } else {
            launcher(&mut client).expect("a launcher").to_string()
        };
        run(as_server("kill").args(["-KILL", &victim]));
        wait_until("the connection's end", || {
            client.simple_query("SELECT 1").is_err()
        });
        client = cluster.reconnect("postgres");
        wait_until("a launcher", || launcher(&mut client).is_some());
        client.lapse("k");
        wait_until("a sweep", || client.rows() == 1);
    }
    assert_eq!(
        client.ask("SELECT softlock_acquire('kept', 'boris')->>'outcome'"),
        "held"
    );
}

#[test]
fn a_standby_answers_has_no_worker_and_gets_one_on_promotion() {
    let primary = Cluster::start(&[OFF]);
    let mut client = primary.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna', '1 h')");
    client.lapse("lapsed");
    let standby = primary.standby();
    let mut reader = standby.reconnect("postgres");
    wait_until("the replay", || reader.rows() == 2);
    let status =
        "SELECT owner FROM softlock_status(ARRAY['k'], 'anna') WHERE is_locked AND locked_by_me";
    assert_eq!(reader.ask(status), "anna");
    assert_eq!(reader.ask("SELECT count(*) FROM softlock_active"), "1");
    for call in [
        "acquire('x', 'boris')",
        "acquire_many(ARRAY['x'], 'boris')",
        "renew('k', 'anna')",
        "release('k', 'anna')",
        "release_all('anna')",
        "consume(ARRAY['k'], 'anna')",
        "break('k')",
        "sweep()",
    ] {
        let error = reader
            .simple_query(&format!("SELECT softlock_{call}"))
            .expect_err(call);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("25006"),
            "{call}"
        );
    }
    assert_eq!(launcher(&mut reader), None);
    standby.set(&[EVERY_SECOND]);
    run(&mut standby.pg_ctl(&["reload"]));
    run(&mut standby.pg_ctl(&["promote"]));
    wait_until("a launcher after the promotion", || {
        launcher(&mut reader).is_some()
    });
    wait_until("the sweep", || reader.rows() == 1);
    assert_eq!(
        reader.ask("SELECT softlock_acquire('k', 'boris')->>'outcome'"),
        "held"
    );
}

#[test]
fn nothing_is_left_running_after_a_shutdown() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    drop(cluster.with_extension("postgres"));
    cluster.stop("fast");
    let data = cluster.data();
    let processes = Command::new("pgrep")
        .arg("-f")
        .arg(data.as_os_str())
        .output()
        .expect("pgrep");
    assert!(
        processes.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&processes.stdout)
    );
}
