//! How many locks of a kind an owner has, those included that its transactions are taking.

use std::collections::HashSet;

use super::probe::Probe;
use super::text_datum::text_datum;
use super::{Timestamp, scan_key};
use crate::error::Error;
use crate::names;

/// The owner's locks of the kind that are live at `t`, whatever role took them, or that may be once the
/// transactions have ended that are at it. Can be cancelled.
pub fn count(probe: &Probe, owner: &[u8], kind: &[u8], t: Timestamp) -> Result<usize, Error> {
    let mut keys = [
        scan_key::equal_text(1, text_datum(owner)),
        scan_key::time_after(2, t),
    ];
    // A lock that is being written has a version more.
    let mut locks = HashSet::new();
    probe.each_version(probe.oids.by_owner, &mut keys, |row, _| {
        let resource = row.resource();
        if names::kind_of(resource.as_bytes()) == kind {
            locks.insert((resource, row.slot()));
        }
        true
    })?;
    Ok(locks.len())
}
