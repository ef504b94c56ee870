//! `softlock.serve = off`: a server that must not decide, as a router, raises instead.

use postgres::Client;

use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::{EVERY_SECOND, OFF};

const DOES_NOT_SERVE: &str = "softlock.serve = off";

/// A call of each verb, with what it would answer something for.
const CALLS: &[(&str, &str)] = &[
    ("softlock_acquire", "'k', 'anna'"),
    ("softlock_acquire_many", "'{}', 'anna'"),
    ("softlock_acquire_any", "'{k,l}', 'anna'"),
    ("softlock_renew", "'held', 'anna'"),
    ("softlock_renew_all", "'anna'"),
    ("softlock_release", "'held', 'anna'"),
    ("softlock_release_all", "'anna'"),
    ("softlock_transfer", "'{held}', 'anna', 'boris'"),
    ("softlock_consume", "'{held}', 'anna'"),
    ("softlock_break", "'held'"),
    ("softlock_break_all", "'anna'"),
    ("softlock_sweep", ""),
    ("softlock_status", "'{held}'"),
    ("softlock_pending", ""),
];

/// What decides nothing, and the guard, which a write calls.
const OTHERS: &[&str] = &[
    "softlock_adopt",
    "softlock_check",
    "softlock_disown",
    "softlock_guard",
];

#[track_caller]
fn is_refused(client: &mut Client, sql: &str) {
    let error = client.simple_query(sql).expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}"));
    assert_eq!(error.code().code(), "55000", "{sql}: {error}");
    assert_eq!(
        error.message(),
        "this server does not decide who holds what",
        "{sql}"
    );
}

/// A database with a lock and a guarded table.
fn set_up(cluster: &Cluster) -> Client {
    let mut client = cluster.with_extension("shop");
    client
        .batch_execute(
            "SELECT softlock_acquire('held', 'anna');
             CREATE TABLE guarded (key text);
             INSERT INTO guarded VALUES ('free');
             CREATE TRIGGER held BEFORE UPDATE ON guarded
                 FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'key')",
        )
        .unwrap();
    client
}

fn refuses_everything(client: &mut Client) {
    for (verb, arguments) in CALLS {
        is_refused(client, &format!("SELECT {verb}({arguments})"));
    }
    is_refused(client, "UPDATE guarded SET key = 'free'");
    assert_eq!(client.rows(), 1);
}

#[test]
fn a_server_that_must_not_decide_refuses_every_verb_and_the_guard() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = set_up(&cluster);
    let all = client.query(
        "SELECT p.proname::text FROM pg_proc AS p
         JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
         WHERE p.proname LIKE 'softlock\\_%' AND p.pronamespace = 'public'::regnamespace",
        &[],
    );
    for row in all.unwrap() {
        let name: &str = row.get(0);
        let is_tried = CALLS.iter().any(|(verb, _)| *verb == name);
        assert!(is_tried || OTHERS.contains(&name), "not tried: {name}");
    }
    cluster.reload(&[DOES_NOT_SERVE]);
    wait_until("the reload", || client.ask("SHOW softlock.serve") == "off");
    refuses_everything(&mut client);
    cluster.reload(&["softlock.serve = on"]);
    wait_until("the reload", || client.ask("SHOW softlock.serve") == "on");
    assert_eq!(
        client.ask("SELECT softlock_release('held', 'anna')->>'released'"),
        "true"
    );
}

#[test]
fn it_does_so_also_where_the_library_is_not_preloaded() {
    let cluster = Cluster::start_bare(&[]);
    drop(set_up(&cluster));
    cluster.reload(&[DOES_NOT_SERVE]);
    let mut client = cluster.connect("shop");
    wait_until("the reload", || {
        client = cluster.connect("shop");
        client.ask("SELECT current_setting('softlock.serve', true)") == "off"
    });
    refuses_everything(&mut client);
}

#[test]
fn nothing_is_swept_on_a_server_that_must_not_decide() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("shop");
    client.lapse("k");
    cluster.reload(&[DOES_NOT_SERVE, EVERY_SECOND]);
    let mut other = cluster.connect("postgres");
    // Two commits at most of each sweeper, of which there is one a round.
    let mut commits = || -> i64 {
        let count = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'template1'";
        other.ask(count).parse().unwrap()
    };
    let before = commits();
    wait_until("three rounds", || commits() > before + 6);
    assert_eq!(client.rows(), 1);
    cluster.reload(&["softlock.serve = on"]);
    wait_until("a sweep", || client.rows() == 0);
}
