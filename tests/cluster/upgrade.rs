//! From the schema of 0.1.0, as its kept SQL made it, to today's: nothing is lost, nothing is left over.

mod privileges;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};

use crate::harness::{Ask, Cluster, run, wait_until};

const FORMER: &str = "0.1.0";
const UPDATE: &str = "ALTER EXTENSION softlock UPDATE";
/// No sweeping but by hand.
const NEVER: &str = "softlock.sweep_interval = 0";

/// Makes the former version one that the server can create, for as long as any test needs it.
struct FormerVersion;

static USERS: Mutex<usize> = Mutex::new(0);

impl FormerVersion {
    fn install() -> FormerVersion {
        let mut users = USERS.lock().unwrap();
        if *users == 0 {
            fs::copy(Self::source(), Self::installed()).expect("the directory can be written");
        }
        *users += 1;
        FormerVersion
    }

    fn source() -> PathBuf {
        let name = format!("sql/install/softlock--{FORMER}.sql");
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    fn installed() -> PathBuf {
        let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
        let output = run(Command::new(pg_config).arg("--sharedir"));
        let shared = String::from_utf8(output.stdout).expect("a path");
        Path::new(shared.trim()).join(format!("extension/softlock--{FORMER}.sql"))
    }
}

impl Drop for FormerVersion {
    fn drop(&mut self) {
        let mut users = USERS.lock().unwrap();
        *users -= 1;
        if *users == 0 {
            let _ = fs::remove_file(Self::installed());
        }
    }
}

/// Creates a database with the former version in `schema`, and connects to it. The library is today's,
/// so that rows are put in by hand.
pub fn with_former(cluster: &Cluster, database: &str, schema: &str) -> Client {
    let _former = FormerVersion::install();
    let mut client = database_with(cluster, database, schema);
    client
        .batch_execute(&format!(
            "CREATE EXTENSION softlock SCHEMA \"{schema}\" VERSION '{FORMER}'"
        ))
        .unwrap();
    client
}

fn database_with(cluster: &Cluster, database: &str, schema: &str) -> Client {
    cluster
        .connect("postgres")
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .unwrap();
    let mut client = cluster.connect(database);
    client
        .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))
        .unwrap();
    client
}

/// Puts in what a shop of the former version may have had: live and lapsed locks, with and without a
/// session and metadata, of two roles, each with the sequence's next token.
fn fill(client: &mut Client) {
    client
        .batch_execute(
            "INSERT INTO softlock.locks
             SELECT 'kit:' || g, CASE g % 2 WHEN 0 THEN 'anna' ELSE 'букет' END,
                    CASE g % 3 WHEN 0 THEN 'cart-' || g END, nextval('softlock.token'),
                    CASE g % 5 WHEN 0 THEN 'pg_monitor' ELSE 'postgres' END::regrole,
                    CASE g % 4 WHEN 0 THEN jsonb_build_object('till', g) END,
                    t.now - '1 minute'::interval, t.now + (g - 10) * '1 hour'::interval
             FROM generate_series(1, 30) AS g, clock_timestamp() AS t (now)",
        )
        .unwrap();
}

fn lines(client: &mut Client, query: &str) -> Vec<String> {
    let messages = client
        .simple_query(query)
        .unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let of_row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(of_row).collect()
}

/// Everything that can be told of what the extension has installed.
fn installed(client: &mut Client) -> Vec<String> {
    lines(client, include_str!("upgrade/installed.sql"))
}

/// What pg_dump says, down to the extension's own objects where `arguments` ask for them: its statements'
/// lines, without what is only of this database or of this dump.
fn dumped(cluster: &Cluster, database: &str, arguments: &[&str]) -> BTreeSet<String> {
    let mut pg_dump = cluster.program("pg_dump");
    let output = run(pg_dump.args(arguments).arg(database));
    let own = ["--", "\\restrict", "\\unrestrict"];
    let numbers = [
        "binary_upgrade_create_empty_extension",
        "binary_upgrade_set_",
        "relfrozenxid",
        "WHERE oid = ",
        "setval",
    ];
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .filter(|line| !own.iter().any(|start| line.starts_with(start)))
        .filter(|line| !numbers.iter().any(|number| line.contains(number)))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_same(what: &str, one: impl IntoIterator<Item = String>, other: Vec<String>) {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) =
        (one.into_iter().collect(), other.into_iter().collect());
    let (only_one, only_other) = (one.difference(&other), other.difference(&one));
    let (only_one, only_other): (Vec<_>, Vec<_>) = (only_one.collect(), only_other.collect());
    assert!(
        only_one.is_empty() && only_other.is_empty(),
        "{what}:\nonly in the first: {only_one:#?}\nonly in the second: {only_other:#?}"
    );
    assert!(!one.is_empty(), "{what}: nothing");
}

#[track_caller]
fn refused(client: &mut Client, statement: &str) -> DbError {
    let error = match client.batch_execute(statement) {
        Ok(()) => panic!("{statement}: was not refused"),
        Err(error) => error,
    };
    error
        .as_db_error()
        .unwrap_or_else(|| panic!("{statement}: {error:?}"))
        .clone()
}

#[test]
fn what_an_update_makes_is_what_a_fresh_installation_makes() {
    let cluster = Cluster::start(&[NEVER]);
    cluster
        .connect("postgres")
        .batch_execute("CREATE ROLE dba SUPERUSER")
        .unwrap();
    for (number, schema) in ["public", "ext", "Odd, too"].iter().enumerate() {
        let (updated, fresh) = (format!("updated{number}"), format!("fresh{number}"));
        let mut by_update = with_former(&cluster, &updated, schema);
        fill(&mut by_update);
        // Whoever updates, the objects are those of who installed.
        by_update
            .batch_execute(&format!("SET ROLE dba; {UPDATE}; RESET ROLE"))
            .unwrap();
        let mut at_once = database_with(&cluster, &fresh, schema);
        at_once
            .batch_execute(&format!("CREATE EXTENSION softlock SCHEMA \"{schema}\""))
            .unwrap();
        assert_same(schema, installed(&mut by_update), installed(&mut at_once));
        for arguments in [
            &["-s"][..],
            &["-s", "-n", "softlock"],
            &["-s", "--binary-upgrade"],
        ] {
            let updated = dumped(&cluster, &updated, arguments);
            let fresh = dumped(&cluster, &fresh, arguments);
            assert_same(schema, updated, fresh.into_iter().collect());
        }
        let definitions = dumped(&cluster, &updated, &["-s", "--binary-upgrade"]);
        let is_there = |part: &str| definitions.iter().any(|line| line.contains(part));
        assert!(is_there("CREATE TABLE softlock.locks"), "{definitions:#?}");
    }
}

#[test]
fn until_the_update_every_verb_asks_for_it_and_nothing_else_happens() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 1"]);
    let mut client = with_former(&cluster, "shop", "public");
    fill(&mut client);
    client
        .batch_execute(
            "CREATE TABLE reservation (kit integer);
             INSERT INTO reservation VALUES (1);
             CREATE TRIGGER held BEFORE UPDATE OR DELETE ON reservation
                 FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'kit')",
        )
        .unwrap();
    let before = lines(&mut client, "SELECT l::text FROM softlock.locks AS l");
    let calls = [
        "SELECT softlock_acquire('kit:11', 'anna')",
        "SELECT softlock_acquire('new', 'anna', wait => '1 s')",
        "SELECT softlock_acquire_many('{kit:11,new}', 'anna')",
        "SELECT softlock_renew('kit:12', 'anna')",
        "SELECT softlock_release('kit:12', 'anna')",
        "SELECT softlock_release_all('anna')",
        "SELECT softlock_consume('{kit:12}', 'anna')",
        "SELECT softlock_break('kit:12')",
        "SELECT softlock_sweep()",
        "SELECT softlock_status('{kit:12}', 'anna')",
        "SELECT * FROM softlock_status('{kit:12}')",
        "UPDATE reservation SET kit = 2",
        "DELETE FROM reservation",
    ];
    // Twice: with what the session has found out the first time.
    for call in calls.iter().chain(&calls) {
        let error = refused(&mut client, call);
        assert_eq!(error.code().code(), "55000", "{call}: {error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(UPDATE), "{call}: {hint}");
    }
    wait_until("the sweeper in that database", || {
        cluster.log().contains("different versions")
    });
    let after = lines(&mut client, "SELECT l::text FROM softlock.locks AS l");
    assert_eq!(before, after);
    // The same sessions, and the sweeper, go on once it is updated.
    client.batch_execute(UPDATE).unwrap();
    assert_eq!(
        client.ask("SELECT softlock_renew('kit:12', 'anna')->>'renewed'"),
        "true"
    );
    assert_eq!(
        refused(&mut client, "UPDATE reservation SET kit = 11")
            .code()
            .code(),
        "SL002"
    );
    wait_until("the sweep", || {
        client.ask("SELECT count(*) FROM softlock.locks WHERE expires_at < now()") == "0"
    });
    for death in ["terminated by signal", "PANIC", "exited with exit code 2"] {
        assert_eq!(cluster.log_count(death), 0, "{}", cluster.log());
    }
}

#[test]
fn live_locks_stay_their_holders_with_the_tokens_that_they_have() {
    const CARRIED: &str = "SELECT concat_ws('|', resource, owner, session, token, role, metadata,
                               acquired_at, expires_at) FROM softlock.locks ORDER BY 1";
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    fill(&mut client);
    let before = lines(&mut client, CARRIED);
    client.batch_execute(UPDATE).unwrap();
    assert_eq!(lines(&mut client, CARRIED), before);

    let mut outcome = |call: &str| client.ask(&format!("SELECT {call}->>'outcome'"));
    assert_eq!(outcome("softlock_acquire('kit:12', 'boris')"), "held");
    assert_eq!(outcome("softlock_acquire('kit:12', 'anna')"), "renewed");
    assert_eq!(
        outcome("softlock_renew('kit:12', 'anna', token => 11)"),
        "stale_token"
    );
    // Of the role pg_monitor.
    assert_eq!(outcome("softlock_acquire('kit:15', 'букет')"), "renewed");
    assert_eq!(outcome("softlock_acquire('kit:10', 'boris')"), "granted");
    let mut ask = |query: &str| client.ask(query);
    assert_eq!(
        ask("SELECT softlock_renew('kit:12', 'anna', token => 12)->>'renewed'"),
        "true"
    );
    assert_eq!(
        ask("SELECT session FROM softlock_status('{kit:12}', 'anna')"),
        "cart-12"
    );
    assert_eq!(
        ask("SELECT softlock_consume('{kit:12,kit:14}', 'anna', '{12,14}')->>'consumed_count'"),
        "2"
    );
    assert_eq!(ask("SELECT softlock_sweep()->>'released_count'"), "9");
    assert_eq!(ask("SELECT count(*) FROM softlock_active"), "19");
}

#[test]
fn every_token_after_the_update_is_larger_however_far_the_sequence_had_come() {
    // Further than any clock of these days.
    const FAR: &str = "5000000000000000";
    let cluster = Cluster::start(&[NEVER]);
    for (database, position) in [("near", "31"), ("far", FAR)] {
        let mut client = with_former(&cluster, database, "public");
        fill(&mut client);
        client.ask(&format!("SELECT setval('softlock.token', {position})"));
        client.batch_execute(UPDATE).unwrap();
        for resource in ["kit:12", "kit:10", "new"] {
            let token =
                format!("softlock_acquire('{resource}', 'anna', session => 'new')->'token'");
            let is_larger = format!("SELECT ({token})::bigint > {position}");
            assert_eq!(client.ask(&is_larger), "t", "{database}: {resource}");
        }
    }
}

#[test]
fn a_view_on_softlock_status_is_named_and_nothing_is_changed() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    fill(&mut client);
    client
        .batch_execute("CREATE VIEW page AS SELECT * FROM softlock_status('{kit:11}')")
        .unwrap();
    let before = installed(&mut client);
    let error = refused(&mut client, UPDATE);
    assert_eq!(error.code().code(), "2BP01");
    assert_eq!(
        error.detail(),
        Some("view public.page depends on function public.softlock_status(text[],text)")
    );
    assert_same("after the refusal", installed(&mut client), before);
    client
        .batch_execute(&format!("DROP VIEW page; {UPDATE}"))
        .unwrap();
}

#[test]
fn a_table_that_was_given_another_column_is_not_updated() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    client
        .batch_execute(
            "ALTER TABLE softlock.locks ADD COLUMN note text; ALTER TABLE softlock.locks DROP COLUMN note",
        )
        .unwrap();
    let error = refused(&mut client, UPDATE);
    assert_eq!(error.code().code(), "55000");
    assert_eq!(error.message(), "softlock.locks has been altered");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("DROP EXTENSION softlock"))
    );
}

#[test]
fn after_the_update_the_extension_can_be_dropped_and_created_again() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    fill(&mut client);
    client.batch_execute(UPDATE).unwrap();
    let take = "SELECT (softlock_acquire('kit:7', 'anna')->'token')::bigint";
    let token: i64 = client.ask(take).parse().unwrap();
    client.batch_execute("DROP EXTENSION softlock").unwrap();
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'softlock'";
    assert_eq!(client.ask(left), "0");
    client.batch_execute("CREATE EXTENSION softlock").unwrap();
    assert_eq!(client.rows(), 0);
    assert!(client.ask(take).parse::<i64>().unwrap() > token);
}
