//! `wait`: granted as soon as the lock is free, in the order of arrival, and nothing held meanwhile.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Ask, Cluster, wait_until};
use postgres::{Client, SimpleQueryMessage};

fn cluster() -> (Cluster, Client) {
    let settings = ["softlock.sweep_interval = 0", "softlock.max_wait = 1h"];
    let cluster = Cluster::start(&settings);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna', '1 h')");
    (cluster, client)
}

/// Who asks for `k` in a thread of its own; answers the outcome, or the SQLSTATE of the error.
fn waiter(cluster: &Cluster, owner: &str, wait: &str) -> JoinHandle<String> {
    let mut client = cluster.connect("postgres");
    let query = format!("SELECT softlock_acquire('k', '{owner}', wait => '{wait}')->>'outcome'");
    client
        .batch_execute(&format!("SET application_name = 'waiter {owner}'"))
        .unwrap();
    thread::spawn(move || match client.simple_query(&query) {
        Ok(messages) => {
            let answer = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            answer.expect("an answer").to_owned()
        }
        Err(error) => error
            .code()
            .map_or("no code", |code| code.code())
            .to_owned(),
    })
}

/// Until `owner` waits: the first in line sleeps, the others wait for its lock.
fn until_waiting(client: &mut Client, owner: &str) {
    wait_until("the waiter", || {
        client.ask(&format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter {owner}' AND state = 'active' AND wait_event_type IN ('Extension', 'Lock')")) == "1"
    });
}

#[test]
fn a_release_lets_the_waiter_in_soon() {
    let (cluster, mut client) = cluster();
    // Of several tries the best one counts: the machine may be busy.
    let mut best = Duration::MAX;
    for round in 0..10 {
        let owner = format!("waiter{round}");
        let mut other = cluster.connect("postgres");
        let name = owner.clone();
        let (sender, receiver) = mpsc::channel();
        other
            .batch_execute(&format!("SET application_name = 'waiter {owner}'"))
            .unwrap();
        let waiter = thread::spawn(move || {
            let outcome = other.ask(&format!(
                "SELECT softlock_acquire('k', '{name}', wait => '60 s')->>'outcome'"
            ));
            sender.send(Instant::now()).unwrap();
            outcome
        });
        until_waiting(&mut client, &owner);
        client.ask("SELECT softlock_break('k')");
        let released = Instant::now();
        best = best.min(receiver.recv().unwrap().saturating_duration_since(released));
        assert_eq!(waiter.join().unwrap(), "granted");
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[test]
fn a_lapse_lets_the_waiter_in() {
    let (_cluster, mut client) = cluster();
    client.ask("SELECT softlock_break('k')");
    client.ask("SELECT softlock_acquire('k', 'anna', '200 ms')");
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'boris', wait => '60 s')->>'outcome'"),
        "granted"
    );
}

#[test]
fn the_end_of_another_transaction_lets_the_waiter_in() {
    let (cluster, mut client) = cluster();
    client.ask("SELECT softlock_break('k')");
    client
        .batch_execute("BEGIN; SELECT softlock_acquire('k', 'anna')")
        .unwrap();
    let boris = waiter(&cluster, "boris", "60 s");
    until_waiting(&mut cluster.connect("postgres"), "boris");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(boris.join().unwrap(), "granted");
}

#[test]
fn in_vain_it_ends_as_held_or_contended() {
    let (cluster, mut client) = cluster();
    let mut other = cluster.connect("postgres");
    let take = "SELECT softlock_acquire('k', 'boris', wait => '50 ms')->>'outcome'";
    assert_eq!(other.ask(take), "held");
    client
        .batch_execute("SELECT softlock_break('k'); BEGIN; SELECT softlock_acquire('k', 'anna')")
        .unwrap();
    assert_eq!(other.ask(take), "held"); // the break is not committed either
    client
        .batch_execute("COMMIT; SELECT softlock_break('k')")
        .unwrap();
    client
        .batch_execute("BEGIN; SELECT softlock_acquire('k', 'anna')")
        .unwrap();
    assert_eq!(other.ask(take), "contended");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(other.ask(take), "granted");
    // Nothing is left of the waits.
    assert_eq!(
        other.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "0"
    );
}

#[test]
fn who_comes_first_is_served_first_and_who_does_not_wait_gives_way() {
    let (cluster, mut client) = cluster();
    let names = ["w0", "w1", "w2", "w3", "w4"];
    let mut waiters = Vec::new();
    for name in names {
        waiters.push(waiter(&cluster, name, "120 s"));
        until_waiting(&mut client, name);
    }
    let mut newcomer = cluster.connect("postgres");
    client.ask("SELECT softlock_release('k', 'anna')");
    for (name, waiter) in names.iter().zip(waiters) {
        // While somebody waits, a newcomer is never granted the lock, free or not.
        wait_until("the next in line", || {
            assert_ne!(
                newcomer.ask("SELECT softlock_acquire('k', 'newcomer')->>'outcome'"),
                "granted"
            );
            newcomer.ask(&format!(
                "SELECT locked_by_me FROM softlock_status(ARRAY['k'], '{name}')"
            )) == "t"
        });
        assert_eq!(waiter.join().unwrap(), "granted");
        if *name != "w4" {
            client.ask(&format!("SELECT softlock_release('k', '{name}')"));
        }
    }
}

#[test]
fn the_holder_is_not_hindered_by_waiters() {
    let (cluster, mut client) = cluster();
    let boris = waiter(&cluster, "boris", "60 s");
    until_waiting(&mut client, "boris");
    assert_eq!(
        client.ask("SELECT softlock_renew('k', 'anna')->>'outcome'"),
        "renewed"
    );
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'anna')->>'outcome'"),
        "renewed"
    );
    assert_eq!(
        client.ask("SELECT softlock_consume(ARRAY['k'], 'anna')->>'consumed_count'"),
        "1"
    );
    assert_eq!(boris.join().unwrap(), "granted");
}

#[test]
fn a_waiter_holds_no_row_lock_and_no_transaction_id() {
    let (cluster, mut client) = cluster();
    let waiters = [
        waiter(&cluster, "w0", "60 s"),
        waiter(&cluster, "w1", "60 s"),
    ];
    until_waiting(&mut client, "w0");
    until_waiting(&mut client, "w1");
    let held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE application_name LIKE 'waiter%' AND (locktype IN ('transactionid', 'tuple') OR mode LIKE 'Row%')";
    assert_eq!(client.ask(held), "0");
    assert_eq!(client.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'waiter%' AND backend_xid IS NOT NULL"), "0");
    client.ask("SELECT softlock_release('k', 'anna')");
    wait_until("the first", || {
        client.ask("SELECT locked_by_me OR owner = 'w1' FROM softlock_status(ARRAY['k'], 'w0')")
            == "t"
    });
    client.ask("SELECT softlock_break('k')");
    for waiter in waiters {
        waiter.join().unwrap();
        client.ask("SELECT softlock_break('k')");
    }
}

#[test]
fn a_cancel_and_statement_timeout_end_the_wait_at_once_wherever_in_line() {
    let (cluster, mut client) = cluster();
    let first = waiter(&cluster, "w0", "1 h");
    until_waiting(&mut client, "w0");
    let second = waiter(&cluster, "w1", "1 h");
    until_waiting(&mut client, "w1");
    let mut timed = cluster.connect("postgres");
    timed
        .batch_execute("SET statement_timeout = '50ms'")
        .unwrap();
    let error = timed
        .simple_query("SELECT softlock_acquire('k', 'clara', wait => '1 h')")
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    // The user's own lock_timeout holds while standing in line.
    timed
        .batch_execute("SET statement_timeout = 0; SET lock_timeout = '50ms'")
        .unwrap();
    let error = timed
        .simple_query("SELECT softlock_acquire('k', 'clara', wait => '1 h')")
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55P03");
    assert_eq!(timed.ask("SHOW lock_timeout"), "50ms");
    client.ask("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'waiter%'");
    assert_eq!(first.join().unwrap(), "57014");
    assert_eq!(second.join().unwrap(), "57014");
    assert_eq!(
        client.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "0"
    );
    client.ask("SELECT softlock_release('k', 'anna')");
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'boris')->>'outcome'"),
        "granted"
    );
}

#[test]
fn above_read_committed_a_wait_is_refused_and_no_wait_works() {
    let (_cluster, mut client) = cluster();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .unwrap();
        assert_eq!(
            client.ask("SELECT softlock_acquire('k', 'boris')->>'outcome'"),
            "held"
        );
        let error = client
            .simple_query("SELECT softlock_acquire('free', 'boris', wait => '1 s')")
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// A client that sends a query by the bare protocol, so that its connection can be cut while it waits.
fn ask_and_hang(cluster: &Cluster, query: &str) -> UnixStream {
    let mut stream = UnixStream::connect(cluster.dir().join(".s.PGSQL.5432")).unwrap();
    let mut send = |kind: &[u8], body: &[u8]| {
        let length = (body.len() as u32 + 4).to_be_bytes();
        stream.write_all(&[kind, &length, body].concat()).unwrap();
    };
    let startup = b"\0\x03\0\0user\0postgres\0database\0postgres\0application_name\0gone\0\0";
    send(b"", startup);
    send(b"Q", &[query.as_bytes(), b"\0"].concat());
    stream
}

#[test]
fn a_client_that_has_gone_while_it_waited_is_granted_nothing() {
    let (cluster, mut client) = cluster();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gone'";
    let gone = ask_and_hang(
        &cluster,
        "SELECT softlock_acquire('k', 'gone', wait => '1 h')",
    );
    wait_until("the waiter", || {
        client.ask(&format!("{waiting} AND wait_event_type = 'Extension'")) == "1"
    });
    drop(gone);
    client.ask("SELECT softlock_release('k', 'anna')");
    wait_until("the session's end", || client.ask(waiting) == "0");
    assert_eq!(client.rows(), 0);
    // Nor does its place in the line stay.
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'boris')->>'outcome'"),
        "granted"
    );
}

#[test]
fn without_preloading_waiters_are_served_as_well() {
    let cluster = Cluster::start_bare(&[]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna', '1 h')");
    let boris = waiter(&cluster, "boris", "60 s");
    until_waiting(&mut client, "boris");
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'clara')->>'outcome'"),
        "held"
    );
    client.ask("SELECT softlock_release('k', 'anna')");
    assert_eq!(boris.join().unwrap(), "granted");
}

#[test]
fn a_terminated_waiter_leaves_its_place_in_the_line() {
    let (cluster, mut client) = cluster();
    let boris = waiter(&cluster, "boris", "60 s");
    until_waiting(&mut client, "boris");
    client.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter boris'");
    boris.join().unwrap();
    client.ask("SELECT softlock_release('k', 'anna')");
    wait_until("the line to be empty", || {
        client.ask("SELECT softlock_acquire('k', 'clara')->>'outcome'") == "granted"
    });
}

#[test]
fn a_hand_over_can_not_be_overtaken_by_who_waits() {
    let cluster = Cluster::start(&[]);
    let mut guest = cluster.with_extension("postgres");
    let mut boris = cluster.connect("postgres");
    guest.ask("SELECT softlock_acquire('k', 'guest')");
    let pid = boris.ask("SELECT pg_backend_pid()");
    let waiting = std::thread::spawn(move || {
        boris.ask("SELECT softlock_acquire('k', 'boris', wait => '55 s')->>'outcome'")
    });
    let is_in_line = format!(
        "SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'advisory' AND granted"
    );
    wait_until("boris in line", || guest.ask(&is_in_line) == "1");
    for (from, to) in [("guest", "anna"), ("anna", "clara"), ("clara", "guest")] {
        let hand_over =
            format!("SELECT softlock_transfer('{{k}}', '{from}', '{to}')->>'transferred'");
        assert_eq!(guest.ask(&hand_over), "true");
        assert_eq!(
            guest.ask(&format!(
                "SELECT owner FROM softlock_status('{{k}}', '{to}')"
            )),
            to
        );
    }
    assert!(!waiting.is_finished());
    guest.ask("SELECT softlock_release('k', 'guest')");
    assert_eq!(waiting.join().unwrap(), "granted");
}
