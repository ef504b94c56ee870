//! `softlock_check()`: each check sees what it is there for, and its advice, followed, makes it come out well.

use std::collections::BTreeMap;

use postgres::Client;

use crate::harness::{Ask, Cluster, PRELOAD, as_server, run, wait_until};
use crate::upgrade::with_former;
use crate::worker_watch::*;

/// What a check has come to.
#[derive(Debug, PartialEq)]
enum Verdict {
    Fine,
    Wrong(String),
    Unknown(String),
}

fn verdicts_by(client: &mut Client, function: &str) -> BTreeMap<String, Verdict> {
    let query = format!("SELECT name, ok, coalesce(advice, '') FROM {function}()");
    let verdict = |row: postgres::Row| {
        let advice: String = row.get(2);
        let verdict = match row.get(1) {
            Some(true) => Verdict::Fine,
            Some(false) => Verdict::Wrong(advice),
            None => Verdict::Unknown(advice),
        };
        (row.get(0), verdict)
    };
    let rows = client.query(&query, &[]).unwrap();
    assert_eq!(rows.len(), 8, "{function}");
    rows.into_iter().map(verdict).collect()
}

fn verdicts(client: &mut Client) -> BTreeMap<String, Verdict> {
    verdicts_by(client, "softlock_check")
}

/// The advice of the check `name`, once it and no other is not as it should be. Others may not be known
/// because of it, and then say so.
#[track_caller]
fn advice_of(client: &mut Client, name: &str) -> String {
    advice_by(client, "softlock_check", name)
}

#[track_caller]
fn advice_by(client: &mut Client, function: &str, name: &str) -> String {
    let mut found = BTreeMap::new();
    wait_until(name, || {
        found = verdicts_by(client, function);
        matches!(found[name], Verdict::Wrong(_))
    });
    let mut its_own = String::new();
    for (other, verdict) in found {
        match verdict {
            Verdict::Fine => (),
            Verdict::Wrong(advice) if other == name => its_own = advice,
            Verdict::Unknown(because) if because.contains(&format!("\"{name}\"")) => (),
            verdict => panic!("{other}: {verdict:?}"),
        }
    }
    assert!(!its_own.is_empty());
    its_own
}

/// What stands in `text` between these.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{text}"))
        .1;
    match after {
        "" => rest,
        after => rest.split_once(after).unwrap_or_else(|| panic!("{text}")).0,
    }
}

fn restart_with(cluster: &Cluster, settings: &[&str]) {
    cluster.stop("fast");
    cluster.set(settings);
    cluster.up();
}

/// Waits until everything is as it should be.
#[track_caller]
fn becomes_well(client: &mut Client) {
    wait_until("all is well", || {
        let found = verdicts(client);
        let is_well = found.values().all(|verdict| *verdict == Verdict::Fine);
        if !is_well {
            eprintln!("{found:?}");
        }
        is_well
    });
}

#[test]
fn all_is_well_on_a_server_where_nothing_is_wrong_for_all_who_may_ask() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('k', 'anna')");
    becomes_well(&mut client);
    client
        .batch_execute(
            "CREATE ROLE monitor IN ROLE pg_monitor; CREATE ROLE shop_owner;
             ALTER DATABASE postgres OWNER TO shop_owner",
        )
        .unwrap();
    let version: i32 = client.ask("SHOW server_version_num").parse().unwrap();
    for role in ["monitor", "shop_owner"] {
        if role == "monitor" || version >= 140_000 {
            client.batch_execute(&format!("SET ROLE {role}")).unwrap();
            becomes_well(&mut client);
        }
    }
    // Where nothing can be written, too.
    client
        .batch_execute("RESET ROLE; BEGIN TRANSACTION READ ONLY ISOLATION LEVEL SERIALIZABLE")
        .unwrap();
    becomes_well(&mut client);
    let standby = cluster.standby();
    becomes_well(&mut standby.connect("postgres"));
}

#[test]
fn preloaded_what_is_missing_in_the_configuration_is_quoted() {
    let cluster = Cluster::start_bare(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    let advice = advice_of(&mut client, "preloaded");
    let setting = between(&advice, "Add to postgresql.conf and restart: ", "").to_owned();
    drop(client);
    restart_with(&cluster, &[&setting]);
    becomes_well(&mut cluster.connect("postgres"));
}

#[test]
fn launcher_one_that_was_ended_comes_back_within_a_second() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    becomes_well(&mut client);
    client.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'softlock launcher'",
    );
    let advice = advice_of(&mut client, "launcher");
    assert!(advice.contains("again within a second"), "{advice}");
    becomes_well(&mut client);
}

#[test]
fn launcher_one_that_found_no_worker_slot_asks_for_more() {
    // The one slot is taken by the launcher of logical replication.
    let cluster = Cluster::start(&[RARELY, "max_worker_processes = 1"]);
    let mut client = cluster.with_extension("postgres");
    let found = verdicts(&mut client);
    let Verdict::Wrong(advice) = &found["launcher"] else {
        panic!("{found:?}")
    };
    assert!(
        matches!(found["worker_slot"], Verdict::Wrong(_)),
        "{found:?}"
    );
    let slots = between(advice, "Set max_worker_processes to ", " or more");
    let setting = format!("max_worker_processes = {slots}");
    drop(client);
    restart_with(&cluster, &[&setting]);
    becomes_well(&mut cluster.connect("postgres"));
}

#[test]
fn worker_slot_where_none_is_left_for_a_sweeper_more_are_asked_for() {
    // The one slot is taken by softlock's launcher.
    let cluster = Cluster::start(&[
        RARELY,
        "max_worker_processes = 1",
        "max_logical_replication_workers = 0",
    ]);
    let mut client = cluster.with_extension("postgres");
    let advice = advice_of(&mut client, "worker_slot");
    let slots = between(&advice, "Set max_worker_processes to ", " or more");
    let setting = format!("max_worker_processes = {slots}");
    drop(client);
    restart_with(&cluster, &[&setting]);
    becomes_well(&mut cluster.connect("postgres"));
}

#[test]
fn sweep_turned_off_is_noticed_after_two_usual_intervals_and_can_be_done_by_hand() {
    let cluster = Cluster::start_with_clock("+0", &[PRELOAD, OFF]);
    let mut client = cluster.with_extension("postgres");
    becomes_well(&mut client);
    cluster.set_clock("+11m");
    let advice = advice_of(&mut client, "sweep");
    assert!(advice.contains("call softlock_sweep()"), "{advice}");
    client.ask("SELECT softlock_sweep()");
    becomes_well(&mut client);
    cluster.set_clock("+22m");
    let advice = advice_of(&mut client, "sweep");
    let interval = between(&advice, "set softlock.sweep_interval to ", ",");
    cluster.reload(&[&format!("softlock.sweep_interval = {interval}")]);
    // The background processes have kept to the old time.
    cluster.set_clock("+0");
    wait_until("a sweep by the worker", || {
        client.ask("SELECT sweeps FROM pg_stat_softlock_sweep") == "2"
    });
    becomes_well(&mut client);
}

#[test]
fn sweep_one_that_fails_points_at_the_error() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    becomes_well(&mut client);
    let mut other = cluster.connect("postgres");
    other
        .batch_execute("BEGIN; LOCK softlock.locks IN SHARE MODE")
        .unwrap();
    let advice = advice_of(&mut client, "sweep");
    assert!(
        advice.contains("pg_stat_softlock_sweep.last_error"),
        "{advice}"
    );
    let why = "SELECT last_error FROM pg_stat_softlock_sweep WHERE datname = current_database()";
    assert_eq!(
        client.ask(why),
        "softlock.locks is locked by another transaction"
    );
    drop(other);
    becomes_well(&mut client);
}

#[test]
fn sweep_a_sweeper_that_does_not_end_is_to_be_ended() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    let holder = hold_sweepers(&cluster, "postgres");
    cluster.reload(&[EVERY_SECOND]);
    let sweeper = held_sweeper(&mut client, "postgres").to_string();
    run(as_server("kill").args(["-STOP", &sweeper]));
    drop(holder);
    let advice = advice_of(&mut client, "sweep");
    assert!(advice.contains("'softlock sweeper'"), "{advice}");
    client.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'softlock sweeper'",
    );
    run(as_server("kill").args(["-CONT", &sweeper]));
    becomes_well(&mut client);
}

#[test]
fn version_another_schema_than_the_librarys_is_to_be_updated() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = with_former(&cluster, "shop", "public");
    // The former version has no such function.
    client
        .batch_execute(
            "CREATE FUNCTION by_hand() RETURNS TABLE (name text, ok boolean, advice text)
             LANGUAGE c AS '$libdir/softlock', 'softlock_check_rows_wrapper'",
        )
        .unwrap();
    let advice = advice_by(&mut client, "by_hand", "version");
    assert!(advice.contains("the schema of version 0.1.0"), "{advice}");
    client
        .batch_execute(between(&advice, "older library, then: ", ""))
        .unwrap();
    becomes_well(&mut client);
}

#[test]
fn table_what_was_altered_is_named_and_to_be_undone() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    for (done, undone, named) in [
        (
            "ALTER TABLE softlock.locks ADD CONSTRAINT odd CHECK (true)",
            "ALTER TABLE softlock.locks DROP CONSTRAINT odd",
            "\"odd\" is a check constraint",
        ),
        (
            "ALTER TABLE softlock.locks RENAME TO others",
            "ALTER TABLE softlock.others RENAME TO locks",
            "\"locks\" is missing or has been renamed",
        ),
        (
            "ALTER TABLE softlock.locks DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE softlock.locks ENABLE ROW LEVEL SECURITY",
            "\"locks\" has other row security than its own",
        ),
    ] {
        becomes_well(&mut client);
        client.batch_execute(done).unwrap();
        let advice = advice_of(&mut client, "table");
        assert!(advice.starts_with(named), "{advice}");
        assert!(advice.contains("Undo it"), "{advice}");
        client.batch_execute(undone).unwrap();
    }
    becomes_well(&mut client);
}

#[test]
fn table_who_has_locked_it_is_to_be_looked_for_in_pg_locks() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    becomes_well(&mut client);
    let mut other = cluster.connect("postgres");
    other
        .batch_execute("BEGIN; LOCK softlock.locks IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let advice = advice_of(&mut client, "table");
    assert!(advice.contains("pg_locks"), "{advice}");
    client.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE relation = 'softlock.locks'::regclass AND mode = 'AccessExclusiveLock'",
    );
    becomes_well(&mut client);
}

#[test]
fn lapsed_a_lock_that_a_transaction_is_at_is_named_by_softlock_pending() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    becomes_well(&mut client);
    let mut seller = cluster.connect("postgres");
    seller.ask("SELECT softlock_acquire('k', 'anna', '1 s')");
    seller
        .batch_execute("BEGIN; SELECT softlock_consume('{k}', 'anna')")
        .unwrap();
    let advice = advice_of(&mut client, "lapsed");
    assert!(advice.contains("softlock_pending() names it"), "{advice}");
    client.ask("SELECT pg_terminate_backend(pid) FROM softlock_pending()");
    becomes_well(&mut client);
}

#[test]
fn lapsed_where_nothing_sweeps_it_is_to_be_done_by_hand() {
    let cluster = Cluster::start_with_clock("+0", &[RARELY]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    cluster.set_clock("+3h");
    let wrong = |client: &mut Client| match verdicts(client).remove("lapsed") {
        Some(Verdict::Wrong(advice)) => Some(advice),
        _ => None,
    };
    let advice = wrong(&mut client).expect("it is noticed");
    assert!(advice.contains("Call softlock_sweep()"), "{advice}");
    while client.ask("SELECT softlock_sweep()->>'released_count'") != "0" {}
    assert_eq!(wrong(&mut client), None);
}

#[test]
fn clock_one_that_was_set_back_is_to_be_set_right_or_the_locks_to_be_ended() {
    let cluster = Cluster::start_with_clock("+0", &[PRELOAD, RARELY]);
    let mut client = cluster.with_extension("postgres");
    let take = "SELECT softlock_acquire('k', 'anna', '2 h')";
    client.ask(take);
    becomes_well(&mut client);
    cluster.set_clock("-1h");
    advice_of(&mut client, "clock");
    cluster.set_clock("+0");
    becomes_well(&mut client);
    cluster.set_clock("-1h");
    let advice = advice_of(&mut client, "clock");
    let end = between(&advice, "or end them: ", "");
    client.batch_execute(end).unwrap();
    becomes_well(&mut client);
    // What is taken by the clock as it is now is no harm.
    client.ask(take);
    becomes_well(&mut client);
}
