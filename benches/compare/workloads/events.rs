//! Taking and freeing while others listen for it, and while it is written down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;

use crate::candidates::Candidate;
use crate::load::take_and_free;
use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, DATABASE, Server};

/// As the reports call it, and what is set.
const SETTINGS: [(&str, &[&str]); 5] = [
    ("softlock", &[]),
    ("softlock, notify = ends", &["softlock.notify = 'ends'"]),
    ("softlock, notify = all", &["softlock.notify = 'all'"]),
    ("softlock, history = ends", &["softlock.history = 'ends'"]),
    ("softlock, history = all", &["softlock.history = 'all'"]),
];
/// How many listen.
const LISTENERS: [usize; 3] = [0, 1, 50];
const CONNECTIONS: usize = 16;
/// More than anyone takes in a slice; each connection has an equal share.
const KEYS: usize = 64_000;
/// How long a listener listens before it asks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn run(plan: &Plan, out: &mut Recorder) {
    for listeners in LISTENERS {
        let case = match listeners {
            1 => "1 listener".to_owned(),
            count => format!("{count} listeners"),
        };
        for round in plan.rounds() {
            for (name, settings) in SETTINGS {
                // The history has no listeners.
                if listeners > 0 && name.contains("history") {
                    continue;
                }
                server::clear();
                set(settings);
                let (acquired, released) = beside(listeners, || {
                    let mut tills = Candidate::Softlock.connect_many(DATABASE, CONNECTIONS);
                    take_and_free(&mut tills, plan.slice / 2, |number| {
                        let share = KEYS / CONNECTIONS;
                        let first = number * share;
                        (first..first + share).map(|n| format!("kit:{n}")).collect()
                    })
                });
                out.note("acquire", &case, name, round, acquired);
                out.note("release", &case, name, round, released);
            }
        }
    }
    set(&[]);
}

/// What the next connections begin with.
fn set(settings: &[&str]) {
    let mut client = server::connect(DATABASE);
    let reset = "TRUNCATE softlock.history; ALTER DATABASE postgres RESET ALL";
    client.batch_execute(reset).expect("a superuser may");
    for setting in settings {
        let command = format!("ALTER DATABASE postgres SET {setting}");
        client.batch_execute(&command).expect("a superuser may");
    }
}

/// Ends those who listen, however the work ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` while so many listen and read what they hear.
fn beside<R>(listeners: usize, work: impl FnOnce() -> R) -> R {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for _ in 0..listeners {
            let mut client = Server::Now.connect(DATABASE);
            client
                .batch_execute("LISTEN softlock")
                .expect("anybody may");
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut heard = client.notifications();
                    let mut heard = heard.timeout_iter(PATIENCE);
                    while heard.next().expect("the server is there").is_some() {}
                }
            });
        }
        work()
    })
}
