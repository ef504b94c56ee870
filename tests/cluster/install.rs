//! Installing another build under a running server, and what tells its version.

mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::harness::{Ask, Cluster, run};

/// How often the library is replaced.
const TIMES: usize = 100;

fn library() -> PathBuf {
    let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
    let output = run(Command::new(pg_config).arg("--pkglibdir"));
    let directory = String::from_utf8(output.stdout).expect("a path");
    Path::new(directory.trim()).join("softlock.so")
}

/// As `make install` and the tests themselves do it.
fn place(file: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/place");
    run(Command::new(script)
        .arg("755")
        .arg(library().parent().expect("a directory"))
        .arg(file));
}

/// Builds to put in the library's place, which is back when this ends. One test at a time has them.
struct Builds {
    /// They differ, for a loader that doesn't mind what stands at the end of a file.
    files: [PathBuf; 2],
    original: PathBuf,
    _only_one: MutexGuard<'static, ()>,
}

impl Builds {
    fn of(cluster: &Cluster) -> Builds {
        static ONE: Mutex<()> = Mutex::new(());
        let only_one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let original = fs::read(library()).expect("the library");
        let file = |name: &str, end: &str| {
            let file = cluster.dir().join(name).join("softlock.so");
            fs::create_dir(file.parent().expect("a directory")).unwrap();
            fs::write(&file, [&original[..], end.as_bytes()].concat()).unwrap();
            file
        };
        Builds {
            files: [file("one", "one"), file("other", "other")],
            original: file("original", ""),
            _only_one: only_one,
        }
    }

    fn place(&self, number: usize) {
        place(&self.files[number % 2]);
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        place(&self.original);
    }
}

#[test]
fn a_library_replaced_again_and_again_under_a_running_server_is_always_there() {
    // Not preloaded, so that every new session loads what is there.
    let cluster = Cluster::start_bare(&[]);
    drop(cluster.with_extension("postgres"));
    let mut lasting = cluster.connect("postgres");
    lasting.ask("SELECT softlock_acquire('lasting', 'anna')");
    let builds = Builds::of(&cluster);

    thread::scope(|scope| {
        let placing = scope.spawn(|| {
            for time in 0..TIMES {
                builds.place(time);
            }
        });
        // And some sessions more that find the last one.
        let mut after = 0;
        while after < 3 {
            after += usize::from(placing.is_finished());
            let mut session = cluster.connect("postgres");
            let taken = session.ask("SELECT softlock_acquire('k', 'anna')->>'acquired'");
            assert_eq!(taken, "true");
        }
    });
    drop(builds);
    // Who had the first one loaded still has it.
    assert_eq!(
        lasting.ask("SELECT softlock_renew('lasting', 'anna')->>'renewed'"),
        "true"
    );
    let left = fs::read_dir(library().parent().unwrap()).unwrap();
    let is_left = |name: String| name.starts_with(".softlock");
    assert!(
        !left
            .flatten()
            .any(|file| is_left(file.file_name().to_string_lossy().into_owned()))
    );
    assert_eq!(
        cluster.log_count("terminated by signal"),
        0,
        "{}",
        cluster.log()
    );
    assert_eq!(cluster.log_count("ERROR"), 0, "{}", cluster.log());
}

#[test]
fn every_file_tells_the_same_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let version = env!("CARGO_PKG_VERSION");
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let said = |name: &str, what: &str| read(name).matches(what).count();
    let meta = run(&mut Command::new(root.join("tests/setup/meta")));
    assert_eq!(String::from_utf8(meta.stdout).unwrap(), read("META.json"));
    assert_eq!(said("META.json", &format!("\"version\": \"{version}\"")), 2);
    let package = format!("softlock ({version}-");
    assert!(read("debian/changelog").starts_with(&package));
    assert_eq!(
        said("softlock.control", "default_version = '@CARGO_VERSION@'"),
        1
    );
    assert_eq!(said("src/lib.rs", &format!("version = c\"{version}\"")), 1);
    assert!(
        root.join(format!("sql/softlock--0.1.0--{version}.sql"))
            .exists()
    );
    let comment = env!("CARGO_PKG_DESCRIPTION").replace(" for PostgreSQL", "");
    assert_eq!(
        said("softlock.control", &format!("= 's{}'", &comment[1..])),
        1
    );
    // The newest comes first, with its date.
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## "));
    let date = newest.and_then(|title| title.strip_prefix(&format!("{version} (")));
    assert!(
        date.is_some_and(|date| date.len() == 11 && date.starts_with("20")),
        "{newest:?}"
    );
}
