//! softlock.history: what is written, that it is in nobody's way, and how it is kept short. Who sees what
//! of it is in tests/pg_regress.

mod pruning;

use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, SimpleQueryMessage};

use crate::encodings;
use crate::harness::{Ask, Cluster, run};

/// No sweeping but by hand.
const NEVER: &str = "softlock.sweep_interval = 0";
const COUNT: &str = "SELECT count(*) FROM softlock.history";

fn lines(client: &mut Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).unwrap();
    let of_row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(of_row).collect()
}

/// What has happened, without what differs from run to run.
fn events(client: &mut Client) -> Vec<String> {
    lines(
        client,
        "SELECT concat_ws(' ', event, resource, owner, session) FROM softlock_history ORDER BY id",
    )
}

#[track_caller]
fn refused(client: &mut Client, statement: &str) -> (String, String) {
    let error = client.batch_execute(statement).expect_err(statement);
    let error = error.as_db_error().expect("an error of the server's");
    (error.code().code().to_owned(), error.message().to_owned())
}

#[test]
fn every_change_of_a_lock_is_in_it_with_who_why_and_how_long() {
    let cluster = Cluster::start(&[NEVER, "softlock.history = all"]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("CREATE ROLE till; CREATE ROLE manager; GRANT EXECUTE ON FUNCTION softlock_break TO manager")
        .unwrap();
    client.batch_execute("SET ROLE till").unwrap();
    for call in [
        "SELECT softlock_acquire('kit:1', 'anna')",
        "SELECT softlock_acquire('kit:1', 'boris')",
        "SELECT softlock_acquire('kit:1', 'anna')",
        "SELECT softlock_renew('kit:1', 'anna')",
        "SELECT softlock_acquire('kit:1', 'anna', session => 'cart')",
        "SELECT softlock_release('kit:1', 'anna')",
        "SELECT softlock_release('kit:1', 'anna')",
        "SELECT softlock_acquire_many('{kit:3,kit:2}', 'anna')",
        "SELECT softlock_consume('{kit:2}', 'anna')",
    ] {
        client.ask(call);
    }
    client.batch_execute("SET ROLE manager").unwrap();
    client.ask("SELECT softlock_break('kit:3', 'till 3 is down')");
    client.batch_execute("RESET ROLE").unwrap();
    client.lapse("taken");
    client.lapse("swept");
    client.ask("SELECT softlock_acquire('taken', 'boris')");
    client.ask("SELECT softlock_sweep()");
    assert_eq!(
        events(&mut client),
        [
            "granted kit:1 anna",
            "renewed kit:1 anna",
            "renewed kit:1 anna",
            "moved kit:1 anna cart",
            "released kit:1 anna cart",
            "granted kit:2 anna",
            "granted kit:3 anna",
            "consumed kit:2 anna",
            "broken kit:3 anna",
            "granted taken anna",
            "granted swept anna",
            "lapsed taken anna",
            "granted taken boris",
            "lapsed swept anna",
        ]
    );
    for (question, answer) in [
        (
            "SELECT concat_ws('|', role, actor, reason) FROM softlock_history WHERE event = 'broken'",
            "till|manager|till 3 is down",
        ),
        (
            "SELECT string_agg(DISTINCT concat_ws('|', role, actor, reason), ' ') FROM softlock_history
             WHERE resource LIKE 'kit:%' AND event <> 'broken'",
            "till|till",
        ),
        // An end has the token of the take or move before it, and a duration; a taking has none.
        (
            "SELECT count(*) FILTER (WHERE token = lag) || ' of ' || count(*) FROM (
                 SELECT event, token, lag(token) OVER (PARTITION BY resource ORDER BY id) FROM softlock_history) AS h
             WHERE event IN ('released', 'consumed', 'broken', 'lapsed', 'renewed')",
            "7 of 7",
        ),
        (
            "SELECT bool_and((held IS NULL) = (event IN ('granted', 'renewed'))) FROM softlock_history",
            "t",
        ),
        (
            "SELECT bool_and(held = '1 ms') FROM softlock_history WHERE event = 'lapsed'",
            "t",
        ),
        (
            "SELECT e.held BETWEEN e.at - s.at AND e.at - pg_postmaster_start_time()
             FROM softlock_history AS s JOIN softlock_history AS e ON e.resource = s.resource
             WHERE s.event = 'granted' AND e.event = 'released'",
            "t",
        ),
        (
            "SELECT bool_and(at BETWEEN now() - interval '1 minute' AND clock_timestamp()) FROM softlock_history",
            "t",
        ),
    ] {
        assert_eq!(client.ask(question), answer, "{question}");
    }
}

#[test]
fn with_ends_only_ends_are_in_it_and_nothing_when_it_is_off() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    let life = "SELECT softlock_acquire('a', 'anna'); SELECT softlock_acquire('a', 'anna', session => 's');
                SELECT softlock_renew('a', 'anna'); SELECT softlock_release('a', 'anna');
                SELECT softlock_acquire('b', 'anna'); SELECT softlock_transfer('{b}', 'anna', 'boris');
                SELECT softlock_break_all(owner => 'boris', reason => 'closing time');";
    client.batch_execute(life).unwrap();
    assert_eq!(client.ask(COUNT), "0");
    client
        .batch_execute(&format!("SET softlock.history = ends; {life}"))
        .unwrap();
    assert_eq!(
        events(&mut client),
        [
            "moved a anna s",
            "released a anna s",
            "moved b anna",
            "broken b boris"
        ]
    );
    assert_eq!(
        client.ask("SELECT reason FROM softlock_history WHERE event = 'broken'"),
        "closing time"
    );
    // To whom it was given has it by a grant.
    client
        .batch_execute("TRUNCATE softlock.history; SET softlock.history = 'all'")
        .unwrap();
    client.ask("SELECT softlock_acquire('b', 'anna')");
    client.ask("SELECT softlock_transfer('{b}', 'anna', 'boris')");
    assert_eq!(
        events(&mut client),
        ["granted b anna", "moved b anna", "granted b boris"]
    );
}

#[test]
fn it_has_the_units_of_each_lock() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute(
            "SET softlock.history = 'all'; SELECT softlock_acquire('rose', 'anna', units => 3, capacity => 9);
             SELECT softlock_acquire('rose', 'anna', units => 5, capacity => 9);
             SELECT softlock_acquire('rose', 'boris', units => 2, capacity => 9);
             SELECT softlock_transfer('{rose}', 'anna', 'boris'); SELECT softlock_consume('{rose}', 'boris')",
        )
        .unwrap();
    let told = "SELECT string_agg(concat_ws(' ', event, owner, units), ', ' ORDER BY id) FROM softlock_history";
    assert_eq!(
        client.ask(told),
        "granted anna 3, renewed anna 5, granted boris 2, moved anna 5, granted boris 7, consumed boris 7"
    );
}

#[test]
fn it_goes_with_its_transaction_and_leaves_lastval_alone() {
    let cluster = Cluster::start(&[NEVER, "softlock.history = all"]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("CREATE SEQUENCE mine START 77")
        .unwrap();
    client.ask("SELECT nextval('mine')");
    for (script, in_it) in [
        ("BEGIN; SELECT softlock_acquire('a', 'anna'); ROLLBACK", ""),
        (
            "BEGIN; SAVEPOINT s; SELECT softlock_acquire('b', 'anna'); ROLLBACK TO s; COMMIT",
            "",
        ),
        (
            "BEGIN; SAVEPOINT s; SELECT softlock_acquire('c', 'anna'); RELEASE s; COMMIT",
            "granted c anna",
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT softlock_acquire('d', 'anna'); SELECT softlock_release('d', 'anna'); COMMIT",
            "granted d anna released d anna",
        ),
        (
            "BEGIN; SELECT softlock_acquire('e', 'anna'); PREPARE TRANSACTION 'p'",
            "",
        ),
        ("COMMIT PREPARED 'p'", "granted e anna"),
    ] {
        let before = events(&mut client).len();
        client.batch_execute(script).unwrap();
        let after = events(&mut client);
        assert_eq!(after[before..].join(" "), in_it, "{script}");
    }
    assert_eq!(client.ask("SELECT lastval()"), "77");
    // Seen by the next statement of the same transaction.
    client.batch_execute("BEGIN").unwrap();
    client.ask("SELECT softlock_acquire('f', 'anna')");
    assert_eq!(client.ask(&format!("{COUNT} WHERE resource = 'f'")), "1");
    client.batch_execute("ROLLBACK").unwrap();
}

#[test]
fn a_sale_goes_on_with_a_warning_while_somebody_has_the_history_locked() {
    let cluster = Cluster::start(&[NEVER, "softlock.history = all"]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("lapsed");
    let mut other = cluster.connect("postgres");
    other
        .batch_execute("BEGIN; LOCK TABLE softlock.history")
        .unwrap();
    client
        .batch_execute("SET statement_timeout = '20 s'")
        .unwrap();
    client
        .batch_execute(
            "BEGIN; SELECT softlock_acquire('a', 'anna'); SELECT softlock_consume('{a}', 'anna'); COMMIT",
        )
        .unwrap();
    // One warning per transaction.
    let warning =
        "WARNING:  softlock.history is locked, and lacks what this transaction does to locks";
    assert_eq!(cluster.log_count(warning), 1, "{}", cluster.log());
    assert!(
        cluster
            .log()
            .contains("DETAIL:  The first event that is not in it: granted \"a\".")
    );
    client.ask("SELECT softlock_acquire('b', 'anna')");
    assert_eq!(cluster.log_count(warning), 2);
    // A sweep can be done later.
    let (code, message) = refused(&mut client, "SELECT softlock_sweep()");
    assert_eq!(code, "55P03");
    assert_eq!(message, "softlock.history is locked by another transaction");
    other.batch_execute("COMMIT").unwrap();
    client.ask("SELECT softlock_sweep()");
    assert_eq!(
        events(&mut client),
        ["granted lapsed anna", "lapsed lapsed anna"]
    );
}

#[test]
fn an_altered_history_is_refused_where_it_is_written_and_no_matter_where_it_is_not() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    let mut writer = cluster.connect("postgres");
    writer
        .batch_execute("SET softlock.history = 'all'")
        .unwrap();
    writer.ask("SELECT softlock_acquire('mine', 'anna')");
    for (alter, undo, named) in [
        (
            "ALTER TABLE softlock.history ADD note text",
            "ALTER TABLE softlock.history DROP note",
            "\"note\" is an added column",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON softlock.history FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "DROP TRIGGER t ON softlock.history",
            "\"t\" is a trigger",
        ),
        (
            "CREATE UNIQUE INDEX u ON softlock.history (resource)",
            "DROP INDEX softlock.u",
            "\"u\" is a unique index",
        ),
        (
            "ALTER INDEX softlock.history_pkey RENAME TO other",
            "ALTER INDEX softlock.other RENAME TO history_pkey",
            "\"history_pkey\" is missing or has been renamed",
        ),
        (
            "ALTER TABLE softlock.history ALTER reason SET NOT NULL",
            "ALTER TABLE softlock.history ALTER reason DROP NOT NULL",
            "\"reason\" is a column with another NOT NULL",
        ),
    ] {
        client
            .batch_execute(&format!("TRUNCATE softlock.history; {alter}"))
            .unwrap();
        for call in [
            "SELECT softlock_acquire('k', 'anna')",
            "SELECT softlock_renew('mine', 'anna')",
            "SELECT softlock_sweep()",
        ] {
            let error = writer.batch_execute(call).expect_err(alter);
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "55000", "{alter}: {call}: {error}");
            assert_eq!(error.message(), "softlock.history has been altered");
            let detail = error.detail().unwrap();
            assert!(detail.starts_with(named), "{alter}: {detail}");
        }
        client.ask("SELECT softlock_acquire('k', 'boris')");
        client.ask("SELECT softlock_release('k', 'boris')");
        client.ask("SELECT softlock_sweep()");
        client.batch_execute(undo).unwrap();
        writer.ask("SELECT softlock_renew('mine', 'anna')");
        assert_eq!(client.ask(COUNT), "1", "{undo}");
    }
    // Another plain index is kept up.
    client
        .batch_execute("CREATE INDEX mine ON softlock.history (owner)")
        .unwrap();
    writer.ask("SELECT softlock_renew('mine', 'anna')");
    client.batch_execute("SET enable_seqscan = off").unwrap();
    assert_eq!(client.ask(&format!("{COUNT} WHERE owner = 'anna'")), "2");
}

#[test]
fn both_work_without_preloading_in_other_encodings_and_after_a_role_is_gone() {
    let cluster = Cluster::start_bare(&[
        "session_preload_libraries = 'softlock'",
        "softlock.history = ends",
    ]);
    for (encoding, word) in [
        ("UTF8", "букет"),
        ("LATIN1", "café"),
        ("SQL_ASCII", "букет"),
    ] {
        let mut client = encodings::database(&cluster, encoding);
        client
            .batch_execute("CREATE ROLE leaver; SET softlock.notify = 'all'; LISTEN softlock")
            .unwrap();
        client.batch_execute("SET ROLE leaver").unwrap();
        client.ask(&format!(
            "SELECT softlock_acquire('{word}', '{word}', session => '{word}')"
        ));
        client.batch_execute("RESET ROLE").unwrap();
        client.ask(&format!("SELECT softlock_break('{word}', '{word}')"));
        client
            .batch_execute("DROP ROLE leaver; CREATE ROLE reader")
            .unwrap();
        let told: Vec<_> = client.notifications().iter().collect().unwrap();
        let names = format!("\"resource\": \"{word}\", \"owner\": \"{word}\"");
        for (told, event) in told.iter().zip(["granted", "broken"]) {
            let payload = format!("{{\"event\": \"{event}\", {names}}}");
            assert_eq!(told.payload(), payload, "{encoding}");
        }
        assert_eq!(told.len(), 2, "{encoding}");
        let whole = "SELECT concat_ws(' ', event, resource, owner, session, actor, reason) FROM softlock_history";
        assert_eq!(
            client.ask(whole),
            format!("broken {word} {word} {word} postgres {word}"),
            "{encoding}"
        );
        client.batch_execute("SET ROLE reader").unwrap();
        assert_eq!(client.ask("SELECT count(*) FROM softlock_history"), "0");
        client
            .batch_execute("RESET ROLE; DROP ROLE reader")
            .unwrap();
        client.ask("SELECT softlock_sweep()");
    }
}

#[test]
fn it_is_not_dumped() {
    let cluster = Cluster::start(&[NEVER, "softlock.history = all"]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('not-in-the-dump', 'anna')");
    assert_eq!(client.ask(COUNT), "1");
    let output = run(cluster.program("pg_dump").arg("postgres"));
    let dump = String::from_utf8(output.stdout).unwrap();
    assert!(
        dump.contains("CREATE EXTENSION") && !dump.contains("not-in-the-dump"),
        "{dump}"
    );
}
