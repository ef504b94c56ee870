//! Traffic at a steady pace, and what something else that is done meanwhile does to it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::candidates::{Candidate, Till};
use crate::figure::percentile;
use crate::load::together;
use crate::server;

const CONNECTIONS: usize = 4;
/// How often each of them takes something, and frees it.
const EVERY: Duration = Duration::from_millis(5);

const BEFORE: u8 = 0;
const DURING: u8 = 1;
const AFTER: u8 = 2;

/// The p99 of acquire, in milliseconds.
pub struct P99 {
    pub before: f64,
    pub during: f64,
}

/// Ends the traffic, also after a panic.
struct End<'a>(&'a AtomicU8);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(AFTER, Ordering::Relaxed);
    }
}

/// Lets traffic flow alone for a while, and then while `work` is done.
pub fn beside<T>(candidate: Candidate, alone: Duration, work: impl FnOnce() -> T) -> (T, P99) {
    let phase = AtomicU8::new(BEFORE);
    let (done, waits) = thread::scope(|scope| {
        let (begins, begun) = mpsc::channel();
        let phase = &phase;
        let traffic = scope.spawn(move || flow(candidate, phase, begins));
        let end = End(phase);
        begun.recv().expect("the traffic begins");
        thread::sleep(alone);
        phase.store(DURING, Ordering::Relaxed);
        let done = work();
        drop(end);
        let waits = traffic.join().expect("the traffic flows until the end");
        (done, waits)
    });
    let p99 = |phase| {
        let of_phase = waits.iter().filter(|(when, _)| *when == phase);
        let milliseconds = of_phase.map(|(_, wait)| wait.as_secs_f64() * 1000.0);
        percentile(milliseconds.collect(), 0.99)
    };
    let (before, during) = (p99(BEFORE), p99(DURING));
    (done, P99 { before, during })
}

/// Takes and frees at a steady pace, and answers how long each acquire took, and in which phase. It
/// counts from when it was due, so that an acquire which keeps the next ones from being asked counts
/// as all of them.
fn flow(candidate: Candidate, phase: &AtomicU8, begins: Sender<()>) -> Vec<(u8, Duration)> {
    let mut tills = candidate.connect_many(server::DATABASE, CONNECTIONS);
    begins.send(()).expect("somebody waits for it");
    let waits = together(&mut tills, |number, till: &mut Box<dyn Till>, _| {
        let mut waits = Vec::new();
        let mut due = Instant::now();
        for n in 0.. {
            let now = phase.load(Ordering::Relaxed);
            if now == AFTER {
                break;
            }
            due += EVERY;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let key = format!("new:{number}-{n}");
            assert!(till.acquire(&key));
            waits.push((now, due.elapsed()));
            assert!(till.release(&key));
        }
        waits
    });
    waits.concat()
}
