//! Claims on hardware: ports, memory, interrupt lines.
//!
//! A legacy driver says what it is going to touch before it touches it. Claims belong to the driver, or to one of its
//! devices; a new list replaces the old one, and an empty list gives it up. What the system itself uses is claimed from
//! the start.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use squall_testkernel_pure::resources::{Claim, Resource, SYSTEM};

use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, CM_FULL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_LIST,
    CM_RESOURCE_TYPE_INTERRUPT, CM_RESOURCE_TYPE_MEMORY, CM_RESOURCE_TYPE_PORT, CM_SHARE_SHARED,
    DEVICE_OBJECT, DRIVER_OBJECT, NTSTATUS, STATUS_CONFLICTING_ADDRESSES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};

/// The most buses of one list, and the most resources of one bus.
const MAX_FULL: u32 = 8;
const MAX_PARTIAL: u32 = 64;

/// Who claims: a driver, or one device of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimer {
    driver: usize,
    device: usize,
}

static CLAIMS: SpinLock<BTreeMap<Claimer, Vec<Claim>>> = SpinLock::new(BTreeMap::new());

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

/// Claims `wanted` for a driver (device 0) or a device of it; false, and nothing changes, where somebody else has some
/// of it.
pub fn claim(driver: usize, device: usize, wanted: Vec<Claim>) -> bool {
    let claimer = Claimer { driver, device };
    let mut claims = CLAIMS.lock();
    // A driver does not get in its own way: it may claim for itself first and for its device later.
    let others = claims.iter().filter(|(other, _)| other.driver != driver).flat_map(|(_, claims)| claims);
    let free = others.chain(&SYSTEM).all(|taken| !wanted.iter().any(|claim| claim.conflicts_with(taken)));
    if free {
        if wanted.is_empty() {
            claims.remove(&claimer);
        } else {
            claims.insert(claimer, wanted);
        }
    }
    free
}

/// What a driver has claimed for itself and not given up; a device of the plug and play manager's is not the driver's.
pub fn claimed_by(driver: usize) -> Vec<Claim> {
    let claims = CLAIMS.lock();
    claims
        .iter()
        .filter(|(claimer, _)| claimer.driver == driver)
        .flat_map(|(_, claims)| claims)
        .copied()
        .collect()
}

/// Forgets a driver's claims, once they have been reported.
pub fn forget(driver: usize) {
    CLAIMS.lock().retain(|claimer, _| claimer.driver != driver);
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
        // SAFETY: the caller gives valid lists or null.
        let lists = unsafe { read_list(driver_list).and_then(|first| Ok((first, read_list(device_list)?))) };
        let (driver_list, device_list) = match lists {
            Ok(lists) => lists,
            Err(status) => return status,
        };
        let claims = |list: Vec<Listed>| list.into_iter().map(|listed| listed.claim).collect();
        let mut free = claim(driver.addr(), 0, claims(driver_list));
        if !device.is_null() {
            free &= claim(driver.addr(), device.addr(), claims(device_list));
        }
        // SAFETY: the caller gives storage for the answer.
        unsafe { conflict_detected.write((!free).into()) };
        if free { STATUS_SUCCESS } else { STATUS_CONFLICTING_ADDRESSES }
    }
}
