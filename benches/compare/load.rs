//! Many connections at the same time, each on a thread of its own.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::candidates::Till;

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

/// Takes the keys that `keys` gives to each till by its number, as many as fit into the time, and then
/// frees those: acquires and releases per second of all tills together.
pub fn take_and_free(
    tills: &mut [Box<dyn Till>],
    time: Duration,
    keys: impl Fn(usize) -> Vec<String> + Sync,
) -> (f64, f64) {
    let done = together(tills, |number, till, barrier| {
        let keys = keys(number);
        barrier.wait();
        let acquired = as_many_as(time, &keys, |key| assert!(till.acquire(key)));
        barrier.wait();
        let taken = &keys[..acquired.count];
        let released = as_many_as(Duration::MAX, taken, |key| assert!(till.release(key)));
        (acquired.per_second, released.per_second)
    });
    done.iter()
        .fold((0.0, 0.0), |sum, done| (sum.0 + done.0, sum.1 + done.1))
}
