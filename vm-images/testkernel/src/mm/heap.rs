//! The kernel's own heap: what `Box`, `Vec` and `String` come from.
//!
//! It is apart from the pool that drivers allocate from, so that a driver's mistakes with its pool stay the
//! driver's. It begins empty and grows by whole runs of page frames through the direct map; it never shrinks.

use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use talc::{OomHandler, Span, Talc, Talck};

use super::frame::{self, PAGE_SIZE};
use crate::ke::irql::{self, Irql};

/// The heap grows by at least this much.
const GROWTH: usize = 1 << 20;

#[global_allocator]
static HEAP: Talck<HeapLock, GrowFromFrames> = Talc::new(GrowFromFrames).lock();

/// Adds memory when an allocation finds none.
#[derive(Debug)]
struct GrowFromFrames;

impl OomHandler for GrowFromFrames {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own words and for the alignment.
        let need =
            layout.size().checked_add(layout.align()).and_then(|n| n.checked_add(PAGE_SIZE)).ok_or(())?;
        let bytes = need.max(GROWTH).next_multiple_of(PAGE_SIZE);
        let run = frame::allocate_run(bytes / PAGE_SIZE, 1, u64::MAX).ok_or(())?;
        let base = run.direct();
        // SAFETY: the frames were free until now, they neighbour each other, and the direct map shows them
        // all, so the span is memory that nobody else uses; it is never given back.
        unsafe { talc.claim(Span::new(base, base.add(bytes))) }.map(|_| ())
    }
}

/// What is allocated, in bytes as asked for, and the page frames that the heap has.
pub fn in_use() -> (usize, usize) {
    let heap = HEAP.lock();
    let counters = heap.get_counters();
    (counters.allocated_bytes, counters.claimed_bytes / PAGE_SIZE)
}

/// A spin lock in the shape that the allocator asks for. It raises to DISPATCH_LEVEL: DPCs allocate too.
struct HeapLock {
    taken: AtomicBool,
    /// The holder's IRQL before; written and read only by the holder.
    old_irql: AtomicU8,
}

// SAFETY: `taken` admits one holder at a time.
unsafe impl lock_api::RawMutex for HeapLock {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "the trait asks for an initial value as a constant"
    )]
    const INIT: Self = Self { taken: AtomicBool::new(false), old_irql: AtomicU8::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        let old = irql::require_dispatch((&raw const *self).addr());
        irql::set(Irql::DISPATCH);
        if self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.old_irql.store(old.0, Ordering::Relaxed);
            return true;
        }
        irql::lower(old);
        false
    }

    unsafe fn unlock(&self) {
        let old = Irql(self.old_irql.load(Ordering::Relaxed));
        self.taken.store(false, Ordering::Release);
        irql::lower(old);
    }
}
