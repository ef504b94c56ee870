//! The C functions of older versions. A schema that still declares them has to be updated; they have to be
//! there for that, and to say so.

use pgrx::prelude::*;

use crate::pg::Answer;
use crate::pg::altered;

macro_rules! outdated {
    ($($function:ident),* $(,)?) => {$(
        #[pg_extern(sql = false)]
        fn $function() -> Answer {
            Answer::of(|| Err(altered::version_mismatch()))
        }
    )*};
}

// Until 0.1.0.
outdated! {
    softlock_acquire, softlock_acquire_many, softlock_renew, softlock_release, softlock_release_all,
    softlock_consume, softlock_break, softlock_sweep, softlock_status, softlock_guard,
}
