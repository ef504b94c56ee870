//! Tokens of a resource only grow, for ever: whatever is undone, lost or restored.

use std::fs;
use std::thread;

use crate::harness::{Ask, Cluster, PRELOAD, wait_until};
use postgres::Client;

/// The tokens that have been told, committed or not.
#[derive(Default)]
pub struct Told {
    last: i64,
}

impl Told {
    /// Notes one that has been told after `how`.
    #[track_caller]
    pub fn grown(&mut self, how: &str, token: i64) {
        let last = self.last;
        assert!(token > last, "{how}: {token} is not past {last}");
        self.last = token;
    }
}

/// Takes `k`, which must be free, and answers the token.
#[track_caller]
pub fn take(client: &mut Client) -> i64 {
    let answer = client.ask("SELECT softlock_acquire('k', 'anna', '1 h')");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer");
    assert_eq!(answer["outcome"], "granted");
    answer["token"].as_i64().expect("a token")
}

pub fn free(client: &mut Client) {
    client.ask("SELECT softlock_break('k')");
}

/// Takes `k` and frees it, so many times.
#[track_caller]
pub fn take_often(client: &mut Client, told: &mut Told, times: usize) {
    for _ in 0..times {
        told.grown("a grant", take(client));
        free(client);
    }
}

/// Tells a token in a transaction that it leaves open.
fn tell_uncommitted(client: &mut Client, told: &mut Told) {
    client.batch_execute("BEGIN").unwrap();
    told.grown("a grant that is not committed", take(client));
}

fn grow_over_every_end_of_a_hold(settings: &[&str]) {
    let cluster = Cluster::start_bare(settings);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    told.grown("the first grant", take(&mut client));
    let moved = client.ask("SELECT softlock_acquire('k', 'anna', session => 'cart')->>'token'");
    told.grown("a move", moved.parse().unwrap());
    client.ask("SELECT softlock_release('k', 'anna')");
    told.grown("a release", take(&mut client));
    free(&mut client);
    client.lapse("k");
    told.grown("a lapse", take(&mut client));
    free(&mut client);
    client.lapse("k");
    client.ask("SELECT softlock_sweep()");
    told.grown("a sweep", take(&mut client));
    client.ask("SELECT softlock_consume(ARRAY['k'], 'anna')");
    client.batch_execute("VACUUM softlock.locks").unwrap();
    told.grown("a sale, and a vacuum", take(&mut client));
    free(&mut client);
    tell_uncommitted(&mut client, &mut told);
    client
        .batch_execute("ROLLBACK; BEGIN; SAVEPOINT s")
        .unwrap();
    told.grown("a rollback", take(&mut client));
    client.batch_execute("ROLLBACK TO s").unwrap();
    told.grown("a savepoint's rollback", take(&mut client));
    client.batch_execute("ROLLBACK").unwrap();
    client.ask("SELECT softlock_acquire_many(ARRAY['k', 'l'], 'boris')");
    let of_cart = client.ask("SELECT token FROM softlock.locks WHERE resource = 'k'");
    told.grown("a cart", of_cart.parse().unwrap());
}

#[test]
fn tokens_grow_over_every_end_of_a_hold() {
    grow_over_every_end_of_a_hold(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_every_end_of_a_hold_without_preloading() {
    grow_over_every_end_of_a_hold(&[]);
}

/// Many sessions at once draw tokens of other resources: no two draw the same, and each draws larger ones
/// than anybody had drawn before.
fn grow_over_all_resources(settings: &[&str]) {
    let cluster = Cluster::start_bare(settings);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("CREATE UNLOGGED TABLE told (before bigint, token bigint UNIQUE)")
        .unwrap();
    thread::scope(|scope| {
        for session in 0..4 {
            let mut client = cluster.connect("postgres");
            scope.spawn(move || {
                client
                    .batch_execute(&format!(
                        "DO $$
                        DECLARE before bigint;
                        BEGIN
                            FOR n IN 1 .. 500 LOOP
                                SELECT coalesce(max(token), 0) INTO before FROM told;
                                INSERT INTO told VALUES (before,
                                    (softlock_acquire('{session}:' || n, 'anna')->>'token')::bigint);
                                COMMIT;
                            END LOOP;
                        END $$"
                    ))
                    .unwrap();
            });
        }
    });
    assert_eq!(client.ask("SELECT count(*) FROM told"), "2000");
    assert_eq!(
        client.ask("SELECT count(*) FROM told WHERE token <= before"),
        "0"
    );
}

#[test]
fn tokens_grow_over_all_resources() {
    grow_over_all_resources(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_all_resources_without_preloading() {
    grow_over_all_resources(&[]);
}

/// Crashes with commits that are not on disk yet, and with a token told and not committed.
fn grow_over_crashes(settings: &[&str]) {
    let mut all = vec!["synchronous_commit = off", "wal_writer_delay = 10s"];
    all.extend(settings);
    let cluster = Cluster::start_bare(&all);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT pg_switch_wal()");
    let mut told = Told::default();
    for _ in 0..3 {
        take_often(&mut client, &mut told, 40);
        cluster.stop("immediate");
        cluster.up();
        client = cluster.connect("postgres");
        // The last commit may be lost, and with it the end of a hold.
        free(&mut client);
        told.grown("after a crash", take(&mut client));
        free(&mut client);
        tell_uncommitted(&mut client, &mut told);
        cluster.stop("immediate");
        cluster.up();
        client = cluster.connect("postgres");
        free(&mut client);
        told.grown("after a crash of who had not committed", take(&mut client));
        free(&mut client);
    }
}

#[test]
fn tokens_grow_over_a_crash_that_loses_commits() {
    grow_over_crashes(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_a_crash_that_loses_commits_without_preloading() {
    grow_over_crashes(&[]);
}

#[test]
fn tokens_grow_over_the_promotion_of_a_standby_that_missed_the_last_hundred() {
    let primary = Cluster::start(&[]);
    let mut client = primary.with_extension("postgres");
    let mut told = Told::default();
    take_often(&mut client, &mut told, 1);
    let standby = primary.standby();
    standby.stop("fast");
    take_often(&mut client, &mut told, 100);
    primary.stop("immediate");
    standby.up();
    standby.promote();
    take_often(&mut standby.connect("postgres"), &mut told, 1);
}

#[test]
fn tokens_grow_over_the_restore_of_a_base_backup() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    take_often(&mut client, &mut told, 1);
    let backup = cluster.backup(&[]);
    take_often(&mut client, &mut told, 100);
    cluster.stop("immediate");
    backup.up();
    take_often(&mut backup.connect("postgres"), &mut told, 1);
}

#[test]
fn tokens_grow_over_a_recovery_to_an_earlier_point_in_time() {
    let cluster = Cluster::start(&["wal_keep_size = 1GB"]);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    let backup = cluster.backup(&["-X", "none"]);
    take_often(&mut client, &mut told, 1);
    client
        .batch_execute("CREATE TABLE last_kept AS SELECT softlock_acquire('kept', 'anna', '1 h')")
        .unwrap();
    let target = client.ask("SELECT pg_current_wal_insert_lsn()");
    take_often(&mut client, &mut told, 100);
    client
        .batch_execute("CREATE TABLE lost (); SELECT pg_switch_wal()")
        .unwrap();
    cluster.stop("fast");
    backup.set(&[
        &format!(
            "restore_command = 'cp {}/pg_wal/%f %p'",
            cluster.data().display()
        ),
        &format!("recovery_target_lsn = '{target}'"),
        "recovery_target_action = promote",
    ]);
    fs::write(backup.data().join("recovery.signal"), "").unwrap();
    backup.up();
    let mut client = backup.connect("postgres");
    wait_until("the end of recovery", || {
        client.ask("SELECT pg_is_in_recovery()") == "f"
    });
    let came_to = client.ask("SELECT to_regclass('last_kept'), to_regclass('lost')");
    assert_eq!(came_to, "last_kept");
    assert_eq!(
        client
            .ask("SELECT to_regclass('lost') IS NULL AND is_locked FROM softlock_status('{kept}')"),
        "t"
    );
    take_often(&mut client, &mut told, 1);
}

#[cfg(not(feature = "pg13"))] // which has no role for the owner of a database
#[test]
fn tokens_grow_over_a_restored_dump_which_has_the_policies_and_nothing_of_them() {
    use crate::harness::run;

    let cluster = Cluster::start(&[]);
    let mut superuser = cluster.connect("postgres");
    for statement in [
        "CREATE ROLE shopkeeper LOGIN",
        "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data",
        "CREATE DATABASE shop OWNER shopkeeper",
        "CREATE DATABASE copy OWNER shopkeeper",
        "CREATE DATABASE copy_of_superuser",
    ] {
        superuser.batch_execute(statement).unwrap();
    }
    let mut client = cluster
        .config("shop")
        .user("shopkeeper")
        .connect(postgres::NoTls)
        .unwrap();
    client
        .batch_execute(
            "CREATE TABLE kit (id int); CREATE EXTENSION softlock;
             INSERT INTO softlock.policies (kind, default_ttl) VALUES ('kit', '1 min')",
        )
        .unwrap();
    let mut told = Told::default();
    take_often(&mut client, &mut told, 5);
    told.grown("a grant", take(&mut client));
    for dumper in ["shopkeeper", "reader", "postgres"] {
        let mut pg_dump = cluster.program("pg_dump");
        let dump = run(pg_dump.args(["-d", "shop", "-U", dumper])).stdout;
        let text = String::from_utf8_lossy(&dump);
        assert!(
            text.contains("CREATE EXTENSION IF NOT EXISTS softlock"),
            "{dumper}"
        );
        for absent in ["setval", "softlock.locks", "softlock.token"] {
            assert!(!text.contains(absent), "{absent} by {dumper}: {text}");
        }
        fs::write(cluster.dir().join(dumper), dump).unwrap();
    }
    free(&mut client);
    take_often(&mut client, &mut told, 5);
    for (restorer, database) in [("shopkeeper", "copy"), ("postgres", "copy_of_superuser")] {
        let mut psql = cluster.program("psql");
        run(psql
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                restorer,
                "-d",
                database,
                "-f",
            ])
            .arg(cluster.dir().join(restorer)));
        let mut copy = cluster.connect(database);
        assert_eq!(copy.rows(), 0, "locks are not dumped");
        let policies = "SELECT kind || ' ' || default_ttl FROM softlock.policies";
        assert_eq!(copy.ask(policies), "kit 00:01:00");
        take_often(&mut copy, &mut told, 1);
    }
}

fn grow_over_a_new_extension(settings: &[&str]) {
    let cluster = Cluster::start_bare(settings);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    for _ in 0..3 {
        take_often(&mut client, &mut told, 10);
        tell_uncommitted(&mut client, &mut told);
        client
            .batch_execute("ROLLBACK; DROP EXTENSION softlock; CREATE EXTENSION softlock")
            .unwrap();
    }
    take_often(&mut client, &mut told, 1);
}

#[test]
fn tokens_grow_over_drop_and_create_extension() {
    grow_over_a_new_extension(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_drop_and_create_extension_without_preloading() {
    grow_over_a_new_extension(&[]);
}

fn grow_over_setval(settings: &[&str]) {
    let cluster = Cluster::start_bare(settings);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    let set_back = "SELECT setval('softlock.token', 1)";
    take_often(&mut client, &mut told, 10);
    client.ask(set_back);
    take_often(&mut client, &mut told, 10);
    // Who has not drawn before reads the sequence.
    client.ask(set_back);
    take_often(&mut cluster.connect("postgres"), &mut told, 10);
    client.ask(set_back);
    cluster.stop("fast");
    cluster.up();
    take_often(&mut cluster.connect("postgres"), &mut told, 10);
}

#[test]
fn tokens_grow_over_a_superusers_setval_downwards() {
    grow_over_setval(&[PRELOAD]);
}

#[test]
fn tokens_grow_over_a_superusers_setval_downwards_without_preloading() {
    grow_over_setval(&[]);
}
