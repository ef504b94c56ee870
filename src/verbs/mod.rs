//! One file per verb: decide, call the store, answer. The SQL functions themselves are in
//! `functions.rs`.

pub mod acquire;
mod hold;
pub mod release;
pub mod renew;
mod seize;
pub mod status;
pub mod sweep;
