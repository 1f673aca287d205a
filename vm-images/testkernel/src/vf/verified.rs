//! Which drivers are verified, and for what.
//!
//! Settings are by file name, as `verifier.exe` has them, and in force at the next load. A name once given keeps its record
//! for ever: calls that are on their way through the Verifier when an image goes still find it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::classes::Class;
use super::thunk::Thunks;
use crate::ke::lock::SpinLock;

/// Names that may be given.
const CAPACITY: usize = 32;
/// Images of one name that may be loaded at once.
const IMAGES: usize = 4;

/// A driver that is verified, or was, or will be.
#[derive(Debug)]
pub struct Verified {
    name: String,
    /// The same for stops: UTF-16, with a terminator.
    wide_name: Vec<u16>,
    /// For the next load.
    wanted: AtomicU32,
    /// For the images that are loaded.
    flags: AtomicU32,
    /// Those: where each begins, 0 for none, and where it ends.
    images: [(AtomicU64, AtomicU64); IMAGES],
    thunks: Thunks,
}

static DRIVERS: [AtomicPtr<Verified>; CAPACITY] = [const { AtomicPtr::new(ptr::null_mut()) }; CAPACITY];
/// One change at a time, loading included.
static CHANGES: SpinLock<()> = SpinLock::new(());

/// Why a setting was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSet {
    /// There are too many names.
    TooMany,
    /// No memory for the thunks.
    NoMemory,
}

/// Every driver that was ever set.
pub fn all() -> impl Iterator<Item = &'static Verified> {
    // SAFETY: what a pointer leads to was leaked before it was stored.
    DRIVERS.iter().filter_map(|driver| unsafe { driver.load(Ordering::Acquire).as_ref() })
}

fn named(name: &str) -> Option<&'static Verified> {
    all().find(|driver| driver.name.eq_ignore_ascii_case(name))
}

/// The driver whose loaded image holds `address`, if it is verified. At any IRQL.
pub fn at(address: usize) -> Option<&'static Verified> {
    all().find(|driver| driver.owns(address as u64))
}

/// Sets for what the driver with this file name is verified from its next load on; for nothing with 0.
pub fn set(name: &str, flags: u32) -> Result<(), NotSet> {
    if let Some(driver) = named(name) {
        driver.wanted.store(flags, Ordering::Release);
        return Ok(());
    }
    let _changes = CHANGES.lock();
    let free = DRIVERS.iter().find(|driver| driver.load(Ordering::Acquire).is_null());
    let free = free.ok_or(NotSet::TooMany)?;
    let thunks = Thunks::new().ok_or(NotSet::NoMemory)?;
    let made: &'static Verified = Box::leak(Box::new(Verified {
        name: name.into(),
        wide_name: name.encode_utf16().chain([0]).collect(),
        wanted: AtomicU32::new(flags),
        flags: AtomicU32::new(0),
        images: [const { (AtomicU64::new(0), AtomicU64::new(0)) }; IMAGES],
        thunks,
    }));
    made.thunks.lead_to(made);
    free.store(ptr::from_ref(made).cast_mut(), Ordering::Release);
    Ok(())
}

/// The settings that are not 0: names and flags.
pub fn settings() -> Vec<(&'static str, u32)> {
    let of = |driver: &'static Verified| (driver.name.as_str(), driver.wanted.load(Ordering::Acquire));
    all().map(of).filter(|&(_, flags)| flags != 0).collect()
}

/// An image of this file name was laid out at `range`, and is about to be bound: whether, and how, it is verified.
pub fn begin_load(name: &str, range: &Range<u64>) -> Option<&'static Verified> {
    let driver = named(name)?;
    let _changes = CHANGES.lock();
    let is_free = |image: &&(AtomicU64, AtomicU64)| image.0.load(Ordering::Acquire) == 0;
    if driver.images.iter().all(|image| is_free(&image)) {
        let flags = driver.wanted.load(Ordering::Acquire);
        driver.flags.store(flags, Ordering::Release);
        driver.thunks.enforce(flags);
    }
    if driver.flags.load(Ordering::Acquire) == 0 {
        return None;
    }
    let (start, end) = driver.images.iter().find(is_free)?;
    end.store(range.end, Ordering::Release);
    start.store(range.start, Ordering::Release);
    Some(driver)
}

/// The image at `base`, verified or not, is gone, or never came to be.
pub fn end_load(base: u64) {
    let _changes = CHANGES.lock();
    for (start, _) in all().flat_map(|driver| &driver.images) {
        let _ = start.compare_exchange(base, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Verified {
    /// Its file's name in UTF-16, with a terminator.
    pub fn wide_name(&self) -> &[u16] {
        &self.wide_name
    }

    /// Whether the driver that is loaded is checked for this.
    pub fn is_for(&self, class: Class) -> bool {
        class.is_in(self.flags.load(Ordering::Acquire))
    }

    /// Whether one of its images holds `address`.
    pub fn owns(&self, address: u64) -> bool {
        self.images.iter().any(|(start, end)| {
            let start = start.load(Ordering::Acquire);
            start != 0 && (start..end.load(Ordering::Acquire)).contains(&address)
        })
    }

    /// Where its images are.
    pub fn images(&self) -> impl Iterator<Item = Range<u64>> {
        self.images.iter().filter_map(|(start, end)| {
            let start = start.load(Ordering::Acquire);
            (start != 0).then(|| start..end.load(Ordering::Acquire))
        })
    }

    /// What its imports of the routine `name` lead to, which is at `address`.
    pub fn bound(&self, name: &str, address: usize) -> usize {
        self.thunks.first(name, self.flags.load(Ordering::Acquire)).unwrap_or(address)
    }
}
