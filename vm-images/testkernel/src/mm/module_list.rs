//! The lists of images as debuggers know them: `PsLoadedModuleList` and `MmUnloadedDrivers`.
//!
//! [`super::modules`] is what this kernel itself goes by, readable without locks. These are its picture in NT's
//! structures, for whoever reads the guest's memory from outside: a dump, above all. They are drawn again whenever an
//! image comes or goes, and once more when the system stops.

use core::cell::UnsafeCell;

use squall_testkernel_pure::crash_dump::{List, LoadedModule, MAX_UNLOADED, Text, UnloadedModule};

use super::modules::{self, CAPACITY, Module, NAME_BYTES};
use super::paging;

/// Under which name Windows' own kernel is in the list; debuggers look for it.
const KERNEL: &str = "ntoskrnl.exe";
/// The kernel and every image.
const ENTRIES: usize = 1 + CAPACITY;

/// `LDRP_ENTRY_PROCESSED`, which every image's flags have.
const ENTRY_PROCESSED: u32 = 0x4000;

type Name = [u16; NAME_BYTES];

struct Lists {
    /// `PsLoadedModuleList`: the list's head.
    head: List,
    loaded: [LoadedModule; ENTRIES],
    loaded_names: [Name; ENTRIES],
    /// `MmUnloadedDrivers`: points at the array.
    unloaded_pointer: u64,
    unloaded: [UnloadedModule; MAX_UNLOADED],
    unloaded_names: [Name; MAX_UNLOADED],
    /// `MmLastUnloadedDriver`: where the next one goes.
    last_unloaded: u32,
}

struct Shown(UnsafeCell<Lists>);

// SAFETY: written under the lock of `modules`' writers, or by the owner of a bug check with every other processor
// stopped; read from outside the guest only.
unsafe impl Sync for Shown {}

static LISTS: Shown = Shown(UnsafeCell::new(Lists {
    head: List { next: 0, previous: 0 },
    loaded: [LoadedModule::EMPTY; ENTRIES],
    loaded_names: [[0; NAME_BYTES]; ENTRIES],
    unloaded_pointer: 0,
    unloaded: [UnloadedModule::EMPTY; MAX_UNLOADED],
    unloaded_names: [[0; NAME_BYTES]; MAX_UNLOADED],
    last_unloaded: 0,
}));

fn address<T>(of: *const T) -> u64 {
    of.addr() as u64
}

/// Virtual address of the loaded images' list head.
pub fn loaded_head() -> u64 {
    // SAFETY: only the address is taken.
    address(unsafe { &raw const (*LISTS.0.get()).head })
}

/// Virtual address of the pointer to the unloaded images' array.
pub fn unloaded_pointer() -> u64 {
    // SAFETY: only the address is taken.
    address(unsafe { &raw const (*LISTS.0.get()).unloaded_pointer })
}

/// Virtual address of the index at which the next unloaded image will be put.
pub fn last_unloaded() -> u64 {
    // SAFETY: only the address is taken.
    address(unsafe { &raw const (*LISTS.0.get()).last_unloaded })
}

fn write_name(name: &str, to: &mut Name) -> Text {
    let mut length = 0;
    for (slot, unit) in to.iter_mut().zip(name.encode_utf16()) {
        *slot = unit;
        length += 2;
    }
    Text::at(address(to.as_ptr()), length)
}

impl Lists {
    /// An image's entry stays where it is as long as the image does, with what somebody may have written to its flags.
    fn loaded(&mut self, index: usize, name: &str, base: u64, size: u64) {
        let name = write_name(name, &mut self.loaded_names[index]);
        let entry = &mut self.loaded[index];
        if entry.base != base {
            *entry = LoadedModule { flags: ENTRY_PROCESSED, load_count: 1, ..LoadedModule::EMPTY };
        }
        *entry = LoadedModule { base, size: size as u32, full_name: name, base_name: name, ..*entry };
    }

    /// Chains the entries of images that are there, and the head, into a ring.
    fn chain(&mut self) {
        let head = address(&raw const self.head);
        let mut last = head;
        let mut first = head;
        let mut before = None;
        for index in 0..ENTRIES {
            if self.loaded[index].base == 0 {
                continue;
            }
            let here = address(&raw const self.loaded[index].load_order);
            match before {
                Some(before) => {
                    let before: &mut LoadedModule = &mut self.loaded[before];
                    before.load_order.next = here;
                }
                None => first = here,
            }
            self.loaded[index].load_order = List { next: head, previous: last };
            (before, last) = (Some(index), here);
        }
        self.head = List { next: first, previous: last };
    }
}

/// The entry of the image at `base`: what its driver object's DriverSection leads to.
pub fn entry_of(base: u64) -> usize {
    let slot =
        modules::all().find(|module| !module.unloaded && module.base == base).map(|module| module.slot);
    // SAFETY: only the address is taken.
    slot.map_or(0, |slot| unsafe { (&raw mut (*LISTS.0.get()).loaded[1 + slot]).expose_provenance() })
}

/// Draws both lists. The caller keeps everybody else from doing so: see [`Shown`].
pub fn publish() {
    // SAFETY: the caller's promise.
    let lists = unsafe { &mut *LISTS.0.get() };
    let kernel = paging::kernel_image();
    lists.loaded(0, KERNEL, kernel.start, kernel.end - kernel.start);
    let mut there = [false; ENTRIES];
    let is_loaded = |module: &Module| !module.unloaded;
    for module in modules::all().filter(is_loaded) {
        there[1 + module.slot] = true;
        lists.loaded(1 + module.slot, module.name(), module.base, module.size);
    }
    for (entry, there) in lists.loaded.iter_mut().zip(there).skip(1) {
        if !there {
            *entry = LoadedModule::EMPTY;
        }
    }
    lists.chain();

    // The list is a ring in the order of unloading; more than it holds push the oldest out.
    let (mut newest, mut orders) = (0, [0; MAX_UNLOADED]);
    lists.unloaded = [UnloadedModule::EMPTY; MAX_UNLOADED];
    for module in modules::all().filter(|module| module.unloaded) {
        let Some(order) = module.unloaded_at.checked_sub(1) else { continue };
        let slot = order % MAX_UNLOADED;
        if orders[slot] > module.unloaded_at {
            continue;
        }
        orders[slot] = module.unloaded_at;
        let name = write_name(module.name(), &mut lists.unloaded_names[slot]);
        let (start, end) = (module.base, module.base + module.size);
        lists.unloaded[slot] = UnloadedModule { name, start, end, time: module.unloaded_time };
        newest = newest.max(module.unloaded_at);
    }
    lists.unloaded_pointer = address(lists.unloaded.as_ptr());
    lists.last_unloaded = (newest % MAX_UNLOADED) as u32;
}
