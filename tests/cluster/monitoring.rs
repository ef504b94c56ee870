//! The queries of `docs/monitoring` work as they stand, for a role that may do no more than monitor.

use std::path::Path;

use postgres::Client;

use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::RARELY;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The block scalars of a file in YAML (`key: |`), each with what follows it up to the next one.
fn blocks(yaml: &str) -> Vec<(String, Vec<&str>)> {
    let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
    let mut lines = yaml.lines().peekable();
    while let Some(line) = lines.next() {
        if line.ends_with(": |") {
            let mut block = String::new();
            while let Some(inside) =
                lines.next_if(|next| next.trim().is_empty() || indent(next) > indent(line))
            {
                block.push_str(inside);
                block.push('\n');
            }
            blocks.push((block, Vec::new()));
        } else if let Some((_, rest)) = blocks.last_mut() {
            rest.push(line);
        }
    }
    blocks
}

/// A cluster where something has happened, and a client that may only monitor.
fn monitored() -> (Cluster, Client) {
    let cluster = Cluster::start(&[RARELY]);
    let mut admin = cluster.with_extension("postgres");
    admin
        .batch_execute("CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
        .unwrap();
    admin.ask("SELECT softlock_acquire('k', 'anna')");
    admin.ask("SELECT softlock_acquire('k', 'boris')");
    wait_until("the launcher", || {
        admin.ask("SELECT count(*) FROM softlock_check() WHERE ok IS NOT TRUE") == "0"
    });
    let monitor = cluster
        .config("postgres")
        .user("monitor")
        .connect(postgres::NoTls)
        .unwrap();
    (cluster, monitor)
}

#[test]
fn every_query_for_postgres_exporter_gives_the_columns_that_it_declares() {
    let (_cluster, mut monitor) = monitored();
    let yaml = document("monitoring/postgres_exporter.yaml");
    let blocks = blocks(&yaml);
    assert_eq!(blocks.len(), 5);
    for (query, rest) in blocks {
        let declared: Vec<_> = rest
            .iter()
            .filter_map(|line| line.trim().strip_prefix("- ")?.strip_suffix(':'))
            .collect();
        let rows = monitor.query(&query, &[]);
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        assert!(!rows.is_empty(), "{query}");
        let columns = rows[0].columns().iter();
        let columns: Vec<_> = columns.map(|column| column.name()).collect();
        assert_eq!(columns, declared, "{query}");
    }
}

#[test]
fn every_query_for_pgwatch_gives_rows() {
    let (_cluster, mut monitor) = monitored();
    let yaml = document("monitoring/pgwatch.yaml");
    let blocks = blocks(&yaml);
    assert_eq!(blocks.len(), 4);
    for (query, _) in blocks {
        let rows = monitor.query(&query, &[]);
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        assert!(!rows.is_empty(), "{query}");
        assert_eq!(rows[0].columns()[0].name(), "epoch_ns", "{query}");
    }
}
