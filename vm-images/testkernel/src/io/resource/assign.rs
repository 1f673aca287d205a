//! Resources that the system finds for a driver, instead of the driver for itself.

use alloc::vec::Vec;

use squall_testkernel_pure::pool::Terms;
use squall_testkernel_pure::resources::{Claim, Resource, Span, Wish};

use super::{Listed, claim, is_free_for, map};
use crate::ex::pool;
use crate::hal::{bus, pci};
use crate::io::pnp::{self, Description};
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR as Descriptor, CM_RESOURCE_LIST, CM_RESOURCE_PORT_IO,
    CM_RESOURCE_TYPE_INTERRUPT, CM_RESOURCE_TYPE_MEMORY, CM_RESOURCE_TYPE_PORT, CM_SHARE_DEVICE_EXCLUSIVE,
    CM_SHARE_SHARED, DEVICE_OBJECT, DRIVER_OBJECT, INTERFACE_TYPE_PCI_BUS, IO_RESOURCE_ALTERNATIVE,
    IO_RESOURCE_DESCRIPTOR, IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST, NTSTATUS,
    STATUS_CONFLICTING_ADDRESSES, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS, UNICODE_STRING,
};
use squall_testkernel_pure::pci::Space;

const MAX_ALTERNATIVES: u32 = 16;
const MAX_WISHES: u32 = 64;

/// Who wants resources, on which bus.
struct Asker {
    driver: *mut DRIVER_OBJECT,
    device: *mut DEVICE_OBJECT,
    class: usize,
    bus: (u32, u32),
    caller: usize,
}

impl Asker {
    /// Claims, writes down, and hands a list of it to the driver, which frees it.
    ///
    /// # Safety
    /// The asker's objects are alive, and `allocated` leads to storage for a pointer.
    unsafe fn take(&self, listed: &[Listed], allocated: *mut *mut CM_RESOURCE_LIST) -> NTSTATUS {
        let claims: Vec<Claim> = listed.iter().map(|listed| listed.claim).collect();
        let (bus_type, bus_number) = self.bus;
        let description = Description { bus_type, bus_number, ..Description::default() };
        let raw: Vec<Descriptor> = listed.iter().map(|listed| listed.raw).collect();
        let bytes = pnp::resource_list(&description, &raw);
        let terms = Terms {
            size: bytes.len(),
            tag: u32::from_le_bytes(*b"CmRl"),
            paged: true,
            caller: self.caller,
            ..Terms::default()
        };
        let Some(block) = pool::allocate(terms, false) else { return STATUS_INSUFFICIENT_RESOURCES };
        // SAFETY: the caller's contract; the block is as long as the list.
        unsafe {
            let class = core::ptr::with_exposed_provenance::<UNICODE_STRING>(self.class);
            let entry =
                map::entry(self.driver, class.as_ref().map(|class| class.units()), self.device.addr());
            if !claim(self.driver.addr(), self.device.addr(), claims, Some(&entry)) {
                pool::free(block.as_ptr().addr(), 0);
                return STATUS_CONFLICTING_ADDRESSES;
            }
            entry.write(self.bus, listed);
            bytes.as_ptr().copy_to_nonoverlapping(block.as_ptr(), bytes.len());
            allocated.write(block.as_ptr().cast());
        }
        STATUS_SUCCESS
    }
}

fn wish_of(descriptor: &IO_RESOURCE_DESCRIPTOR) -> Option<Wish> {
    let [a, b, low, high, last_low, last_high] = descriptor.Data;
    let span = Span {
        length: a,
        align: b,
        first: u64::from(low) | u64::from(high) << 32,
        last: u64::from(last_low) | u64::from(last_high) << 32,
    };
    match descriptor.Type {
        CM_RESOURCE_TYPE_PORT => Some(Wish::Ports(span)),
        CM_RESOURCE_TYPE_MEMORY => Some(Wish::Memory(span)),
        CM_RESOURCE_TYPE_INTERRUPT => Some(Wish::Line(a, b)),
        _ => None,
    }
}

fn listed_of(claim: Claim, flags: u16) -> Listed {
    let share = if claim.shared { CM_SHARE_SHARED } else { CM_SHARE_DEVICE_EXCLUSIVE };
    let raw = match claim.resource {
        Resource::Ports { start, length } => {
            Descriptor::range(CM_RESOURCE_TYPE_PORT, share, flags, start, length)
        }
        Resource::Memory { start, length } => {
            Descriptor::range(CM_RESOURCE_TYPE_MEMORY, share, flags, start, length)
        }
        Resource::Line(line) => Descriptor::interrupt(share, flags, line, line, u64::MAX),
    };
    Listed { claim, raw }
}

/// A place for every wish of a list that is not an alternative, or for one of the alternatives behind it.
fn fulfil(wishes: &[IO_RESOURCE_DESCRIPTOR], is_free: impl Fn(&Claim) -> bool) -> Option<Vec<Listed>> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut wishes = wishes.iter().peekable();
    while let Some(first) = wishes.next() {
        let mut group = Vec::from([first]);
        while let Some(alternative) = wishes.next_if(|next| next.Option & IO_RESOURCE_ALTERNATIVE != 0) {
            group.push(alternative);
        }
        let own = |claim: &Claim| !listed.iter().any(|listed| listed.claim.conflicts_with(claim));
        let place = |wish: &&IO_RESOURCE_DESCRIPTOR| {
            let shared = wish.ShareDisposition == CM_SHARE_SHARED;
            let placed = wish_of(wish)?.place(shared, |claim| is_free(claim) && own(claim))?;
            Some(listed_of(placed, wish.Flags))
        };
        let placed = group.iter().find_map(place)?;
        listed.push(placed);
    }
    Some(listed)
}

/// The alternatives of a list of requirements.
///
/// # Safety
/// The list must be as long as its counts say.
unsafe fn alternatives(
    list: *const IO_RESOURCE_REQUIREMENTS_LIST,
) -> Result<Vec<Vec<IO_RESOURCE_DESCRIPTOR>>, NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe {
        let count = (*list).AlternativeLists;
        if count > MAX_ALTERNATIVES {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let mut next = list.add(1).cast::<IO_RESOURCE_LIST>();
        let mut all = Vec::new();
        for _ in 0..count {
            let wishes = (*next).Count;
            if wishes > MAX_WISHES {
                return Err(STATUS_INVALID_PARAMETER);
            }
            let first = next.add(1).cast::<IO_RESOURCE_DESCRIPTOR>();
            all.push((0..wishes as usize).map(|index| first.add(index).read_unaligned()).collect());
            next = first.add(wishes as usize).cast();
        }
        Ok(all)
    }
}

/// Who claims. A driver that claims for one device of several may give that device alone (*Calling IoAssignResources or
/// HalAssignSlotResources*).
///
/// # Safety
/// `driver` and `device` must be addresses of such objects or 0.
unsafe fn claimer(driver: usize, device: usize) -> (*mut DRIVER_OBJECT, *mut DEVICE_OBJECT) {
    let driver: *mut DRIVER_OBJECT = core::ptr::with_exposed_provenance_mut(driver);
    let device: *mut DEVICE_OBJECT = core::ptr::with_exposed_provenance_mut(device);
    if driver.is_null() && !device.is_null() {
        // SAFETY: the caller's contract.
        return (unsafe { (*device).DriverObject }, device);
    }
    (driver, device)
}

/// # Safety
/// The call must be one of IoAssignResources'.
unsafe extern "win64" fn assign_resources(call: &Call<6>) -> NTSTATUS {
    let [_registry_path, class, driver, device, requirements, allocated] = call.arguments;
    let requirements = core::ptr::with_exposed_provenance::<IO_RESOURCE_REQUIREMENTS_LIST>(requirements);
    // SAFETY: the caller's objects.
    let (driver, device) = unsafe { claimer(driver, device) };
    let allocated = core::ptr::with_exposed_provenance_mut::<*mut CM_RESOURCE_LIST>(allocated);
    if requirements.is_null() {
        // An empty wish gives everything back, which cannot fail.
        claim(driver.addr(), device.addr(), Vec::new(), None);
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller's lists and objects.
    unsafe {
        let bus = ((*requirements).InterfaceType, (*requirements).BusNumber);
        let asker = Asker { driver, device, class, bus, caller: call.caller };
        let alternatives = match alternatives(requirements) {
            Ok(alternatives) => alternatives,
            Err(status) => return status,
        };
        let fulfilled =
            alternatives.iter().find_map(|wishes| fulfil(wishes, |claim| is_free_for(driver.addr(), claim)));
        match fulfilled {
            Some(listed) => asker.take(&listed, allocated),
            None => STATUS_CONFLICTING_ADDRESSES,
        }
    }
}

/// # Safety
/// The call must be one of HalAssignSlotResources'.
unsafe extern "win64" fn assign_slot_resources(call: &Call<8>) -> NTSTATUS {
    let [_registry_path, class, driver, device, bus_type, bus, slot, allocated] = call.arguments;
    let (bus_type, bus, slot) = (bus_type as u32, bus as u32, slot as u32);
    let function = bus::function_at(bus, slot).filter(|_| bus_type == INTERFACE_TYPE_PCI_BUS);
    let Some(function) = function else { return STATUS_NO_SUCH_DEVICE };
    let mut listed = Vec::new();
    for bar in function.bars.iter().flatten() {
        let (Some(start), Ok(length)) = (bar.start, u32::try_from(bar.length)) else { continue };
        let (resource, flags) = match bar.space {
            Space::Ports => (Resource::Ports { start, length }, CM_RESOURCE_PORT_IO),
            Space::Memory | Space::WideMemory => (Resource::Memory { start, length }, 0),
        };
        listed.push(listed_of(Claim { resource, shared: false }, flags));
    }
    if let Some(line) = pci::line_of(function) {
        listed.push(listed_of(Claim { resource: Resource::Line(line.into()), shared: true }, 0));
    }
    // SAFETY: the caller's objects.
    let (driver, device) = unsafe { claimer(driver, device) };
    let asker = Asker { driver, device, class, bus: (bus_type, bus), caller: call.caller };
    // SAFETY: the caller's objects and storage.
    unsafe { asker.take(&listed, core::ptr::with_exposed_provenance_mut(allocated)) }
}

export! {
    /// *IoAssignResources function (ntddk.h)*: the first list of requirements that can be fulfilled, each wish at its
    /// first free place; without requirements, what was assigned is given back. The list is the driver's to free.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoAssignResources(
        registry_path: *mut UNICODE_STRING,
        class: *mut UNICODE_STRING,
        driver: *mut DRIVER_OBJECT,
        device: *mut DEVICE_OBJECT,
        requirements: *mut IO_RESOURCE_REQUIREMENTS_LIST,
        allocated: *mut *mut CM_RESOURCE_LIST,
    ) -> NTSTATUS {
        with_caller!(assign_resources)
    }
}

export! { in HAL;
    /// *HalAssignSlotResources function (ntddk.h)*: what a PCI function has, which nobody else claims; a function that
    /// belongs to a function driver is that one's. The list is the driver's to free.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn HalAssignSlotResources(
        registry_path: *mut UNICODE_STRING,
        class: *mut UNICODE_STRING,
        driver: *mut DRIVER_OBJECT,
        device: *mut DEVICE_OBJECT,
        bus_type: u32,
        bus: u32,
        slot: u32,
        allocated: *mut *mut CM_RESOURCE_LIST,
    ) -> NTSTATUS {
        with_caller!(assign_slot_resources)
    }
}
