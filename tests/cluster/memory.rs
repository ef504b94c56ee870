//! Nobody's wishes make a server process grow without bound, or bring the server down.

use std::fs;

use crate::harness::{Ask, Cluster};
use postgres::Client;

#[test]
fn an_array_of_millions_is_refused_before_it_is_copied() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    let huge = "array_fill('kit:1'::text, ARRAY[6000000])";
    let started = client.ask("SELECT pg_postmaster_start_time()");
    let before = peak(&mut client);
    for verb in [
        "softlock_acquire_many($, 'anna')",
        "softlock_consume($, 'anna')",
        "softlock_consume(ARRAY['k'], 'anna', array_fill(1::bigint, ARRAY[6000000]))",
        "softlock_status($)",
        "softlock_status(array_fill('kit:1'::text, ARRAY[2000, 3000]))",
    ] {
        let error = client
            .batch_execute(&format!("SELECT {}", verb.replace('$', huge)))
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "54000", "{verb}");
    }
    // The array itself is some 60 MB, and PostgreSQL may have it twice.
    let grown = peak(&mut client) - before;
    assert!(grown < 200_000, "{grown} kB");
    assert_eq!(client.ask("SELECT pg_postmaster_start_time()"), started);
    assert_eq!(cluster.log_count("terminated by signal"), 0);
}

#[test]
fn a_status_of_ten_thousand_with_much_metadata_stays_within_bounds() {
    let cluster = Cluster::start(&["max_wal_size = 4GB"]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute(
            "DO $$
            DECLARE noise text := (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 250) AS g);
            BEGIN
                PERFORM softlock_acquire('k' || n, 'anna', metadata => jsonb_build_object('noise', noise))
                FROM generate_series(1, 10000) AS n;
            END $$",
        )
        .unwrap();
    // A process of its own, which has grown for nothing else.
    let mut client = cluster.connect("postgres");
    client.ask("SELECT count(*) FROM softlock_status(ARRAY['k1'])");
    let before = peak(&mut client);
    assert_eq!(
        client.ask(
            "SELECT count(*) || ' ' || sum(length(metadata->>'noise'))
             FROM softlock_status(ARRAY(SELECT 'k' || n FROM generate_series(1, 10000) AS n))"
        ),
        "10000 80000000"
    );
    let grown = peak(&mut client) - before;
    assert!(grown < 60_000, "{grown} kB for an answer of 80,000");
}

/// The most memory that a connection's server process has had so far, in kB.
fn peak(client: &mut Client) -> i64 {
    let pid = client.ask("SELECT pg_backend_pid()");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("a peak").parse().expect("a number")
}
