//! Page frames: physical memory by pages of 4 KiB.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use squall_testkernel_pure::frames::FrameBitmap;

use crate::arch::boot::{BootInfo, DIRECT_MAP_BASE};
use crate::ke::lock::SpinLock;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// Memory beyond this is not used.
pub const MEMORY_LIMIT: u64 = 8 << 30;

/// Below 1 MiB lie the firmware's and the loader's things, and the page through which processors start.
const LOW_MEMORY_END: u64 = 1 << 20;

const BITMAP_WORDS: usize = MEMORY_LIMIT as usize / PAGE_SIZE / 64;

static FRAMES: SpinLock<FrameBitmap<BITMAP_WORDS>> = SpinLock::new(FrameBitmap::new());

/// One past the last byte of memory.
static END: AtomicU64 = AtomicU64::new(0);

/// So many ranges are remembered; a PC has two or three.
const MAX_RANGES: usize = 16;
static RANGES: [(AtomicU64, AtomicU64); MAX_RANGES] =
    [const { (AtomicU64::new(0), AtomicU64::new(0)) }; MAX_RANGES];
static RANGE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Memory below this is what an ISA card reaches; it is used last.
const ISA_LIMIT: u64 = 16 << 20;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// A page frame that the holder may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame(usize);

impl Frame {
    /// The frame that holds this physical address.
    #[must_use]
    pub const fn containing(physical: u64) -> Self {
        Self(physical as usize / PAGE_SIZE)
    }

    /// Its physical address.
    #[must_use]
    pub const fn physical(self) -> u64 {
        (self.0 * PAGE_SIZE) as u64
    }

    /// Where the direct map shows it.
    #[must_use]
    pub const fn direct(self) -> *mut u8 {
        (DIRECT_MAP_BASE + self.physical()) as *mut u8
    }

    /// The `index`-th frame after this one, of a run.
    #[must_use]
    pub const fn offset(self, index: usize) -> Self {
        Self(self.0 + index)
    }
}

/// Takes over all memory that the loader says is there, but for the low megabyte and the kernel itself.
pub fn init(boot: &BootInfo) {
    let mut frames = FRAMES.lock();
    for range in boot.memory() {
        let first = range.start.next_multiple_of(PAGE_SIZE as u64);
        let end = range.end.min(MEMORY_LIMIT);
        frames.add(first as usize / PAGE_SIZE, end as usize / PAGE_SIZE);
        END.fetch_max(end, Ordering::Relaxed);
        if let Some((start, bytes)) = RANGES.get(RANGE_COUNT.load(Ordering::Relaxed)).filter(|_| first < end)
        {
            start.store(first, Ordering::Relaxed);
            bytes.store((end - first) & !(PAGE_SIZE as u64 - 1), Ordering::Relaxed);
            RANGE_COUNT.fetch_add(1, Ordering::Release);
        }
    }
    frames.begin_at(ISA_LIMIT as usize / PAGE_SIZE);
    frames.reserve(0, LOW_MEMORY_END as usize / PAGE_SIZE);
    // These linker symbols *are* physical addresses; there is nothing to read at them.
    let image = (&raw const __image_start).addr()..(&raw const __image_end).addr();
    frames.reserve(image.start / PAGE_SIZE, image.end.div_ceil(PAGE_SIZE));
}

/// One frame, its contents whatever they were.
pub fn allocate() -> Option<Frame> {
    FRAMES.lock().allocate().map(Frame)
}

/// One frame of zeros.
pub fn allocate_zeroed() -> Option<Frame> {
    let frame = allocate()?;
    // SAFETY: the frame was free until now, so nobody else uses it, and the direct map shows all of it.
    unsafe { frame.direct().write_bytes(0, PAGE_SIZE) };
    Some(frame)
}

/// `count` neighbouring frames that begin at a multiple of `align` frames and end below the physical address
/// `limit`.
pub fn allocate_run(count: usize, align: usize, limit: u64) -> Option<Frame> {
    allocate_run_from(count, align, 0, limit)
}

/// The same, none of them below the physical address `from`.
pub fn allocate_run_from(count: usize, align: usize, from: u64, limit: u64) -> Option<Frame> {
    let from = from.min(MEMORY_LIMIT).div_ceil(PAGE_SIZE as u64) as usize;
    let limit = limit.min(MEMORY_LIMIT) as usize / PAGE_SIZE;
    FRAMES.lock().allocate_run_from(count, align, from, limit).map(Frame)
}

/// Gives a frame back.
pub fn release(frame: Frame) {
    let released = FRAMES.lock().release(frame.0);
    assert!(released.is_ok(), "page frame {:#x} was freed twice", frame.physical());
}

/// Memory as the loader told of it, by physical addresses: where each range begins and how many bytes it has.
pub fn ranges() -> impl Iterator<Item = (u64, u64)> {
    let count = RANGE_COUNT.load(Ordering::Acquire).min(MAX_RANGES);
    RANGES[..count]
        .iter()
        .map(|(start, bytes)| (start.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed)))
}

/// One past the last byte of memory that is used.
pub fn end_of_memory() -> u64 {
    END.load(Ordering::Relaxed)
}

/// How many frames are free.
pub fn free_count() -> usize {
    FRAMES.lock().free_count()
}
