//! Where and on what it was measured: a name and a value a line, beside the samples.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::server;

const SETTINGS: [&str; 8] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
    "autovacuum",
    "softlock.sweep_interval",
];

fn path(directory: &Path) -> PathBuf {
    directory.join("machine.tsv")
}

pub fn write(directory: &Path) {
    let mut file = fs::File::create(path(directory)).expect("the directory can be written");
    for (name, value) in facts() {
        writeln!(file, "{name}\t{value}").expect("the facts can be written");
    }
}

pub fn read(directory: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path(directory)).expect("machine.tsv is there");
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn facts() -> Vec<(&'static str, String)> {
    let mut client = server::connect(server::DATABASE);
    let mut ask = |query: &str| -> String {
        let row = client.query_one(query, &[]).expect("the query is valid");
        row.get(0)
    };
    let settings = SETTINGS.map(|name| {
        let value = ask(&format!("SELECT current_setting('{name}')"));
        format!("{name} = {value}")
    });
    let redis: String = redis::cmd("INFO")
        .arg("server")
        .query(&mut server::redis("always"))
        .expect("Redis answers");
    vec![
        (
            "date",
            ask("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')"),
        ),
        (
            "softlock",
            format!(
                "{}, commit {}",
                ask("SELECT default_version FROM pg_available_extensions WHERE name = 'softlock'"),
                std::env::var("BENCH_COMMIT").unwrap_or_else(|_| "unknown".into()),
            ),
        ),
        ("softlock before", before()),
        (
            "PostgreSQL",
            ask("SELECT current_setting('server_version')"),
        ),
        ("Redis", field(&redis, "redis_version", ':')),
        (
            "processor",
            field(&read_file("/proc/cpuinfo"), "model name", ':'),
        ),
        (
            "cores",
            std::thread::available_parallelism().map_or("unknown".into(), |n| n.to_string()),
        ),
        (
            "memory",
            field(&read_file("/proc/meminfo"), "MemTotal", ':'),
        ),
        (
            "kernel",
            read_file("/proc/sys/kernel/osrelease").trim().into(),
        ),
        (
            "disk",
            format!("{:.0} fdatasync of 8 kB per second", fdatasyncs()),
        ),
        ("settings", settings.join(", ")),
    ]
}

/// The version that is measured beside.
fn before() -> String {
    std::env::var("BENCH_BEFORE_IS").unwrap_or_else(|_| "not measured".into())
}

fn read_file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line that begins with `name`.
fn field(text: &str, name: &str, separator: char) -> String {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(key, _)| key.trim() == name)
        .map_or("unknown".into(), |(_, value)| value.trim().into())
}

/// How often the disk of the server makes a page durable in a second: what bounds a lone commit.
fn fdatasyncs() -> f64 {
    let directory = std::env::var("PGHOST").expect("PGHOST is set");
    let path = Path::new(&directory).join("fdatasync");
    let file = fs::File::create(&path).expect("the server's directory can be written");
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&[0; 8192], 0).expect("a page is written");
        file.sync_data().expect("a page is synced");
        count += 1;
    }
    let _ = fs::remove_file(path);
    f64::from(count) / start.elapsed().as_secs_f64()
}
