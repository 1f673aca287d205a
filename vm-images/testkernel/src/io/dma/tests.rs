//! DMA with a device: QEMU's `edu`, which copies between memory and a buffer of its own. And without one, where it is
//! the copying of ours that matters.

use super::*;
use crate::hal::clock;
use crate::io::{device, mdl, selftest};
use crate::mm::paging;
use crate::nt::{
    DriverListControl, IRP, KEEP_OBJECT, NTSTATUS, SCATTER_GATHER_ELEMENT, SCATTER_GATHER_LIST,
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS,
};
use crate::selftest::cards::{Card, edu};
use crate::selftest::{check, kernel_test};
use core::sync::atomic::{AtomicUsize, Ordering};

const DESCRIPTION: DEVICE_DESCRIPTION = DEVICE_DESCRIPTION {
    Version: 2,
    Master: 1,
    ScatterGather: 1,
    DemandMode: 0,
    AutoInitialize: 0,
    Dma32BitAddresses: 1,
    IgnoreCount: 0,
    Reserved1: 0,
    Dma64BitAddresses: 0,
    BusNumber: 0,
    DmaChannel: 0,
    InterfaceType: INTERFACE_TYPE_PCI_BUS,
    DmaWidth: 0,
    DmaSpeed: 0,
    MaximumLength: 0x1_0000,
    DmaPort: 0,
};
/// A card with the 24 address lines of ISA.
const ISA: DEVICE_DESCRIPTION = DEVICE_DESCRIPTION { Dma32BitAddresses: 0, InterfaceType: 1, ..DESCRIPTION };
/// A card that masters no bus.
const SLAVE: DEVICE_DESCRIPTION = DEVICE_DESCRIPTION { Master: 0, DmaChannel: 1, ..ISA };

fn get(description: &DEVICE_DESCRIPTION) -> (*mut DMA_ADAPTER, u32) {
    let mut registers = 0;
    // SAFETY: both are locals.
    (unsafe { IoGetDmaAdapter(core::ptr::null_mut(), description, &raw mut registers) }, registers)
}

/// Lets the card copy, and waits.
fn card_copies(card: &Card, from: u64, to: u64, count: usize, to_memory: bool) -> bool {
    card.registers.write_wide(edu::COPY_FROM, from);
    card.registers.write_wide(edu::COPY_TO, to);
    card.registers.write_wide(edu::COPY_COUNT, count as u64);
    card.registers.write_wide(edu::COPY_COMMAND, if to_memory { 3 } else { 1 });
    let end = clock::now_ns() + 3_000_000_000;
    while card.registers.read(edu::COPY_COMMAND) & 1 != 0 {
        if clock::now_ns() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

static BASE: AtomicUsize = AtomicUsize::new(0);
static ORDER: AtomicUsize = AtomicUsize::new(0);

unsafe extern "win64" fn control(_: *mut DEVICE_OBJECT, _: *mut IRP, base: PVOID, context: PVOID) -> u32 {
    BASE.store(base.addr(), Ordering::SeqCst);
    ORDER.store(ORDER.load(Ordering::SeqCst) * 10 + context.addr() / 10, Ordering::SeqCst);
    (context.addr() % 10) as u32
}

unsafe extern "win64" fn listed(
    _: *mut DEVICE_OBJECT,
    _: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    _: PVOID,
) {
    BASE.store(list.expose_provenance(), Ordering::SeqCst);
}

/// Pages above what an ISA card reaches, and a list of them.
fn high_buffer(pages: usize) -> Option<*mut u8> {
    let at = contiguous::allocate_within(pages * 4096, 16 << 20, u64::MAX, 0);
    (!at.is_null()).then_some(at.cast())
}

fn elements(list: usize) -> &'static [SCATTER_GATHER_ELEMENT] {
    let list = core::ptr::with_exposed_provenance::<SCATTER_GATHER_LIST>(list);
    // SAFETY: a list that was just made: its elements follow.
    unsafe { core::slice::from_raw_parts(list.add(1).cast(), (*list).NumberOfElements as usize) }
}

kernel_test! {
    /// *Allocating a common buffer*: processor and device see the same memory.
    fn a_common_buffer_is_seen_by_the_device() {
        // What other tests have left on purpose is not counted.
        let before = held_by(&(0..u64::MAX)).len();
        let Some(card) = Card::edu() else { return Ok(()) };
        let (adapter, registers) = get(&DESCRIPTION);
        check!(!adapter.is_null() && registers == 17);
        // SAFETY: the adapter's own table, and the buffer that it gave.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            let mut logical = 0;
            let buffer = (operations.AllocateCommonBuffer)(adapter, 8192, &raw mut logical, 1).cast::<u8>();
            check!(!buffer.is_null() && logical % 4096 == 0);
            check!(paging::physical(buffer.addr() as u64) == Some(logical.cast_unsigned()));
            let (inside, _) = edu::BUFFER;
            for offset in 0..256 {
                buffer.add(offset).write_volatile(offset as u8 ^ 0xA5);
            }
            check!(card_copies(&card, logical.cast_unsigned(), inside, 256, false));
            check!(card_copies(&card, inside, logical.cast_unsigned() + 4096, 256, true));
            check!((0..256).all(|offset| buffer.add(4096 + offset).read_volatile() == offset as u8 ^ 0xA5));
            let all = held_by(&(0..u64::MAX));
            check!(all.iter().any(|held| held.kind == FindingKind::CommonBufferLeft));
            check!(all.iter().any(|held| held.kind == FindingKind::DmaAdapterLeft));
            (operations.FreeCommonBuffer)(adapter, 8192, logical, buffer.cast(), 1);
            (operations.PutDmaAdapter)(adapter);
            check!(held_by(&(0..u64::MAX)).len() == before);
        }
    }

    /// *IoGetDmaAdapter function (wdm.h)*: null for what cannot be had.
    fn what_cannot_be_had_has_no_adapter() {
        check!(get(&DEVICE_DESCRIPTION { Master: 0, ..DESCRIPTION }).0.is_null());
        check!(get(&DEVICE_DESCRIPTION { DmaChannel: 4, DmaWidth: 1, ..SLAVE }).0.is_null());
        check!(get(&DEVICE_DESCRIPTION { DmaChannel: 5, ..SLAVE }).0.is_null());
        check!(get(&DEVICE_DESCRIPTION { Version: 3, ..DESCRIPTION }).0.is_null());
    }

    /// *Using System DMA*: one part after the other, each within what the channel counts; the channel is one device's at a time,
    /// whatever adapter it has.
    fn a_channel_of_the_systems_controller_is_told_of_every_part() {
        let (adapter, registers) = get(&SLAVE);
        let (other, _) = get(&SLAVE);
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        let at = contiguous::allocate_within(0x8000, 0x1F_C000, 16 << 20, 0);
        check!(!adapter.is_null() && registers == 16 && !other.is_null() && !at.is_null());
        let Some(start) = paging::physical(at.addr() as u64) else { check!(false); return Ok(()) };
        let high = high_buffer(3);
        // SAFETY: the adapter's own table, a driver and a device of this test's, lists of memory that is there.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            let Some(list) = mdl::describe(at.addr(), 0x8000, mdl::Access::Write, 0) else { check!(false); return Ok(()) };
            let list = list.as_ptr();
            ORDER.store(0, Ordering::SeqCst);
            let context = |number: usize| core::ptr::without_provenance_mut(number * 10 + KEEP_OBJECT as usize);
            let channel = operations.AllocateAdapterChannel;
            check!(channel(adapter, device, 4, Some(control), context(1)) == STATUS_SUCCESS);
            let base = core::ptr::without_provenance_mut(BASE.load(Ordering::SeqCst));
            check!(channel(other, device, 4, Some(control), context(2)) == STATUS_SUCCESS);
            check!(ORDER.load(Ordering::SeqCst) == 1);
            let mut done = 0;
            while done < 0x8000 {
                let mut length = 0x8000 - done;
                let current = at.wrapping_byte_add(done as usize);
                let seen = (operations.MapTransfer)(adapter, list, base, current, &raw mut length, 1) as u64;
                check!(seen == start + u64::from(done) && length > 0);
                check!(seen >> 16 == (seen + u64::from(length) - 1) >> 16);
                check!((operations.ReadDmaCounter)(adapter) == length);
                check!((operations.FlushAdapterBuffers)(adapter, list, base, current, length, 1) == 1);
                done += length;
            }
            mdl::release(list);
            if let Some(high) = high {
                let described = mdl::describe(high.addr(), 0x3000, mdl::Access::Write, 0);
                let Some(list) = described else { check!(false); return Ok(()) };
                let list = list.as_ptr();
                high.write_bytes(0x77, 0x3000);
                let mut length = 0x3000;
                let seen = (operations.MapTransfer)(adapter, list, base, high.cast(), &raw mut length, 0) as u64;
                check!(length == 0x3000 && seen + 0x3000 <= 16 << 20 && seen >> 16 == (seen + 0x2FFF) >> 16);
                // No device asked: nothing was transferred, and nothing is copied.
                check!((operations.FlushAdapterBuffers)(adapter, list, base, high.cast(), length, 0) == 1);
                check!((0..0x3000).all(|offset| high.add(offset).read() == 0x77));
                mdl::release(list);
                contiguous::free(high.cast());
            }
            (operations.FreeAdapterChannel)(adapter);
            check!(ORDER.load(Ordering::SeqCst) == 12);
            (operations.FreeAdapterChannel)(other);
            let mut logical = 0;
            let buffer = (operations.AllocateCommonBuffer)(adapter, 0x9000, &raw mut logical, 0);
            check!(!buffer.is_null() && logical >> 16 == (logical + 0x8FFF) >> 16);
            (operations.FreeCommonBuffer)(adapter, 0x9000, logical, buffer, 0);
            (operations.PutDmaAdapter)(adapter);
            (operations.PutDmaAdapter)(other);
            contiguous::free(at);
            device::delete(device);
        }
        selftest::stop(driver)?;
    }

    /// *Using MapTransfer* and *FlushAdapterBuffers*: a device gets at memory beyond its reach by map registers, and what
    /// it wrote is in the buffer once it was flushed, not before.
    fn a_transfer_beyond_the_devices_reach_goes_through_map_registers() {
        let before = held_by(&(0..u64::MAX)).len();
        let (adapter, registers) = get(&ISA);
        let Some(buffer) = high_buffer(3) else { check!(false); return Ok(()) };
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        check!(!adapter.is_null() && registers == 17);
        let at = buffer.addr() + 0x100;
        let Some(list) = mdl::describe(at, 0x2000, mdl::Access::Write, 0) else { check!(false); return Ok(()) };
        let list = list.as_ptr();
        // SAFETY: everything is this test's own.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            let keep_registers = core::ptr::without_provenance_mut(13);
            let allocate = operations.AllocateAdapterChannel;
            check!(allocate(adapter, device, 18, Some(control), keep_registers) == STATUS_INSUFFICIENT_RESOURCES);
            check!(allocate(adapter, device, 3, Some(control), keep_registers) == STATUS_SUCCESS);
            let base: PVOID = core::ptr::with_exposed_provenance_mut(BASE.load(Ordering::SeqCst));
            buffer.add(0x100).write_bytes(0x11, 0x2000);
            let current = core::ptr::with_exposed_provenance_mut(at);
            let mut length = 0x2000;
            let logical = (operations.MapTransfer)(adapter, list, base, current, &raw mut length, 1) as u64;
            check!(length == 0x2000 && logical + 0x2000 <= 16 << 20 && logical % 4096 == 0x100);
            let seen = frame::Frame::containing(logical).direct().add(0x100);
            check!(seen.read_volatile() == 0x11 && seen.add(0x1FFF).read_volatile() == 0x11);
            (operations.FlushAdapterBuffers)(adapter, list, base, current, length, 1);
            // The other way: the device writes, and the buffer has it after the flush.
            let again = (operations.MapTransfer)(adapter, list, base, current, &raw mut length, 0) as u64;
            check!(again == logical && length == 0x2000);
            seen.write_bytes(0x22, 0x2000);
            check!(buffer.add(0x100).read_volatile() == 0x11);
            (operations.FlushAdapterBuffers)(adapter, list, base, current, length, 0);
            check!((0x100..0x2100).all(|offset| buffer.add(offset).read_volatile() == 0x22));
            (operations.FreeMapRegisters)(adapter, base, 3);
            (operations.PutDmaAdapter)(adapter);
            check!(held_by(&(0..u64::MAX)).len() == before);
            mdl::release(list);
            contiguous::free(buffer.cast());
            device::delete(device);
        }
        selftest::stop(driver)?;
    }

    /// *AllocateAdapterChannel*: one device at a time; the others in the order in which they asked.
    fn devices_take_turns_with_an_adapter() {
        let before = held_by(&(0..u64::MAX)).len();
        let (adapter, _) = get(&DESCRIPTION);
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        ORDER.store(0, Ordering::SeqCst);
        // SAFETY: everything is this test's own.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            // The context's last digit is what the routine returns.
            let ask = |context: usize| {
                let context = core::ptr::without_provenance_mut(context);
                (operations.AllocateAdapterChannel)(adapter, device, 1, Some(control), context)
            };
            check!(ask(10 + KEEP_OBJECT as usize) == STATUS_SUCCESS);
            check!(ask(22) == STATUS_SUCCESS && ask(30 + KEEP_OBJECT as usize) == STATUS_SUCCESS);
            check!(ORDER.load(Ordering::SeqCst) == 1);
            (operations.FreeAdapterChannel)(adapter);
            check!(ORDER.load(Ordering::SeqCst) == 123);
            (operations.FreeAdapterChannel)(adapter);
            check!(ask(42) == STATUS_SUCCESS && ORDER.load(Ordering::SeqCst) == 1234);
            (operations.PutDmaAdapter)(adapter);
            check!(held_by(&(0..u64::MAX)).len() == before);
            device::delete(device);
        }
        selftest::stop(driver)?;
    }

    /// *GetScatterGatherList* and *BuildScatterGatherList*: the pieces of the buffer in order, none beyond the device's
    /// reach; the card writes to each, and the buffer has it.
    fn a_list_has_every_piece_of_the_buffer() {
        let before = held_by(&(0..u64::MAX)).len();
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        let Some(buffer) = high_buffer(4) else { check!(false); return Ok(()) };
        let at = buffer.addr() + 0x800;
        let Some(list) = mdl::describe(at, 0x2000, mdl::Access::Write, 0) else { check!(false); return Ok(()) };
        let list = list.as_ptr();
        let card = Card::edu();
        if let Some(card) = &card {
            // What the card holds from other tests may be what is looked for below.
            // SAFETY: four pages of this test's own.
            unsafe { buffer.write_bytes(0, 4 * 4096) };
            let (inside, most) = edu::BUFFER;
            let physical = paging::physical(buffer.addr() as u64);
            check!(physical.is_some_and(|physical| card_copies(card, physical, inside, most, false)));
        }
        for description in [&DESCRIPTION, &ISA] {
            let (adapter, _) = get(description);
            check!(!adapter.is_null());
            // SAFETY: everything is this test's own.
            unsafe {
                let operations = &*(*adapter).DmaOperations;
                let routine: Option<DriverListControl> = Some(listed);
                let current: PVOID = core::ptr::with_exposed_provenance_mut(at);
                let (mut size, mut registers) = (0, 0);
                let calculate = operations.CalculateScatterGatherList;
                check!(calculate(adapter, list, current, 0x2000, &raw mut size, &raw mut registers) == STATUS_SUCCESS);
                check!(size as usize >= 16 + 3 * 24 && registers == 3);
                buffer.write_bytes(0x33, 4 * 4096);
                let get = operations.GetScatterGatherList;
                let status: NTSTATUS =
                    get(adapter, device, list, current, 0x2000, routine, core::ptr::null_mut(), 0);
                check!(status == STATUS_SUCCESS);
                let made = BASE.load(Ordering::SeqCst);
                let pieces = elements(made);
                check!(pieces.iter().map(|piece| piece.Length).sum::<u32>() == 0x2000);
                let limit = if description.Dma32BitAddresses != 0 { 1 << 32 } else { 1 << 24 };
                check!(pieces.iter().all(|piece| piece.Address as u64 + u64::from(piece.Length) <= limit));
                let mut target = core::ptr::null_mut();
                let made_list = core::ptr::with_exposed_provenance_mut(made);
                let build_mdl = operations.BuildMdlFromScatterGatherList;
                check!(build_mdl(adapter, made_list, list, &raw mut target) == STATUS_SUCCESS);
                check!((target == list) == (description.Dma32BitAddresses != 0));
                if let Some(card) = &card {
                    for piece in pieces {
                        // No more at once than its buffer holds.
                        let (inside, most) = edu::BUFFER;
                        for done in (0..piece.Length as usize).step_by(most) {
                            let count = most.min(piece.Length as usize - done);
                            check!(card_copies(card, inside, piece.Address as u64 + done as u64, count, true));
                        }
                    }
                    check!(card_copies(card, pieces[0].Address as u64, edu::BUFFER.0, 16, false));
                } else {
                    for piece in pieces {
                        let physical = piece.Address as u64;
                        let seen = frame::Frame::containing(physical).direct().add((physical % 4096) as usize);
                        seen.write_bytes(0, piece.Length as usize);
                    }
                }
                (operations.PutScatterGatherList)(adapter, made_list, 0);
                check!((0x800..0x2800).all(|offset| buffer.add(offset).read_volatile() != 0x33));
                check!(buffer.add(0x7FF).read_volatile() == 0x33 && buffer.add(0x2800).read_volatile() == 0x33);
                let mut room = [0u64; 32];
                let mut build = |bytes| (operations.BuildScatterGatherList)(
                    adapter, device, list, current, 0x2000, routine, core::ptr::null_mut(), 1,
                    room.as_mut_ptr().cast(), bytes,
                );
                check!(build(16) == STATUS_BUFFER_TOO_SMALL && build(256) == STATUS_SUCCESS);
                let made = BASE.load(Ordering::SeqCst);
                check!(elements(made).iter().map(|piece| piece.Length).sum::<u32>() == 0x2000);
                (operations.PutScatterGatherList)(adapter, core::ptr::with_exposed_provenance_mut(made), 1);
                (operations.PutDmaAdapter)(adapter);
                check!(held_by(&(0..u64::MAX)).len() == before);
            }
        }
        // SAFETY: everything is this test's own.
        unsafe {
            mdl::release(list);
            contiguous::free(buffer.cast());
            device::delete(device);
        }
        selftest::stop(driver)?;
    }
}
