//! Which driver images there are, and which there were.
//!
//! A crash into code that is gone is only worth something if one can say whose code it was. NT keeps the last
//! drivers that were unloaded for that; so does this list. The bug check reads it while every other processor
//! is stopped wherever it happened to be, so reading takes no lock: an entry counts only while its state says
//! so, and the state is written last.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::module_list;
use crate::ke::clock;
use crate::ke::lock::SpinLock;
use crate::selftest::{check, kernel_test};

/// How many images are remembered, loaded and unloaded together.
pub const CAPACITY: usize = 64;
/// How much of an image's name is kept.
pub const NAME_BYTES: usize = 48;

const EMPTY: u8 = 0;
const LOADED: u8 = 1;
const UNLOADED: u8 = 2;

struct Slot {
    state: AtomicU8,
    base: AtomicU64,
    size: AtomicU64,
    /// When it was unloaded, in order: the oldest makes room.
    unloaded_at: AtomicUsize,
    /// And by the clock.
    unloaded_time: AtomicU64,
    name: [AtomicU8; NAME_BYTES],
    name_len: AtomicU8,
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            base: AtomicU64::new(0),
            size: AtomicU64::new(0),
            unloaded_at: AtomicUsize::new(0),
            unloaded_time: AtomicU64::new(0),
            name: [const { AtomicU8::new(0) }; NAME_BYTES],
            name_len: AtomicU8::new(0),
        }
    }
}

static SLOTS: [Slot; CAPACITY] = [const { Slot::new() }; CAPACITY];
/// Writers one at a time; counts unloads.
static WRITER: SpinLock<usize> = SpinLock::new(0);

/// An image, as it is told to people.
#[derive(Clone, Copy)]
pub struct Module {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// Which of the places for images it has.
    pub slot: usize,
    /// Its code is there no more.
    pub unloaded: bool,
    /// The how-manieth to be unloaded it was, from 1.
    pub unloaded_at: usize,
    /// When it was unloaded, in units of 100 ns since 1601.
    pub unloaded_time: u64,
    name: [u8; NAME_BYTES],
    name_len: usize,
}

impl Module {
    /// The file's name.
    pub fn name(&self) -> &str {
        core::str::from_utf8(&self.name[..self.name_len]).unwrap_or("?")
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:#x}+{:#x}{}",
            self.name(),
            self.base,
            self.size,
            if self.unloaded { " (unloaded)" } else { "" }
        )
    }
}

/// Every image known, loaded ones and unloaded ones mixed. Takes no lock.
pub fn all() -> impl Iterator<Item = Module> {
    SLOTS.iter().enumerate().filter_map(|(index, slot)| {
        let state = slot.state.load(Ordering::Acquire);
        (state != EMPTY).then(|| Module {
            base: slot.base.load(Ordering::Relaxed),
            size: slot.size.load(Ordering::Relaxed),
            slot: index,
            unloaded: state == UNLOADED,
            unloaded_at: slot.unloaded_at.load(Ordering::Relaxed),
            unloaded_time: slot.unloaded_time.load(Ordering::Relaxed),
            name: core::array::from_fn(|index| slot.name[index].load(Ordering::Relaxed)),
            name_len: usize::from(slot.name_len.load(Ordering::Relaxed)).min(NAME_BYTES),
        })
    })
}

/// The image that `address` lies in, a loaded one first, with the offset. Takes no lock.
pub fn lookup(address: u64) -> Option<(Module, u64)> {
    all()
        .filter(|module| address.checked_sub(module.base).is_some_and(|offset| offset < module.size))
        .min_by_key(|module| module.unloaded)
        .map(|module| (module, address - module.base))
}

/// A driver image was mapped. Where the list is full of loaded ones, it goes unremembered: false.
pub fn loaded(name: &str, base: u64, size: u64) -> bool {
    let _writer = WRITER.lock();
    let state_of = |slot: &&Slot| slot.state.load(Ordering::Relaxed);
    let free = SLOTS.iter().find(|slot| state_of(slot) == EMPTY).or_else(|| {
        SLOTS
            .iter()
            .filter(|slot| state_of(slot) == UNLOADED)
            .min_by_key(|slot| slot.unloaded_at.load(Ordering::Relaxed))
    });
    let Some(slot) = free else { return false };
    slot.state.store(EMPTY, Ordering::Release);
    slot.base.store(base, Ordering::Relaxed);
    slot.size.store(size, Ordering::Relaxed);
    // Cut at a character, so that what is kept stays text.
    let mut len = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    for (kept, byte) in slot.name.iter().zip(name.bytes().take(len)) {
        kept.store(byte, Ordering::Relaxed);
    }
    slot.name_len.store(len as u8, Ordering::Relaxed);
    slot.state.store(LOADED, Ordering::Release);
    module_list::publish();
    true
}

/// The image at `base` is about to be unmapped, and is remembered as unloaded from now on.
pub fn unloaded(base: u64) {
    let mut count = WRITER.lock();
    let loaded = |slot: &&Slot| {
        slot.state.load(Ordering::Relaxed) == LOADED && slot.base.load(Ordering::Relaxed) == base
    };
    if let Some(slot) = SLOTS.iter().find(loaded) {
        *count += 1;
        slot.unloaded_at.store(*count, Ordering::Relaxed);
        slot.unloaded_time.store(clock::system_time(), Ordering::Relaxed);
        slot.state.store(UNLOADED, Ordering::Release);
        module_list::publish();
    }
}

kernel_test! {
    fn images_are_found_while_loaded_and_remembered_after() {
        const BASE: u64 = 0xffff_f8ff_0000_0000;
        check!(lookup(BASE).is_none());
        check!(loaded("a name that is longer than the forty-eight bytes kept.sys", BASE, 0x2000));
        check!(lookup(BASE + 0x1FFF).is_some_and(|(module, offset)| offset == 0x1FFF && !module.unloaded));
        check!(lookup(BASE + 0x2000).is_none());
        unloaded(BASE);
        check!(lookup(BASE).is_some_and(|(module, _)| module.unloaded && module.name().len() == 48));
        // As many more make the list forget it, and none of them is lost before.
        for index in 1..=CAPACITY as u64 {
            check!(loaded("next.sys", BASE + index * 0x10000, 0x1000));
            unloaded(BASE + index * 0x10000);
        }
        check!(lookup(BASE).is_none());
        check!(lookup(BASE + CAPACITY as u64 * 0x10000).is_some());
    }
}
