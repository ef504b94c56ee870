//! The background worker on real clusters: what it does by itself, and where.

use crate::harness::{Ask, Cluster, run, wait_until};
use crate::worker_watch::*;

#[test]
fn every_database_with_the_extension_is_found_also_one_created_while_running() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    cluster
        .connect("postgres")
        .batch_execute("CREATE DATABASE without")
        .unwrap();
    let mut first = cluster.with_extension("first");
    first.lapse("k");
    wait_until("the sweep of the first", || first.rows() == 0);
    let mut second = cluster.with_extension("second");
    second.lapse("k");
    wait_until("the sweep of the second", || second.rows() == 0);
    first.lapse("k");
    wait_until("another sweep of the first", || first.rows() == 0);
}

#[test]
fn a_sweep_at_start_up_does_not_wait_for_the_interval() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    drop(client);
    cluster.stop("fast");
    cluster.up();
    let mut client = cluster.connect("postgres");
    wait_until("the sweep", || client.rows() == 0);
}

#[test]
fn a_live_lock_is_left_alone() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('live', 'anna')");
    client.lapse("k");
    wait_until("the sweep", || client.rows() == 1);
    assert_eq!(client.ask("SELECT resource FROM softlock.locks"), "live");
}

#[test]
fn a_sweep_logs_one_line_and_a_debug_line_for_each_of_the_first_ten() {
    let cluster = Cluster::start(&[RARELY, "log_min_messages = debug1"]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT count(softlock_acquire('k' || g, 'anna', '1 ms', 'cart')) FROM generate_series(1, 12) AS g");
    wait_until("the lapse", || {
        client.ask("SELECT count(*) FROM softlock_active") == "0"
    });
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || client.rows() == 0);
    wait_until("the log line", || {
        cluster.log_count("LOG:  softlock sweep released 12 expired locks in ") == 1
    });
    assert_eq!(cluster.log_count("DEBUG:  softlock released \""), 10);
    assert!(cluster.log().contains(" and 2 more"));
    assert!(
        cluster
            .log()
            .contains("of owner \"anna\", session \"cart\", expired at 20")
    );
}

#[test]
fn with_nothing_to_do_it_logs_nothing_at_log() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    wait_until("a sweep", || client.rows() == 0);
    wait_until("its log line", || {
        cluster.log_count("softlock sweep released") == 1
    });
    let sweeps = |client: &mut postgres::Client| {
        client
            .ask("SELECT xact_commit FROM pg_stat_database WHERE datname = 'template1'")
            .parse::<i64>()
            .unwrap()
    };
    let before = sweeps(&mut client);
    wait_until("more rounds", || sweeps(&mut client) > before + 4);
    let log = cluster.log();
    let lines = log.lines().filter(|line| line.contains("softlock "));
    assert_eq!(lines.count(), 1, "{log}");
}

#[test]
fn the_default_interval_is_five_minutes() {
    let cluster = Cluster::start(&[]);
    assert_eq!(
        cluster
            .connect("postgres")
            .ask("SHOW softlock.sweep_interval"),
        "5min"
    );
}

#[test]
fn it_shows_itself_in_pg_stat_activity() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.connect("postgres");
    let mut activity = || {
        client.ask("SELECT concat_ws('/', application_name, state, query, datname) FROM pg_stat_activity WHERE backend_type = 'softlock launcher'")
    };
    wait_until("the launcher at rest", || {
        activity()
            == concat!(
                "softlock ",
                env!("CARGO_PKG_VERSION"),
                " launcher/idle/waiting for the next sweep"
            )
    });
    cluster.reload(&["softlock.sweep_interval = 0"]);
    wait_until("the launcher off", || {
        activity()
            == concat!(
                "softlock ",
                env!("CARGO_PKG_VERSION"),
                " launcher/idle/sweeping is turned off"
            )
    });
}

#[test]
fn a_reload_of_the_interval_takes_effect_at_once_and_zero_turns_sweeping_off() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0"]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || client.rows() == 0);
    cluster.reload(&[RARELY]);
    wait_until("the launcher at rest", || {
        client
            .ask("SELECT count(*) FROM pg_stat_activity WHERE query = 'waiting for the next sweep'")
            == "1"
    });
    client.lapse("k");
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep after the second reload", || client.rows() == 0);
}

#[test]
fn sweeping_goes_on_after_drop_extension_and_create_extension() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    for _ in 0..2 {
        client.lapse("k");
        wait_until("the sweep", || client.rows() == 0);
        client
            .batch_execute("DROP EXTENSION softlock; CREATE EXTENSION softlock")
            .unwrap();
    }
    assert_eq!(cluster.log_count("ERROR"), 0, "{}", cluster.log());
}

#[test]
fn no_setting_of_a_database_or_its_roles_stops_the_sweep() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    drop(cluster.with_extension("closed"));
    let mut shop = cluster.with_extension("shop");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE ROLE nobody;
             ALTER DATABASE closed ALLOW_CONNECTIONS false;
             ALTER DATABASE shop CONNECTION LIMIT 0",
        )
        .unwrap();
    let version: i32 = client.ask("SHOW server_version_num").parse().unwrap();
    let mut settings = vec![
        "role = nobody",
        "session_replication_role = replica",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = nowhere",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
    ];
    if version >= 170000 {
        settings.push("transaction_timeout = '1ms'");
    }
    // Said of the database, then of the role that the sweeper is there.
    for whose in ["DATABASE shop", "ROLE postgres IN DATABASE shop"] {
        for setting in &settings {
            client
                .batch_execute(&format!("ALTER {whose} SET {setting}"))
                .unwrap();
        }
        sweeps(&mut shop);
        sweeps(&mut shop);
        client
            .batch_execute(&format!("ALTER {whose} RESET ALL"))
            .unwrap();
    }
    assert_quiet(&cluster, "");
}

#[test]
fn a_row_locked_by_an_idle_transaction_is_skipped() {
    let cluster = Cluster::start(&[RARELY]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("locked");
    client.lapse("free");
    let mut idle = cluster.connect("postgres");
    idle.batch_execute("BEGIN; SELECT 1 FROM softlock.locks WHERE resource = 'locked' FOR UPDATE")
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep of the other", || client.rows() == 1);
    assert_eq!(client.ask("SELECT resource FROM softlock.locks"), "locked");
    idle.batch_execute("COMMIT").unwrap();
    wait_until("the sweep of the row", || client.rows() == 0);
}

#[test]
fn a_shortage_of_worker_slots_is_reported_once_and_outlived() {
    // One slot, which the launcher has.
    let cluster = Cluster::start(&[
        EVERY_SECOND,
        "max_worker_processes = 1",
        "max_logical_replication_workers = 0",
    ]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    let warning = "could not start a worker to sweep expired locks";
    wait_until("the warning", || cluster.log_count(warning) == 1);
    let rounds = |client: &mut postgres::Client| {
        client.ask(
            "SELECT state_change FROM pg_stat_activity WHERE backend_type = 'softlock launcher'",
        )
    };
    for _ in 0..3 {
        let before = rounds(&mut client);
        wait_until("another round", || rounds(&mut client) != before);
    }
    assert_eq!(cluster.log_count(warning), 1);
    drop(client);
    cluster.stop("fast");
    cluster.set(&["max_worker_processes = 8"]);
    cluster.up();
    let mut client = cluster.connect("postgres");
    wait_until("the sweep with a free slot", || client.rows() == 0);
}

#[test]
fn what_a_sweep_deletes_shows_in_the_statistics() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("k");
    wait_until("the sweep", || client.rows() == 0);
    wait_until("the statistics", || {
        client.ask(
            "SELECT n_tup_del FROM pg_stat_all_tables WHERE relid = 'softlock.locks'::regclass",
        ) == "1"
    });
}

#[test]
fn not_preloaded_the_functions_work_and_create_extension_warns() {
    let cluster = Cluster::start_bare(&[
        "client_min_messages = warning",
        "log_min_messages = warning",
    ]);
    let mut client = cluster.with_extension("postgres");
    wait_until("the warning", || {
        cluster.log_count("WARNING:  softlock is not preloaded") == 1
    });
    assert_eq!(
        client.ask("SELECT softlock_acquire('k', 'anna')->>'outcome'"),
        "granted"
    );
    client.lapse("l");
    assert_eq!(
        client.ask("SELECT softlock_sweep()->>'released_count'"),
        "1"
    );
    let output = run(cluster.program("psql").args([
        "-X",
        "-d",
        "postgres",
        "-c",
        "DROP EXTENSION softlock",
        "-c",
        "CREATE EXTENSION softlock",
    ]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(
            "HINT:  Add to postgresql.conf and restart: shared_preload_libraries = 'softlock'"
        ),
        "{said}"
    );
    let preloaded = Cluster::start(&[]);
    preloaded.with_extension("postgres");
    assert_eq!(preloaded.log_count("not preloaded"), 0);
}
