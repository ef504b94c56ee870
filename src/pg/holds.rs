//! Looking at every hold of a resource of which there are units: one pass over its part of the primary
//! key, newest version first within each slot.

use std::ffi::c_int;

use pgrx::pg_sys::{self, ScanDirection};

use super::probe::{Probe, any_snapshot, begin_scan};
use super::scan_key;
use super::text_datum::LentText;
use super::visibility::Eyes;
use crate::units::{Hold, Slots};

/// After so many entries of a slot that has been judged it is cheaper to descend anew.
const SKIPPED: usize = 16;
/// So often a look begins anew because somebody has just committed what it was looking at.
const LOOKS: usize = 1000;

/// What these eyes see of the holds of a resource in these slots, without their metadata.
pub fn look(eyes: Eyes, probe: &Probe, resource: &[u8], slots: Slots) -> Vec<Hold> {
    for _ in 0..LOOKS {
        let holds = look_once(eyes, probe, resource, slots);
        if !holds.iter().any(|hold| hold.look.has_stale_taker()) {
            return holds;
        }
        pgrx::check_for_interrupts!();
        probe.look_anew();
    }
    look_once(eyes, probe, resource, slots)
}

fn look_once(eyes: Eyes, probe: &Probe, resource: &[u8], slots: Slots) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    let name = LentText::of(resource);
    let mut keys = [
        scan_key::equal_text(1, name.datum()),
        scan_key::int_since(2, slots.first),
        scan_key::int_until(2, slots.last),
    ];
    // SAFETY: the relations are open; the keys are compared by the primary key's own operators and
    // collation; rows are copied before the scan moves on; at the end slot and scan let go of their pages.
    unsafe {
        let scan = begin_scan(probe.table, probe.index, any_snapshot(), keys.len());
        (*scan).xs_want_itup = true;
        let mut rescan = |scan: pg_sys::IndexScanDesc, last: i32| {
            keys[2] = scan_key::int_until(2, last);
            let count = keys.len() as c_int;
            pg_sys::index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
        };
        rescan(scan, slots.last);
        let mut current = Hold::empty(0);
        // The slot that has been judged, if the one that the scan is at has.
        let mut judged = None;
        let mut skipped = 0;
        while !pg_sys::index_getnext_tid(scan, ScanDirection::BackwardScanDirection).is_null() {
            let slot = second_column(probe, scan);
            if judged == Some(slot) {
                skipped += 1;
                if skipped > SKIPPED {
                    if slot == slots.first {
                        break;
                    }
                    rescan(scan, slot - 1);
                    skipped = 0;
                }
                continue;
            }
            pgrx::check_for_interrupts!();
            if slot != current.slot {
                keep(
                    &mut holds,
                    std::mem::replace(&mut current, Hold::empty(slot)),
                );
            }
            let mut look = std::mem::take(&mut current.look);
            if probe.judge_entry(eyes, scan, &mut look, false) {
                judged = Some(slot);
                skipped = 0;
            }
            current.look = look;
        }
        keep(&mut holds, current);
        pg_sys::ExecClearTuple(probe.slot);
        pg_sys::index_endscan(scan);
    }
    holds
}

/// Keeps what a slot was found to have, if it was anything: also how new what was there before is.
fn keep(holds: &mut Vec<Hold>, hold: Hold) {
    if hold.look.newest != 0 {
        holds.push(hold);
    }
}

/// The slot that an index entry is about.
///
/// # Safety
/// The scan must be one of the primary key that brings entries, and be at one.
unsafe fn second_column(probe: &Probe, scan: pg_sys::IndexScanDesc) -> i32 {
    let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
    let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
    // SAFETY: as the caller says; the arrays have room for the columns of any index.
    unsafe {
        pg_sys::index_deform_tuple(
            (*scan).xs_itup,
            (*probe.index).rd_att,
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
        );
    }
    values[1].value() as i32
}
