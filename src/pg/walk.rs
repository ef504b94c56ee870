//! Looking at many resources: neighbours in the index are met one after the other in one descent, instead of
//! in one descent each. A shop's page, or a cart, mostly asks for neighbours.

use std::borrow::Cow;

use pgrx::pg_sys::{self, ScanDirection};

use super::probe::Probe;
use super::scan_key;
use super::text_datum::{LentText, text_bytes};
use super::visibility::Eyes;
use crate::lock::Look;

/// After so many entries of other resources it is cheaper to descend anew.
const SKIPPED: usize = 16;
/// Descents after which it is judged whether walking is worth it, and how many resources each must have
/// come by.
const TRIAL: usize = 2;
const WORTH_IT: usize = 4;

/// What is to be seen of each of the resources, which must be distinct and in byte order.
pub fn look_at_all(probe: &Probe, resources: &[&[u8]]) -> Vec<Look> {
    let mut looks: Vec<Look> = Vec::new();
    looks.resize_with(resources.len(), Look::default);
    let mut left = resources.len();
    if left > WORTH_IT {
        left = walk(probe, resources, &mut looks);
    }
    for at in (0..left).rev() {
        looks[at] = probe.look(resources[at]);
    }
    // Who was taking one has perhaps ended by now.
    for (look, resource) in looks.iter_mut().zip(resources).skip(left) {
        if look.has_stale_taker() {
            *look = probe.look(resource);
        }
    }
    looks
}

/// Walks from the last resource towards the first. Answers how many of the first ones it has left.
fn walk(probe: &Probe, resources: &[&[u8]], looks: &mut [Look]) -> usize {
    let mut left = resources.len();
    let mut descents = 0;
    // SAFETY: the scan is open; the key is compared by the primary key's own operator and collation;
    // an entry's resource is read while the scan is at it.
    unsafe {
        let scan = probe.scan;
        (*scan).xs_want_itup = true;
        while left > 0 && (descents < TRIAL || resources.len() - left >= descents * WORTH_IT) {
            let name = LentText::of(resources[left - 1]);
            let mut keys = [scan_key::text_until(1, name.datum())];
            pg_sys::index_rescan(scan, keys.as_mut_ptr(), 1, std::ptr::null_mut(), 0);
            left = follow(probe, scan, resources, looks, left);
            descents += 1;
        }
        (*scan).xs_want_itup = false;
        probe.let_go();
    }
    left
}

/// Follows the index from where the scan is, until it is far from the next resource. Answers how many are
/// left.
///
/// # Safety
/// The scan must have been begun anew, at the last of `left` resources, with its entries.
unsafe fn follow(
    probe: &Probe,
    scan: pg_sys::IndexScanDesc,
    resources: &[&[u8]],
    looks: &mut [Look],
    mut left: usize,
) -> usize {
    let mut skipped = 0;
    while skipped <= SKIPPED {
        // SAFETY: as the caller says.
        let name = unsafe {
            if pg_sys::index_getnext_tid(scan, ScanDirection::BackwardScanDirection).is_null() {
                return 0; // nothing is to be seen of the others
            }
            first_column((*scan).xs_itup)
        };
        // Of those in between nothing more is to be seen.
        while left > 0 && *resources[left - 1] > *name {
            left -= 1;
        }
        match left.checked_sub(1) {
            None => return 0,
            Some(at) if *resources[at] == *name => {
                skipped = 0;
                // SAFETY: the scan is at an entry.
                let is_final = unsafe { probe.judge_entry(Eyes::Own, scan, &mut looks[at], true) };
                if is_final || looks[at].is_shared {
                    left -= 1;
                }
            }
            Some(_) => skipped += 1,
        }
    }
    left
}

/// The text that an index entry begins with; a long one can be compressed there.
///
/// # Safety
/// The entry must be one of an index whose first column is a text that is not NULL, and live.
unsafe fn first_column<'a>(entry: pg_sys::IndexTuple) -> Cow<'a, [u8]> {
    // SAFETY: without NULLs the columns follow the header, which is as long as the alignment.
    unsafe { text_bytes(entry.add(1).into()) }
}
