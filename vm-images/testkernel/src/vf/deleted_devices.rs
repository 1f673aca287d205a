//! Device objects that were deleted, and who still touches them.
//!
//! A driver that deletes a device before it disconnects its interrupt has an ISR that reads what is not there. On Windows that
//! is ordinary pool, mostly unharmed for a while: nothing shows. So every device object has pages of its own here. When it
//! goes they are put out of reach, kept for a while as they were, and the first access to one is a finding, marked as
//! stricter than Windows. The access itself goes on, as it would there.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::ke::lock::SpinLock;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::paging::{self, Absent, Protection};
use crate::mm::region::{Region, Window};
use crate::selftest::{check, kernel_test};

/// How many deleted devices are kept.
const KEPT: usize = 32;
/// How many accesses are remembered until somebody asks.
const ACCESSES: usize = 32;

/// A device that was deleted.
struct Gone {
    region: Region,
    /// The image of its driver.
    image: u64,
}

struct Devices {
    live: BTreeMap<usize, Region>,
    gone: VecDeque<Gone>,
}

static DEVICES: SpinLock<Devices> = SpinLock::new(Devices { live: BTreeMap::new(), gone: VecDeque::new() });

/// Addresses touched and by whom; an address of 0 is a free place.
static TOUCHED: [(AtomicU64, AtomicU64); ACCESSES] =
    [const { (AtomicU64::new(0), AtomicU64::new(0)) }; ACCESSES];

/// Zeroed memory for a device object and its extension, `size` bytes.
pub fn allocate(size: usize) -> Option<NonNull<u8>> {
    let region = Region::map(Window::Dynamic, 0, size.div_ceil(PAGE_SIZE), Protection::ReadWrite)?;
    let pointer = region.pointer();
    DEVICES.lock().live.insert(pointer.addr().get(), region);
    Some(pointer)
}

/// The device in the memory at `address` is gone; its driver's image begins at `image`, 0 for the kernel's own.
pub fn release(address: usize, image: u64) {
    let Some(region) = DEVICES.lock().live.remove(&address) else { return };
    let range = region.base()..region.base() + region.bytes() as u64;
    paging::tables().hide(core::slice::from_ref(&range), Absent::DeletedDevice);
    let oldest = {
        let mut devices = DEVICES.lock();
        devices.gone.push_back(Gone { region, image });
        if devices.gone.len() > KEPT { devices.gone.pop_front() } else { None }
    };
    drop(oldest);
}

/// The code at `ip` touches a deleted device. At any IRQL; takes no lock.
pub fn touched(address: u64, ip: u64) {
    let place = TOUCHED.iter().find(|(touched, _)| {
        touched.compare_exchange(0, address, Ordering::AcqRel, Ordering::Acquire).is_ok()
    });
    if let Some((_, by)) = place {
        by.store(ip, Ordering::Release);
    }
}

/// One access to a deleted device.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Where the device object began.
    pub device: u64,
    /// How far behind that was touched.
    pub offset: u64,
    /// The instruction that did.
    pub by: u64,
}

/// The accesses to devices of the driver whose image begins at `image.start`, and to any by its code; each is told once.
pub fn accesses(image: &Range<u64>) -> Vec<Access> {
    let mut found = Vec::new();
    for (touched, by) in &TOUCHED {
        let (address, ip) = (touched.load(Ordering::Acquire), by.load(Ordering::Acquire));
        if address == 0 {
            continue;
        }
        let devices = DEVICES.lock();
        let holds = |gone: &&Gone| {
            let start = gone.region.base();
            (start..start + gone.region.bytes() as u64).contains(&address)
        };
        let Some(gone) = devices.gone.iter().rev().find(holds) else { continue };
        let device = gone.region.base();
        if gone.image == image.start || image.contains(&ip) {
            found.push(Access { device, offset: address - device, by: ip });
            touched.store(0, Ordering::Release);
        }
    }
    found
}

kernel_test! {
    fn a_deleted_device_keeps_its_contents_and_tells_who_touches_it() {
        let image = 0xFFFF_F8FD_0000_0000..0xFFFF_F8FD_0000_1000;
        let Some(device) = allocate(300) else { check!(false); return Ok(()) };
        let word = device.cast::<u64>();
        // SAFETY: the memory is 300 bytes, and stays readable after it is released: that is the point.
        unsafe {
            check!(word.add(5).read() == 0);
            word.add(5).write(0x1234);
            release(device.addr().get(), image.start);
            check!(!paging::is_present(device.addr().get() as u64));
            check!(word.add(5).read_volatile() == 0x1234);
        }
        let told = accesses(&image);
        check!(told.len() == 1 && told[0].device == device.addr().get() as u64 && told[0].offset == 40);
        check!(paging::kernel_text().contains(&told[0].by));
        check!(accesses(&image).is_empty());
    }

    fn deleted_devices_are_kept_for_a_while_and_no_longer() {
        let round = || {
            for _ in 0..2 * KEPT {
                if let Some(device) = allocate(5000) {
                    release(device.addr().get(), 0);
                }
            }
            crate::mm::frame::free_count()
        };
        round();
        let before = round();
        check!(round() + 1 >= before);
    }
}
