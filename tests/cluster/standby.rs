//! Reading from a hot standby: a single call never fails, whatever the primary vacuums and truncates while
//! the replay lags, and says nothing newer than what has been replayed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::harness::{Ask, Cluster, wait_until};

/// The worker does not write here while nobody looks.
const SETTINGS: [&str; 1] = ["softlock.sweep_interval = 0"];

const STATUS: &str = "SELECT string_agg(coalesce(owner, 'nobody'), ' ' ORDER BY resource)
                      FROM softlock_status('{a,b,c}')";

const LAG: &str = "recovery_min_apply_delay = 200ms";
const FEEDBACK: &str = "hot_standby_feedback = on";

const VACUUMS: [&str; 3] = [
    "VACUUM softlock.locks",
    "VACUUM (TRUNCATE) softlock.locks",
    "VACUUM FREEZE softlock.locks",
];

/// A standby with these settings, which has replayed that there is the extension.
fn standby(primary: &Cluster, settings: &[&str]) -> (Cluster, Client) {
    let standby = primary.backup(&["-R"]);
    standby.set(settings);
    standby.up();
    let mut reader = standby.reconnect("postgres");
    wait_until("the replay of the extension", || {
        reader.ask("SELECT count(*) FROM pg_extension WHERE extname = 'softlock'") == "1"
    });
    (standby, reader)
}

/// Waits until the standby has replayed what has been written by now.
fn catch_up(client: &mut Client, reader: &mut Client) {
    let written = client.ask("SELECT pg_current_wal_flush_lsn()");
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    wait_until("the replay", || reader.ask(&replayed) == "t");
}

/// Takes, frees, vacuums and truncates on the primary, while single calls read on the standby, until each
/// of both has been done often enough.
fn no_call_fails(settings: &[&str], cleanings: &[&str]) {
    let primary = Cluster::start(&SETTINGS);
    let mut client = primary.with_extension("postgres");
    let (standby, mut reader) = standby(&primary, settings);
    if settings.contains(&FEEDBACK) {
        // Until the primary is told, it cleans up what the standby still looks at.
        wait_until("the feedback", || {
            client.ask("SELECT count(backend_xmin) FROM pg_stat_replication") == "1"
        });
    }
    let (rounds, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let readers = (0..2).map(|_| {
            let mut reader = standby.connect("postgres");
            let (rounds, is_over) = (&rounds, &is_over);
            scope.spawn(move || {
                let mut reads = 0;
                while reads < 30 || rounds.load(Ordering::Relaxed) < 10 * cleanings.len() {
                    for query in [
                        STATUS,
                        "SELECT count(is_locked) FROM softlock_status((SELECT array_agg('kit:' || n) FROM generate_series(1, 300) AS n))",
                        "SELECT count(*) FROM softlock_active",
                    ] {
                        if let Err(error) = reader.simple_query(query) {
                            is_over.store(true, Ordering::Relaxed);
                            panic!("after {reads} reads: {error:?}");
                        }
                        reads += 1;
                    }
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        for cleaning in cleanings.iter().cycle() {
            let take_and_free = "SELECT softlock_acquire_many((SELECT array_agg('kit:' || n) FROM generate_series(1, 300) AS n), 'anna');
                 SELECT softlock_acquire_many('{a,b,c}', 'anna'); SELECT softlock_renew('a', 'anna', '1 h');
                 SELECT softlock_release_all('anna')";
            for write in [take_and_free, cleaning] {
                client.batch_execute(write).unwrap_or_else(|error| {
                    is_over.store(true, Ordering::Relaxed);
                    panic!("{write}: {error:?}")
                });
            }
            rounds.fetch_add(1, Ordering::Relaxed);
            if is_over.load(Ordering::Relaxed) || readers.iter().all(|reader| reader.is_finished())
            {
                break;
            }
        }
    });
    client.ask("SELECT softlock_acquire('a', 'boris')");
    catch_up(&mut client, &mut reader);
    assert_eq!(reader.ask(STATUS), "boris nobody nobody");
}

#[test]
fn no_single_call_on_a_lagging_standby_fails_whatever_is_vacuumed() {
    // The replay waits for longer than a machine takes that is busy with other tests.
    no_call_fails(&[LAG, "max_standby_streaming_delay = 10min"], &VACUUMS);
}

#[test]
fn nor_does_one_fail_whatever_is_truncated_and_rewritten_where_the_primary_is_told() {
    let rewrites = [
        "TRUNCATE softlock.locks",
        "VACUUM FULL softlock.locks",
        "REINDEX TABLE softlock.locks",
    ];
    no_call_fails(&[LAG, FEEDBACK], &[&VACUUMS[..], &rewrites].concat());
}

#[test]
fn nor_on_a_standby_that_lets_no_query_hold_up_the_replay_but_tells_the_primary() {
    let settings = ["max_standby_streaming_delay = 0", FEEDBACK];
    no_call_fails(&settings, &[VACUUMS[0], VACUUMS[2]]);
}

#[test]
fn a_call_on_a_standby_waits_for_a_truncation_whose_commit_is_replayed_late() {
    let primary = Cluster::start(&SETTINGS);
    let mut client = primary.with_extension("postgres");
    client.ask("SELECT softlock_acquire('a', 'anna', '1 h')");
    let (standby, mut reader) = standby(&primary, &["recovery_min_apply_delay = 1h"]);
    assert_eq!(reader.ask(STATUS), "anna nobody nobody");
    client.batch_execute("TRUNCATE softlock.locks").unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'softlock.locks'::regclass AND ";
    let exclusive = format!("{locks} granted AND mode = 'AccessExclusiveLock'");
    wait_until("the replay of its lock", || reader.ask(&exclusive) == "1");
    let mut impatient = standby.connect("postgres");
    impatient
        .batch_execute("SET lock_timeout = '50ms'")
        .unwrap();
    let error = impatient.simple_query(STATUS).expect_err("a time-out");
    assert_eq!(error.code().map(|code| code.code()), Some("55P03"));
    let mut waiting = standby.connect("postgres");
    let waiting = thread::spawn(move || waiting.ask(STATUS));
    wait_until("a call that waits", || {
        reader.ask(&format!("{locks} NOT granted")) == "1"
    });
    // Longer than a call on the primary has patience.
    thread::sleep(Duration::from_millis(1500));
    assert!(!waiting.is_finished());
    standby.reload(&["recovery_min_apply_delay = 0"]);
    assert_eq!(waiting.join().unwrap(), "nobody nobody nobody");
}

#[test]
fn a_standby_answers_as_of_what_it_has_replayed() {
    let primary = Cluster::start(&SETTINGS);
    let mut client = primary.with_extension("postgres");
    let (_standby, mut reader) = standby(&primary, &[]);
    client.ask("SELECT softlock_acquire_many('{a,b}', 'anna', '1 h')");
    catch_up(&mut client, &mut reader);
    reader.ask("SELECT pg_wal_replay_pause()");
    wait_until("the pause", || {
        // On PostgreSQL 13 there is no more to ask.
        let paused = "SELECT pg_is_wal_replay_paused()";
        reader.ask(paused) == "t"
    });
    let active =
        "SELECT string_agg(resource || ' ' || owner, ', ' ORDER BY resource) FROM softlock_active";
    client
        .batch_execute(
            "SELECT softlock_release('a', 'anna'); SELECT softlock_acquire('a', 'boris', '1 h');
             SELECT softlock_consume('{b}', 'anna'); SELECT softlock_acquire('c', 'boris', '1 h')",
        )
        .unwrap();
    client.batch_execute("VACUUM softlock.locks").unwrap();
    client.batch_execute("TRUNCATE softlock.locks").unwrap();
    client.ask("SELECT softlock_acquire('c', 'clara', '1 h')");
    for _ in 0..10 {
        assert_eq!(reader.ask(STATUS), "anna anna nobody");
        assert_eq!(reader.ask(active), "a anna, b anna");
    }
    reader.ask("SELECT pg_wal_replay_resume()");
    catch_up(&mut client, &mut reader);
    assert_eq!(reader.ask(STATUS), "nobody nobody clara");
    assert_eq!(reader.ask(active), "c clara");
}

#[test]
fn a_standby_tells_who_is_taking_from_who_has_taken_also_under_very_many_savepoints() {
    let primary = Cluster::start(&SETTINGS);
    let mut client = primary.with_extension("postgres");
    let (_standby, mut reader) = standby(&primary, &[]);
    client.ask("SELECT softlock_acquire('a', 'anna', '1 h')");
    let mut taking = primary.connect("postgres");
    taking.batch_execute("BEGIN").unwrap();
    // More than the primary, or the standby, keeps track of by number.
    for n in 0..100 {
        taking
            .batch_execute(&format!(
                "SAVEPOINT s; SELECT softlock_acquire('k:{n}', 'boris', '1 h')"
            ))
            .unwrap();
    }
    taking.batch_execute("ROLLBACK TO s").unwrap();
    client.batch_execute("CREATE TABLE after_that ()").unwrap();
    catch_up(&mut client, &mut reader);
    let status = "SELECT count(*) FILTER (WHERE is_locked) || ' ' || count(*) FILTER (WHERE pending_owner = 'boris')
                  FROM softlock_status((SELECT array_agg('k:' || n) FROM generate_series(0, 99) AS n) || '{a}')";
    assert_eq!(reader.ask(status), "1 99");
    taking.batch_execute("COMMIT").unwrap();
    catch_up(&mut client, &mut reader);
    assert_eq!(reader.ask(status), "100 0");
}
