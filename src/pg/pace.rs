//! Giving way: who is refused, and comes back at once, again and again, leaves those who have what it wants no
//! time to finish. Where more ask than there are processors, each of them would get as much time with
//! asking in vain as the one that all wait for.

use std::cell::Cell;
use std::time::Duration;

use pgrx::pg_sys;

use super::Timestamp;
use super::nap::nap;

/// Who comes back within this time comes back at once: no person does.
const AT_ONCE: Duration = Duration::from_millis(20);
/// So many times as long as the refusal took is the pause, at most as long as that.
const TIMES: u32 = 16;

thread_local! {
    /// When this session was last refused.
    static REFUSED: Cell<Timestamp> = const { Cell::new(Timestamp::EARLIEST) };
}

/// For a call that is about to be refused: pauses where the client comes back with it at once. What others wait
/// for, a statement in the middle or a transaction that has written, goes on without a pause; so does what
/// costs little.
pub fn give_way() {
    // SAFETY: reads backend-local state.
    let began = Timestamp::from_raw(unsafe { pg_sys::GetCurrentStatementStartTimestamp() });
    let now = Timestamp::now();
    if !super::has_written()
        && let Some(pause) = pause(REFUSED.get(), began, now)
    {
        nap(pause);
    }
    REFUSED.set(Timestamp::now());
}

/// How long to pause before refusing at `now` what a statement asks for that `began` then, after the last refusal.
fn pause(last: Timestamp, began: Timestamp, now: Timestamp) -> Option<Duration> {
    let between = |from: Timestamp, to: Timestamp| {
        let micros = u64::try_from(to.micros_since(from)).ok()?;
        Some(Duration::from_micros(micros))
    };
    let away = between(last, began)?;
    let pause = (between(began, now)? * TIMES).min(AT_ONCE);
    (away < AT_ONCE && pause >= Duration::from_millis(1)).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause of who was refused at 0, asks again at `began` and is about to be refused at `now`, in
    /// microseconds.
    fn of(began: i64, now: i64) -> Option<u128> {
        let [last, began, now] = [0, began, now].map(Timestamp::from_raw);
        pause(last, began, now).map(|pause| pause.as_micros())
    }

    #[test]
    fn who_comes_back_at_once_pauses_for_some_times_as_long_as_the_refusal_took() {
        assert_eq!(of(1_000, 1_250), Some(4_000));
        assert_eq!(of(19_999, 20_249), Some(4_000));
        assert_eq!(of(20_000, 20_250), None);
    }

    #[test]
    fn nobody_pauses_for_longer_than_they_would_have_had_to_stay_away() {
        assert_eq!(of(1_000, 5_000_000), Some(20_000));
    }

    #[test]
    fn what_costs_little_is_refused_without_a_pause() {
        assert_eq!(of(1_000, 1_050), None);
    }

    #[test]
    fn the_same_statement_does_not_pause_again() {
        assert_eq!(of(-1, 1_000), None);
    }

    #[test]
    fn the_first_refusal_is_without_a_pause() {
        let now = Timestamp::from_raw(1_000_000);
        assert_eq!(
            pause(Timestamp::EARLIEST, now, now.plus_micros(1_000)),
            None
        );
    }

    #[test]
    fn a_clock_that_was_set_back_means_no_pause() {
        assert_eq!(of(-5_000_000, -4_999_000), None);
        assert_eq!(of(1_000, -1_000), None);
    }
}
