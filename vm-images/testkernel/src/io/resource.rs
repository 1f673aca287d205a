//! Claims on hardware: ports, memory, interrupt lines.
//!
//! A legacy driver says what it is going to touch before it touches it. Claims belong to the driver, or to one of its
//! devices; a new list replaces the old one, and an empty list gives it up. What the system itself uses is claimed from
//! the start. The registry's account of it is in [`map`].

mod assign;
mod map;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use squall_testkernel_pure::resources::{Claim, Resource, SYSTEM};

use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, CM_FULL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_LIST,
    CM_RESOURCE_TYPE_INTERRUPT, CM_RESOURCE_TYPE_MEMORY, CM_RESOURCE_TYPE_PORT, CM_SHARE_SHARED,
    DEVICE_OBJECT, DRIVER_OBJECT, NTSTATUS, STATUS_CONFLICTING_ADDRESSES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// The most buses of one list, and the most resources of one bus.
const MAX_FULL: u32 = 8;
const MAX_PARTIAL: u32 = 64;

/// Who claims: a driver, or one device of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimer {
    driver: usize,
    device: usize,
}

/// What is claimed, and where that is written down.
#[derive(Debug)]
struct Taken {
    claims: Vec<Claim>,
    entry: Option<map::Entry>,
}

static CLAIMS: SpinLock<BTreeMap<Claimer, Taken>> = SpinLock::new(BTreeMap::new());

/// A resource of a list, with its descriptor as the driver wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// What it is.
    pub claim: Claim,
    /// As it was written.
    pub raw: CM_PARTIAL_RESOURCE_DESCRIPTOR,
}

/// Reads a resource list; types that the guest does not know are left out.
///
/// # Safety
/// `list` must be null or lead to a list that is as long as its counts say.
pub unsafe fn read_list(list: *const CM_RESOURCE_LIST) -> Result<Vec<Listed>, NTSTATUS> {
    let mut listed = Vec::new();
    if list.is_null() {
        return Ok(listed);
    }
    // SAFETY: the caller's contract; descriptors are packed, hence the unaligned reads.
    unsafe {
        let count = (&raw const (*list).Count).read_unaligned();
        if count > MAX_FULL {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let mut full = (&raw const (*list).List).cast::<CM_FULL_RESOURCE_DESCRIPTOR>();
        for _ in 0..count {
            let partials = (&raw const (*full).PartialResourceList.Count).read_unaligned();
            if partials > MAX_PARTIAL {
                return Err(STATUS_INVALID_PARAMETER);
            }
            let mut partial = (&raw const (*full).PartialResourceList.PartialDescriptors)
                .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
            for _ in 0..partials {
                let raw = partial.read_unaligned();
                listed.extend(claim_of(&raw).map(|claim| Listed { claim, raw }));
                partial = partial.add(1);
            }
            full = partial.cast();
        }
    }
    Ok(listed)
}

fn claim_of(raw: &CM_PARTIAL_RESOURCE_DESCRIPTOR) -> Option<Claim> {
    let [low, high, length, _] = raw.Data;
    let start = u64::from(low) | u64::from(high) << 32;
    let resource = match raw.Type {
        CM_RESOURCE_TYPE_PORT => Resource::Ports { start, length },
        CM_RESOURCE_TYPE_MEMORY => Resource::Memory { start, length },
        // Raw: level and vector are both the line.
        CM_RESOURCE_TYPE_INTERRUPT => Resource::Line(low),
        _ => return None,
    };
    Some(Claim { resource, shared: raw.ShareDisposition == CM_SHARE_SHARED })
}

/// Whether nobody but `driver` has some of a claim. A driver does not get in its own way: it may claim for itself first
/// and for its device later.
fn is_free_for(driver: usize, wanted: &Claim) -> bool {
    let claims = CLAIMS.lock();
    let others = claims.iter().filter(|(other, _)| other.driver != driver);
    others.flat_map(|(_, taken)| &taken.claims).chain(&SYSTEM).all(|taken| !wanted.conflicts_with(taken))
}

/// Claims `wanted` for a driver (device 0) or a device of it, instead of what it claimed before; false, and nothing
/// changes, where somebody else has some of it.
pub fn claim(driver: usize, device: usize, wanted: Vec<Claim>, entry: Option<&map::Entry>) -> bool {
    if !wanted.iter().all(|claim| is_free_for(driver, claim)) {
        return false;
    }
    record(Claimer { driver, device }, wanted, entry);
    true
}

fn record(claimer: Claimer, wanted: Vec<Claim>, entry: Option<&map::Entry>) {
    let before = {
        let mut claims = CLAIMS.lock();
        if wanted.is_empty() {
            claims.remove(&claimer)
        } else {
            claims.insert(claimer, Taken { claims: wanted, entry: entry.cloned() })
        }
    };
    // The registry has a lock of its own.
    if let Some(before) = before.and_then(|before| before.entry) {
        before.delete();
    }
}

/// What a driver has claimed for itself and not given up; a device of the plug and play manager's is not the driver's.
pub fn claimed_by(driver: usize) -> Vec<Claim> {
    let claims = CLAIMS.lock();
    claims
        .iter()
        .filter(|(claimer, _)| claimer.driver == driver)
        .flat_map(|(_, taken)| &taken.claims)
        .copied()
        .collect()
}

/// Forgets a driver's claims, once they have been reported.
pub fn forget(driver: usize) {
    let claimers: Vec<Claimer> =
        CLAIMS.lock().keys().filter(|claimer| claimer.driver == driver).copied().collect();
    claimers.into_iter().for_each(|claimer| record(claimer, Vec::new(), None));
}

/// A report of a driver's: what it wants for itself, and for a device, which may be null.
struct Report {
    driver: *mut DRIVER_OBJECT,
    class: *const UNICODE_STRING,
    driver_list: *const CM_RESOURCE_LIST,
    device: *mut DEVICE_OBJECT,
    device_list: *const CM_RESOURCE_LIST,
    /// A claim is made even where somebody else has some of it.
    overrides: bool,
}

impl Report {
    /// Whose claims are made anew, and with which list. Where only one of the two is given, the other's claim stands as it is; where
    /// neither is, the claim that the call could be about is given up.
    fn lists(&self) -> impl Iterator<Item = (usize, *const CM_RESOURCE_LIST)> {
        let neither = self.driver_list.is_null() && self.device_list.is_null();
        let driver = (neither || !self.driver_list.is_null() || self.device.is_null())
            .then_some((0, self.driver_list));
        let device = (!self.device.is_null() && (neither || !self.device_list.is_null()))
            .then_some((self.device.addr(), self.device_list));
        driver.into_iter().chain(device)
    }

    /// Makes both claims; gives whether there was a conflict.
    ///
    /// # Safety
    /// Everything must be valid or null.
    unsafe fn carry_out(&self) -> Result<bool, NTSTATUS> {
        // SAFETY: the caller's contract.
        unsafe {
            let class = self.class.as_ref().map(|class| class.units());
            let mut conflict = false;
            for (device, list) in self.lists() {
                let listed = read_list(list)?;
                let claims: Vec<Claim> = listed.iter().map(|listed| listed.claim).collect();
                let entry = map::entry(self.driver, class, device);
                let claimer = Claimer { driver: self.driver.addr(), device };
                let free = claims.iter().all(|claim| is_free_for(claimer.driver, claim));
                conflict |= !free;
                if free || self.overrides {
                    let is_empty = claims.is_empty();
                    record(claimer, claims, Some(&entry));
                    if !is_empty {
                        let first = (*list).List[0];
                        entry.write((first.InterfaceType, first.BusNumber), &listed);
                    }
                }
            }
            Ok(conflict)
        }
    }
}

export! {
    /// *IoReportResourceForDetection function (ntddk.h)*: claims for the driver, for a device, or both.
    pub unsafe extern "win64" fn IoReportResourceForDetection(
        driver: *mut DRIVER_OBJECT,
        driver_list: *const CM_RESOURCE_LIST,
        _driver_list_size: u32,
        device: *mut DEVICE_OBJECT,
        device_list: *const CM_RESOURCE_LIST,
        _device_list_size: u32,
        conflict_detected: *mut BOOLEAN,
    ) -> NTSTATUS {
        let class = core::ptr::null();
        let report = Report { driver, class, driver_list, device, device_list, overrides: false };
        // SAFETY: the caller gives valid lists or null, and storage for the answer.
        unsafe {
            match report.carry_out() {
                Ok(conflict) => {
                    conflict_detected.write(conflict.into());
                    if conflict { STATUS_CONFLICTING_ADDRESSES } else { STATUS_SUCCESS }
                }
                Err(status) => status,
            }
        }
    }

    /// *IoReportResourceUsage function (ntddk.h)*: the same under a class of drivers, and on request even where there is a
    /// conflict.
    pub unsafe extern "win64" fn IoReportResourceUsage(
        class: *mut UNICODE_STRING,
        driver: *mut DRIVER_OBJECT,
        driver_list: *const CM_RESOURCE_LIST,
        _driver_list_size: u32,
        device: *mut DEVICE_OBJECT,
        device_list: *const CM_RESOURCE_LIST,
        _device_list_size: u32,
        override_conflict: BOOLEAN,
        conflict_detected: *mut BOOLEAN,
    ) -> NTSTATUS {
        let overrides = override_conflict != 0;
        let report = Report { driver, class, driver_list, device, device_list, overrides };
        // SAFETY: the caller gives valid lists or null, and storage for the answer.
        unsafe {
            match report.carry_out() {
                Ok(conflict) => {
                    conflict_detected.write(conflict.into());
                    if conflict && !overrides { STATUS_CONFLICTING_ADDRESSES } else { STATUS_SUCCESS }
                }
                Err(status) => status,
            }
        }
    }
}

kernel_test! {
    /// *IoReportResourceUsage function (ntddk.h)*: a claim keeps others out, stands in ResourceMap, and goes with an empty
    /// list. *IoAssignResources function (ntddk.h)*: the first place that is free.
    fn claims_stand_in_the_resource_map_as_long_as_they_are_made() {
        use crate::io::driver;
        use crate::nt::{CM_PARTIAL_RESOURCE_LIST, DRVO_LEGACY_DRIVER, IO_RESOURCE_DESCRIPTOR, IO_RESOURCE_LIST};
        use crate::nt::{IO_RESOURCE_REQUIREMENTS_LIST, STATUS_NO_SUCH_DEVICE};
        let (Ok(first), Ok(second)) =
            (driver::create("selftest-a", DRVO_LEGACY_DRIVER), driver::create("selftest-b", DRVO_LEGACY_DRIVER))
        else { check!(false); return Ok(()) };
        let list = |start| CM_RESOURCE_LIST {
            Count: 1,
            List: [CM_FULL_RESOURCE_DESCRIPTOR {
                InterfaceType: 1,
                BusNumber: 0,
                PartialResourceList: CM_PARTIAL_RESOURCE_LIST {
                    Version: 1, Revision: 1, Count: 1,
                    PartialDescriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR::range(1, 1, 1, start, 16)],
                },
            }],
        };
        let report = |driver, list: Option<&CM_RESOURCE_LIST>, overrides| {
            let mut conflict = 9;
            // SAFETY: the lists are locals, the drivers this test's.
            let status = unsafe {
                IoReportResourceUsage(
                    core::ptr::null_mut(), driver, list.map_or(core::ptr::null(), |list| list), 0,
                    core::ptr::null_mut(), core::ptr::null(), 0, overrides, &raw mut conflict,
                )
            };
            (status, conflict)
        };
        // SAFETY: the drivers are alive.
        let [entry, other] = [first, second].map(|driver| unsafe { map::entry(driver, None, 0) });
        check!(report(first, Some(&list(0x320)), 0) == (STATUS_SUCCESS, 0) && entry.is_written());
        check!(report(second, Some(&list(0x328)), 0) == (STATUS_CONFLICTING_ADDRESSES, 1) && !other.is_written());
        check!(report(second, Some(&list(0x328)), 1) == (STATUS_SUCCESS, 1) && other.is_written());
        check!(report(second, None, 0) == (STATUS_SUCCESS, 0) && !other.is_written());
        #[repr(C)]
        struct Requirements(IO_RESOURCE_REQUIREMENTS_LIST, IO_RESOURCE_LIST, [IO_RESOURCE_DESCRIPTOR; 2]);
        let wish = |option, first, last| IO_RESOURCE_DESCRIPTOR {
            Option: option, Type: 1, ShareDisposition: 1, Spare1: 0, Flags: 1, Spare2: 0,
            Data: [16, 16, first, 0, last, 0],
        };
        let mut wanted = Requirements(
            IO_RESOURCE_REQUIREMENTS_LIST {
                ListSize: size_of::<Requirements>() as u32, InterfaceType: 1, BusNumber: 0, SlotNumber: 0,
                Reserved: [0; 3], AlternativeLists: 1,
            },
            IO_RESOURCE_LIST { Version: 1, Revision: 1, Count: 2 },
            [wish(1, 0x320, 0x32F), wish(8, 0x320, 0x34F)],
        );
        let mut storage: *mut CM_RESOURCE_LIST = core::ptr::null_mut();
        let given = &raw mut storage;
        let nobody = core::ptr::null_mut();
        // SAFETY: the requirements are a local, the drivers this test's; the list given is this test's to free.
        unsafe {
            let assign = |requirements| assign::IoAssignResources(
                core::ptr::null_mut(), core::ptr::null_mut(), second, core::ptr::null_mut(), requirements, given,
            );
            check!(assign((&raw mut wanted).cast()) == STATUS_SUCCESS && other.is_written());
            let taken = claimed_by(second.addr());
            check!(taken == [Claim { resource: Resource::Ports { start: 0x330, length: 16 }, shared: false }]);
            let read = read_list(*given);
            check!(read.is_ok_and(|list| list.len() == 1 && list[0].claim == taken[0]));
            crate::ex::pool::free((*given).addr(), 0);
            check!(assign(core::ptr::null_mut()) == STATUS_SUCCESS && claimed_by(second.addr()).is_empty());
            let slot = |slot| assign::HalAssignSlotResources(
                nobody, nobody, second, core::ptr::null_mut(), 5, 0, slot, given,
            );
            check!(slot(31 | 7 << 5) == STATUS_NO_SUCH_DEVICE);
            let functions = crate::hal::pci::functions();
            let card = functions.iter().find(|card| card.address.bus == 0 && card.bars[0].is_some() && card.pin.is_some());
            if let Some(card) = card {
                check!(slot(card.address.slot()) == STATUS_SUCCESS);
                let ranges = card.bars.iter().flatten().count();
                check!(read_list(*given).is_ok_and(|list| list.len() == ranges + 1));
                crate::ex::pool::free((*given).addr(), 0);
            }
        }
        forget(second.addr());
        check!(!other.is_written());
        check!(report(first, None, 0) == (STATUS_SUCCESS, 0) && !entry.is_written());
        for driver in [first, second] {
            check!(crate::ob::dereference(driver.addr()) == Some(0));
        }
    }
}
