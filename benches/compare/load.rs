//! Many connections at the same time, each on a thread of its own.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Does `work` on every connection at once. All begin together; the barrier lets them begin a
/// second part together, too.
pub fn together<C: Send, T: Send>(
    connections: &mut [C],
    work: impl Fn(usize, &mut C, &Barrier) -> T + Sync,
) -> Vec<T> {
    let barrier = Barrier::new(connections.len());
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(number, connection)| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(number, connection, barrier)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a connection works until the end"))
            .collect()
    })
}

/// What one connection got done.
pub struct Done {
    pub count: usize,
    pub per_second: f64,
}

/// Calls `call` with one item after the other, until the time is up or there are no more.
pub fn as_many_as<I>(
    limit: Duration,
    items: impl IntoIterator<Item = I>,
    mut call: impl FnMut(I),
) -> Done {
    let start = Instant::now();
    let mut count = 0;
    for item in items {
        if start.elapsed() >= limit {
            break;
        }
        call(item);
        count += 1;
    }
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    Done { count, per_second }
}
