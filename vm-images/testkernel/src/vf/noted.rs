//! What is noted while a driver is loaded, and told when it goes.
//!
//! Some mistakes leave no trace by the time that Unload has returned: memory that is freed while an ISR is still called with it, a
//! device that is deleted while its timer runs. Windows without its Verifier goes on and crashes later, or never. They are
//! noted where they happen, in the name of the image that they are about, and are among its findings.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::ke::lock::SpinLock;
use crate::ke::{dpc, interrupt};
use crate::nt::KDPC;
use squall_testkernel_pure::agent::finding_kind::FindingKind;

/// What was noted: a finding's kind, object and detail.
pub type Note = (FindingKind, String, String);

/// The most notes about one image.
const MAX_NOTES: usize = 64;

/// An image from its being laid out to its being gone.
struct Life {
    range: Range<u64>,
    pageable: Vec<Range<u64>>,
    notes: Vec<Note>,
}

static LIVES: SpinLock<Vec<Life>> = SpinLock::new(Vec::new());

/// An image is laid out, with these pageable sections.
pub fn image_is_ready(range: &Range<u64>, pageable: impl Iterator<Item = Range<u64>>) {
    let life = Life { range: range.clone(), pageable: pageable.collect(), notes: Vec::new() };
    LIVES.lock().push(life);
}

/// The image is gone.
pub fn image_is_gone(range: &Range<u64>) {
    LIVES.lock().retain(|life| life.range.start != range.start);
}

/// Notes something about the image that holds `address`.
fn note(address: u64, note: Note) {
    let mut lives = LIVES.lock();
    if let Some(life) = lives.iter_mut().find(|life| life.range.contains(&address))
        && life.notes.len() < MAX_NOTES
    {
        life.notes.push(note);
    }
}

/// Memory is about to be given back to the pool: what the kernel would still use of it. At DISPATCH_LEVEL or below.
pub fn memory_goes(range: &Range<usize>) {
    if let Some((routine, context)) = interrupt::context_in(range) {
        let object = format!("memory 0x{:x}", range.start);
        let detail =
            format!("freed while the ISR at 0x{routine:x} is still connected, and called with 0x{context:x}");
        note(routine, (FindingKind::IsrContextFreed, object, detail));
    }
    if let Some((routine, context)) = dpc::running_elsewhere_with(range) {
        let object = format!("memory 0x{:x}", range.start);
        let detail = format!(
            "freed while a DPC at 0x{routine:x} runs on another processor, called with 0x{context:x}"
        );
        note(routine, (FindingKind::DpcContextFreed, object, detail));
    }
    if let Some(queued) = dpc::first_queued_in(range) {
        let queued = core::ptr::with_exposed_provenance::<KDPC>(queued);
        // SAFETY: it is in memory that is being freed and is not yet.
        let routine = unsafe { (*queued).DeferredRoutine }.map_or(0, |routine| routine as usize as u64);
        let object = format!("DPC 0x{:x}", queued.addr());
        note(routine, (FindingKind::DpcFreedWhileQueued, object, format!("its routine is at 0x{routine:x}")));
    }
}

/// A device of the driver at `image` is deleted while its timer runs.
pub fn device_timer_runs(image: u64, device: String) {
    let detail = "deleted while its timer ran: IoStopTimer was not called".into();
    note(image, (FindingKind::IoTimerLeftRunning, device, detail));
}

/// A device of the driver at `image` is deleted while it is attached to another.
pub fn device_is_attached(image: u64, device: String, below: String) {
    let detail = format!("deleted while attached to {below}: IoDetachDevice was not called");
    note(image, (FindingKind::DeviceLeftAttached, device, detail));
}

/// Whether `address` lies in a pageable section of an image.
pub fn is_pageable(address: u64) -> bool {
    let lives = LIVES.lock();
    lives.iter().any(|life| life.pageable.iter().any(|section| section.contains(&address)))
}

/// An ISR is connected: it must not lie where it may be paged out.
pub fn isr_is_connected(routine: u64) {
    if is_pageable(routine) {
        let detail = "connected, and in a section that may be paged out".into();
        note(routine, (FindingKind::PageableIsr, format!("ISR 0x{routine:x}"), detail));
    }
}

/// Everything that was noted about an image.
pub fn take(range: &Range<u64>) -> Vec<Note> {
    let mut lives = LIVES.lock();
    let life = lives.iter_mut().find(|life| life.range.start == range.start);
    life.map_or_else(Vec::new, |life| core::mem::take(&mut life.notes))
}
