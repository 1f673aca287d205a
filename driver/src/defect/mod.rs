//! Unload's deliberate mistakes, one of which the registry value `Parameters\Defect` chooses.
//!
//! Only the image that is built with the feature `defects` has this module. Most mistakes are about the *order* of Unload's steps: one is
//! left out, or done too early or too late ([`plan`]). Some steps are there and done [wrongly]. A few mistakes are made long before
//! Unload and only found out by it: kernel objects in memory that goes while the kernel still uses it ([`misplaced`]), or a routine
//! that is not what it should be (below). Where a mistake is a race, its window is held open until it was lost ([`strike`]). What each
//! must raise is in `defects.toml`.

mod misplaced;
mod plan;
mod strike;
mod wrongly;

use core::mem;

use squall_driver_pure::Order;
use wdk_sys::{
    _KDPC_IMPORTANCE::LowImportance,
    _MODE::KernelMode,
    BOOLEAN, FALSE, LARGE_INTEGER, PKINTERRUPT, PVOID, STATUS_INVALID_PARAMETER,
    ntddk::{KeDelayExecutionThread, KeSetImportanceDpc, KeStallExecutionProcessor},
};

use crate::{
    extension::{Arrivals, Extension},
    held::Held,
    nt::{registry::Key, status::Result, text::text},
    parameters, saver, service,
    unload::{ORDER, Step},
};

pub(crate) use misplaced::Misplaced;
pub(crate) use plan::Defect;
pub(crate) use strike::{Strike, is_told_to_rest};
pub(crate) use wrongly::queue_elsewhere;

/// Where a routine may take its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the CustomDpc.
    Dpc,
    /// In the work item's routine.
    WorkItem,
    /// In the thread, having been told to end.
    Thread,
}

impl Defect {
    /// The defect asked for: none where there is no such value, an error where nothing is known by that name.
    pub(crate) fn chosen(key: &Key) -> Result<Option<Self>> {
        let Some(value) = parameters::optional(key, &text!("Defect").counted())? else { return Ok(None) };
        let found = Self::CATALOGUE.iter().find(|(id, _)| parameters::is_text(&value, id));
        match found {
            Some((id, defect)) => {
                wdk::println!("squall: with the defect {id}");
                Ok(Some(*defect))
            }
            None => {
                wdk::println!("squall: Parameters\\Defect: not in the catalogue");
                Err(STATUS_INVALID_PARAMETER)
            }
        }
    }

    /// Unload, with the mistake.
    pub(crate) fn take_down(self, mut held: Held) {
        let _there = self.stand().map(strike::Standing::on);
        if self.tells_to_rest() {
            strike::tell_to_rest();
        }
        let order = Order::<_, { ORDER.len() }>::with(ORDER, self.mistakes());
        for planned in order.steps() {
            if planned.step == Step::SilenceCard && self.is_struck() {
                strike::wait();
            }
            if planned.wrongly {
                self.take_wrongly(planned.step, &mut held);
            } else {
                planned.step.take(&mut held);
            }
        }
        // What was forgotten is forgotten, not dropped.
        mem::forget(held);
    }
}

/// DPCs that are in no hurry: made so by somebody who then forgot that they may still be queued long after their device was silenced.
pub(crate) fn importance(extension: &Extension) {
    if extension.defect.is_some_and(Defect::is_in_no_hurry) {
        // SAFETY: this driver's device.
        let dpc_for_isr = unsafe { &raw mut (*extension.arrivals().device).Dpc };
        for dpc in [dpc_for_isr, extension.objects().tally.as_ptr()] {
            // SAFETY: initialized, and not queued yet.
            unsafe { KeSetImportanceDpc(dpc, LowImportance) };
        }
    }
}

/// A routine that takes its time: on a real machine because a disk is slow or a loop is long, here so that the mistake shows.
pub(crate) fn dawdle(defect: Option<Defect>, place: Where) {
    /// Milliseconds after which somebody has noticed.
    const LONG: usize = 60_000;
    match defect.and_then(Defect::dawdles) {
        Some(dawdles) if dawdles != place => {}
        Some(Where::Dpc) => {
            // SAFETY: has no requirement, but that it be short.
            unsafe { KeStallExecutionProcessor(50) };
        }
        Some(Where::WorkItem | Where::Thread) => {
            // As long as it takes: until Unload has done everything and the image goes, from under its feet.
            for _ in 0..LONG {
                sleep(1);
            }
        }
        None => {}
    }
}

/// Returns after so many milliseconds. In a thread at PASSIVE_LEVEL.
fn sleep(milliseconds: i64) {
    /// The kernel counts in these, and what is negative counts from now.
    const PER_MILLISECOND: i64 = -10_000;
    let mut interval = LARGE_INTEGER { QuadPart: PER_MILLISECOND * milliseconds };
    // SAFETY: in a thread at PASSIVE_LEVEL; the pointer is to a local.
    let _ = unsafe { KeDelayExecutionThread(KernelMode as i8, FALSE as u8, &mut interval) };
}

/// What the CustomDpc does besides. Where the defect is about the work item, it saves the counts at each interrupt instead of once a
/// second, so that the item is under way when Unload is called.
pub(crate) fn in_tally(extension: &Extension) {
    dawdle(extension.defect, Where::Dpc);
    if extension.defect.and_then(Defect::dawdles) == Some(Where::WorkItem) {
        saver::save(extension);
    }
}

/// A driver's InterruptService.
type Isr = unsafe extern "C" fn(PKINTERRUPT, PVOID) -> BOOLEAN;

/// The ISR to connect.
pub(crate) fn isr(defect: Option<Defect>) -> Isr {
    match defect {
        Some(Defect::PageableIsr) => pageable_isr,
        _ => service::isr,
    }
}

/// The ISR in a section that the system may page out: `#pragma alloc_text(PAGE, ...)` on one routine too many.
#[unsafe(link_section = "PAGE")]
unsafe extern "C" fn pageable_isr(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: as for `service::isr`.
    service::serve(unsafe { &*context.cast::<Arrivals>() })
}
