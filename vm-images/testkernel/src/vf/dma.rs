//! DMA verification: what is taken of an adapter is given back, once, at the right level, and before the adapter.
//!
//! An adapter's routines are reached through its table and not by import; so a verified driver's adapters have a table
//! of the Verifier's, whose routines keep count and go on to the real ones.
//!
//! Source: *Bug Check 0xE6: DRIVER_VERIFIER_DMA_VIOLATION*. Not here: the checks of a buffer's surroundings (0x0F), which
//! would need another buffer than the driver's, and those of the system's own controller. What an adapter that is left
//! when the driver goes stops with (0x07 to 0x0A where something was taken of it, 0x11 else) is inferred: as for
//! PutDmaAdapter.

use alloc::collections::BTreeMap;
use core::ops::Range;
use core::ptr;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DMA_VIOLATION;

use super::dma_transfers::{Mapped, judge_bounds, judge_locked};
use super::stops::stop;
use super::thunk::intercept;
use crate::io::dma;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::nt::{
    BOOLEAN, DEALLOCATE_OBJECT, DEALLOCATE_OBJECT_KEEP_REGISTERS, DEVICE_DESCRIPTION, DEVICE_OBJECT,
    DMA_ADAPTER, DMA_OPERATIONS, DriverControl, DriverListControl, IRP, MDL, NTSTATUS, PHYSICAL_ADDRESS,
    PVOID, SCATTER_GATHER_LIST,
};
use crate::selftest::{check, kernel_test};

/// An execution routine that the channel is allocated for.
#[derive(Clone, Copy)]
struct Control {
    routine: DriverControl,
    context: usize,
    registers: u32,
}

/// What has been taken of an adapter.
struct Book {
    /// The code that asked for the adapter.
    owner: usize,
    maximum: u32,
    common: u32,
    channels: u32,
    registers: u32,
    lists_made: u32,
    lists_put: u32,
    control: Option<Control>,
    mapped: Mapped,
}

impl Book {
    /// What is not given back yet: 0x07 to 0x0A, and how much of it.
    fn left(&self) -> Option<(u64, u32)> {
        let lists = self.lists_made - self.lists_put;
        let counts = [(7, self.common), (8, self.channels), (9, self.registers), (0xA, lists)];
        counts.into_iter().find(|(_, count)| *count > 0)
    }
}

/// `DEVICE_DESCRIPTION_VERSION3`.
const HIGHEST_VERSION: u32 = 3;

static BOOKS: SpinLock<BTreeMap<usize, Book>> = SpinLock::new(BTreeMap::new());

/// Stops the system for an error of that number.
pub fn violation(what: u64, parameters: [u64; 3]) -> ! {
    let [second, third, fourth] = parameters;
    stop(DRIVER_VERIFIER_DMA_VIOLATION, [what, second, third, fourth])
}

/// 0x13: a routine for exactly this level.
fn exactly(level: Irql) {
    let now = irql::current();
    if now != level {
        violation(0x13, [1, level.0.into(), now.0.into()]);
    }
}

/// 0x13: a routine for this level at most.
fn at_most(level: Irql) {
    let now = irql::current();
    if now > level {
        violation(0x13, [2, level.0.into(), now.0.into()]);
    }
}

/// Does something with an adapter's book; 0x18 and 0x19 where there is none.
fn with_book<T>(adapter: *mut DMA_ADAPTER, action: impl FnOnce(&mut Book) -> T) -> T {
    let done = BOOKS.lock().get_mut(&adapter.addr()).map(action);
    done.unwrap_or_else(|| {
        if adapter.is_null() {
            violation(0x19, [0; 3]);
        }
        violation(0x18, [adapter.addr() as u64, 0, 0]);
    })
}

static OPERATIONS: DMA_OPERATIONS = DMA_OPERATIONS {
    PutDmaAdapter: put,
    AllocateCommonBuffer: allocate_common,
    FreeCommonBuffer: free_common,
    AllocateAdapterChannel: allocate_channel,
    FlushAdapterBuffers: flush,
    FreeAdapterChannel: free_channel,
    FreeMapRegisters: free_registers,
    MapTransfer: map,
    GetScatterGatherList: get_list,
    PutScatterGatherList: put_list,
    BuildScatterGatherList: build_list,
    ..dma::OPERATIONS_OF_ALL
};

const REAL: DMA_OPERATIONS = dma::OPERATIONS_OF_ALL;

unsafe extern "win64" fn put(adapter: *mut DMA_ADAPTER) {
    at_most(Irql::PASSIVE);
    if let Some((what, count)) = with_book(adapter, |book| book.left()) {
        violation(what, [adapter.addr() as u64, count.into(), 0]);
    }
    BOOKS.lock().remove(&adapter.addr());
    // SAFETY: the driver's adapter.
    unsafe { (REAL.PutDmaAdapter)(adapter) };
}

unsafe extern "win64" fn allocate_common(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
) -> PVOID {
    at_most(Irql::PASSIVE);
    with_book(adapter, |_| ());
    // SAFETY: the driver's arguments.
    let buffer = unsafe { (REAL.AllocateCommonBuffer)(adapter, length, logical, cached) };
    if !buffer.is_null() {
        with_book(adapter, |book| book.common += 1);
    }
    buffer
}

unsafe extern "win64" fn free_common(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: PHYSICAL_ADDRESS,
    buffer: PVOID,
    cached: BOOLEAN,
) {
    at_most(Irql::PASSIVE);
    let known = with_book(adapter, |book| {
        let known = dma::is_common_buffer(buffer.addr()) && book.common > 0;
        book.common -= u32::from(known);
        known
    });
    if !known {
        violation(3, [1, 0, 0]);
    }
    // SAFETY: the driver's arguments.
    unsafe { (REAL.FreeCommonBuffer)(adapter, length, logical, buffer, cached) };
}

unsafe extern "win64" fn allocate_channel(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    registers: u32,
    routine: Option<DriverControl>,
    context: PVOID,
) -> NTSTATUS {
    exactly(Irql::DISPATCH);
    let (channels, maximum) = with_book(adapter, |book| (book.channels, book.maximum));
    if channels > 0 {
        violation(0xB, [channels.into(), 0, 0]);
    }
    if registers > maximum {
        violation(0xC, [registers.into(), maximum.into(), 0]);
    }
    let Some(routine) = routine else {
        // SAFETY: the driver's arguments.
        return unsafe { (REAL.AllocateAdapterChannel)(adapter, device, registers, None, context) };
    };
    with_book(adapter, |book| {
        book.channels += 1;
        book.control = Some(Control { routine, context: context.expose_provenance(), registers });
    });
    // SAFETY: the driver's arguments, but for the routine, which goes on to the driver's.
    let status =
        unsafe { (REAL.AllocateAdapterChannel)(adapter, device, registers, Some(control), adapter.cast()) };
    if !status.is_success() {
        with_book(adapter, |book| book.channels -= 1);
    }
    status
}

/// Stands for the driver's execution routine.
unsafe extern "win64" fn control(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    base: PVOID,
    adapter: PVOID,
) -> u32 {
    let adapter: *mut DMA_ADAPTER = adapter.cast();
    let Some(asked) = with_book(adapter, |book| book.control) else { return DEALLOCATE_OBJECT };
    with_book(adapter, |book| book.registers += asked.registers);
    // SAFETY: the driver's routine, called as it asked.
    let action =
        unsafe { (asked.routine)(device, irp, base, ptr::with_exposed_provenance_mut(asked.context)) };
    with_book(adapter, |book| match action {
        DEALLOCATE_OBJECT => {
            book.channels = book.channels.saturating_sub(1);
            book.registers = book.registers.saturating_sub(asked.registers);
        }
        DEALLOCATE_OBJECT_KEEP_REGISTERS => book.channels = book.channels.saturating_sub(1),
        _ => {}
    });
    action
}

/// 0x10: map registers are given back when what is mapped with them is flushed.
fn judge_flushed(adapter: *mut DMA_ADAPTER) {
    let mapped = with_book(adapter, |book| book.mapped.count());
    if mapped > 0 {
        violation(0x10, [mapped as u64, 0, 0]);
    }
}

unsafe extern "win64" fn free_channel(adapter: *mut DMA_ADAPTER) {
    exactly(Irql::DISPATCH);
    judge_flushed(adapter);
    let held = with_book(adapter, |book| {
        let held = book.channels > 0;
        if held {
            book.channels -= 1;
            let registers = book.control.map_or(0, |control| control.registers);
            book.registers = book.registers.saturating_sub(registers);
        }
        held
    });
    if !held {
        violation(4, [1, 0, 0]);
    }
    // SAFETY: the driver's adapter.
    unsafe { (REAL.FreeAdapterChannel)(adapter) };
}

unsafe extern "win64" fn free_registers(adapter: *mut DMA_ADAPTER, base: PVOID, count: u32) {
    exactly(Irql::DISPATCH);
    let extra = with_book(adapter, |book| {
        let extra = count.saturating_sub(book.registers);
        book.registers -= count - extra;
        extra
    });
    if extra > 0 {
        violation(5, [extra.into(), 0, 0]);
    }
    judge_flushed(adapter);
    // SAFETY: the driver's arguments.
    unsafe { (REAL.FreeMapRegisters)(adapter, base, count) };
}

unsafe extern "win64" fn map(
    adapter: *mut DMA_ADAPTER,
    mdl: *mut MDL,
    base: PVOID,
    current: PVOID,
    length: *mut u32,
    to_device: BOOLEAN,
) -> PHYSICAL_ADDRESS {
    at_most(Irql::DISPATCH);
    with_book(adapter, |_| ());
    // SAFETY: the driver's arguments.
    unsafe {
        if length.as_ref().is_some_and(|length| *length == 0) {
            violation(0x21, [0; 3]);
        }
        judge_bounds(mdl, current);
        judge_locked(mdl);
        if let Some(length) = length.as_ref() {
            let (start, length) = (current.addr(), *length as usize);
            let overlap = with_book(adapter, |book| book.mapped.overlap(start, length));
            if let Some(mapped) = overlap {
                violation(0x1D, [start as u64, (start + length) as u64, mapped.max(start) as u64]);
            }
        }
        let address = (REAL.MapTransfer)(adapter, mdl, base, current, length, to_device);
        let mapped = length.as_ref().map_or(0, |length| *length as usize);
        with_book(adapter, |book| book.mapped.add(current.addr(), mapped));
        address
    }
}

unsafe extern "win64" fn flush(
    adapter: *mut DMA_ADAPTER,
    mdl: *mut MDL,
    base: PVOID,
    current: PVOID,
    length: u32,
    to_device: BOOLEAN,
) -> BOOLEAN {
    at_most(Irql::DISPATCH);
    // SAFETY: the driver's arguments.
    unsafe {
        judge_bounds(mdl, current);
        if !with_book(adapter, |book| book.mapped.flush()) {
            violation(0x20, [base.addr() as u64, current.addr() as u64, mdl.addr() as u64]);
        }
        (REAL.FlushAdapterBuffers)(adapter, mdl, base, current, length, to_device)
    }
}

#[allow(clippy::too_many_arguments, reason = "the routine that it stands for has as many")]
unsafe extern "win64" fn get_list(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    current: PVOID,
    length: u32,
    routine: Option<DriverListControl>,
    context: PVOID,
    to_device: BOOLEAN,
) -> NTSTATUS {
    exactly(Irql::DISPATCH);
    // SAFETY: the driver's list.
    unsafe {
        judge_bounds(mdl, current);
        judge_locked(mdl);
    }
    with_book(adapter, |book| book.lists_made += 1);
    // SAFETY: the driver's arguments.
    let status = unsafe {
        (REAL.GetScatterGatherList)(adapter, device, mdl, current, length, routine, context, to_device)
    };
    if !status.is_success() {
        with_book(adapter, |book| book.lists_made -= 1);
    }
    status
}

#[allow(clippy::too_many_arguments, reason = "the routine that it stands for has as many")]
unsafe extern "win64" fn build_list(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    current: PVOID,
    length: u32,
    routine: Option<DriverListControl>,
    context: PVOID,
    to_device: BOOLEAN,
    buffer: PVOID,
    room: u32,
) -> NTSTATUS {
    at_most(Irql::DISPATCH);
    // SAFETY: the driver's list.
    unsafe {
        judge_bounds(mdl, current);
        judge_locked(mdl);
    }
    with_book(adapter, |book| book.lists_made += 1);
    // SAFETY: the driver's arguments.
    let status = unsafe {
        let build = REAL.BuildScatterGatherList;
        build(adapter, device, mdl, current, length, routine, context, to_device, buffer, room)
    };
    if !status.is_success() {
        with_book(adapter, |book| book.lists_made -= 1);
    }
    status
}

unsafe extern "win64" fn put_list(
    adapter: *mut DMA_ADAPTER,
    list: *mut SCATTER_GATHER_LIST,
    to_device: BOOLEAN,
) {
    exactly(Irql::DISPATCH);
    let (made, put) = with_book(adapter, |book| (book.lists_made, book.lists_put));
    if put >= made {
        violation(6, [made.into(), (put + 1).into(), 0]);
    }
    with_book(adapter, |book| book.lists_put += 1);
    // SAFETY: the driver's arguments.
    unsafe { (REAL.PutScatterGatherList)(adapter, list, to_device) };
}

/// The image is about to go: what is left of its adapters stops the system.
pub fn before_image_goes(image: &Range<u64>) {
    let left = {
        let mut books = BOOKS.lock();
        let mine = || books.iter().filter(|(_, book)| image.contains(&(book.owner as u64)));
        // What an adapter has not given back says more than that it is still there.
        let found = mine().find(|(_, book)| book.left().is_some()).or_else(|| mine().next());
        let left = found.map(|(adapter, book)| (*adapter as u64, book.left()));
        books.retain(|_, book| !image.contains(&(book.owner as u64)));
        left
    };
    match left {
        None => {}
        Some((adapter, Some((what, count)))) => violation(what, [adapter, count.into(), 0]),
        Some((adapter, None)) => violation(0x11, [1, adapter, 0]),
    }
}

intercept! {
    for Dma;

    /// Gives the driver an adapter whose routines keep count.
    before fn IoGetDmaAdapter(
        site;
        device: *mut DEVICE_OBJECT,
        description: *const DEVICE_DESCRIPTION,
        registers: *mut u32,
    ) -> *mut DMA_ADAPTER {
        at_most(Irql::PASSIVE);
        // SAFETY: the driver's description.
        let version = unsafe { (*description).Version };
        if version > HIGHEST_VERSION {
            violation(0x25, [version.into(), 0, 0]);
        }
        // SAFETY: the driver's arguments.
        let adapter = unsafe { dma::create_for(description, registers, site.caller) };
        // SAFETY: the adapter is new, and nobody else has it.
        if let Some(made) = unsafe { adapter.as_mut() } {
            made.DmaOperations = &raw const OPERATIONS;
            // SAFETY: the driver's storage, just written to.
            let maximum = unsafe { registers.read() };
            let book = Book {
                owner: site.caller,
                maximum,
                common: 0,
                channels: 0,
                registers: 0,
                lists_made: 0,
                lists_put: 0,
                control: None,
                mapped: Mapped::new(),
            };
            BOOKS.lock().insert(adapter.addr(), book);
        }
        Some(adapter)
    }

    /// 0x1E: IoGetDmaAdapter took its place.
    before fn HalGetAdapter(site; description: *const DEVICE_DESCRIPTION, registers: *mut u32) -> *mut DMA_ADAPTER {
        violation(0x1E, [0; 3]);
    }
}

mod scenes {
    //! What drivers do with adapters.
    use super::{
        DEVICE_DESCRIPTION, DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS, PHYSICAL_ADDRESS, PVOID, ptr,
    };
    use crate::io::dma::IoGetDmaAdapter;
    use crate::nt::{DEVICE_DESCRIPTION_VERSION2, INTERFACE_TYPE_PCI_BUS};
    use crate::vf::rehearsal::{Driver, import};

    /// An adapter for a card that masters the bus.
    pub fn adapter(driver: Driver) -> *mut DMA_ADAPTER {
        let get = import!(driver, IoGetDmaAdapter:
            fn(*mut DEVICE_OBJECT, *const DEVICE_DESCRIPTION, *mut u32) -> *mut DMA_ADAPTER);
        // SAFETY: zeros are a description that is filled in here.
        let mut description: DEVICE_DESCRIPTION = unsafe { core::mem::zeroed() };
        description.Version = DEVICE_DESCRIPTION_VERSION2;
        description.Master = 1;
        description.Dma32BitAddresses = 1;
        description.InterfaceType = INTERFACE_TYPE_PCI_BUS;
        description.MaximumLength = 0x1000;
        let mut registers = 0;
        // SAFETY: both are locals.
        unsafe { get(ptr::null_mut(), &raw const description, &raw mut registers) }
    }

    fn operations(adapter: *mut DMA_ADAPTER) -> &'static DMA_OPERATIONS {
        // SAFETY: the table is a static, whether the adapter is still there or not.
        unsafe { &*(*adapter).DmaOperations }
    }

    /// A common buffer: its two addresses.
    pub fn common(adapter: *mut DMA_ADAPTER) -> (PVOID, PHYSICAL_ADDRESS) {
        let mut logical = 0;
        // SAFETY: the adapter is the scene's.
        let buffer =
            unsafe { (operations(adapter).AllocateCommonBuffer)(adapter, 0x1000, &raw mut logical, 0) };
        (buffer, logical)
    }

    pub fn free(adapter: *mut DMA_ADAPTER, (buffer, logical): (PVOID, PHYSICAL_ADDRESS)) {
        // SAFETY: as above; a second time is stopped.
        unsafe { (operations(adapter).FreeCommonBuffer)(adapter, 0x1000, logical, buffer, 0) };
    }

    pub fn free_channel(adapter: *mut DMA_ADAPTER) {
        // SAFETY: as above; the call is stopped.
        unsafe { (operations(adapter).FreeAdapterChannel)(adapter) };
    }

    pub fn free_registers(adapter: *mut DMA_ADAPTER) {
        // SAFETY: as above; the call is stopped.
        unsafe { (operations(adapter).FreeMapRegisters)(adapter, ptr::null_mut(), 3) };
    }

    pub fn put(adapter: *mut DMA_ADAPTER) {
        // SAFETY: as above.
        unsafe { (operations(adapter).PutDmaAdapter)(adapter) };
    }

    /// Gives an adapter up, and goes on to use it.
    pub fn put_twice(adapter: *mut DMA_ADAPTER) {
        let operations = operations(adapter);
        // SAFETY: as above; a second time is stopped before the adapter is looked at.
        unsafe {
            (operations.PutDmaAdapter)(adapter);
            (operations.PutDmaAdapter)(adapter);
        }
    }
}

kernel_test! {
    /// Values 0x03, 0x04, 0x05, 0x07, 0x11, 0x13, 0x18.
    fn what_is_taken_of_an_adapter_is_given_back_once_and_before_it() {
        use super::rehearsal::stop_of;
        use scenes::{adapter, common, free, free_channel, free_registers, put, put_twice};
        const DMA: u32 = super::classes::Class::Dma as u32;
        const E6: u32 = DRIVER_VERIFIER_DMA_VIOLATION;
        let what = |scene| match stop_of(DMA, scene) {
            Some((E6, [what, ..])) => what,
            _ => 0,
        };
        check!(stop_of(DMA, |driver| {
            let adapter = adapter(driver);
            free(adapter, common(adapter));
            put(adapter);
        }).is_none());
        let left = stop_of(DMA, |driver| {
            let adapter = adapter(driver);
            common(adapter);
            put(adapter);
        });
        check!(left.is_some_and(|(code, [what, adapter, count, _])| code == E6 && what == 7 && adapter != 0 && count == 1));
        check!(what(|driver| {
            let adapter = adapter(driver);
            let buffer = common(adapter);
            free(adapter, buffer);
            free(adapter, buffer);
        }) == 3);
        check!(what(|driver| {
            let adapter = adapter(driver);
            irql::raise(Irql::DISPATCH);
            free_channel(adapter);
        }) == 4);
        check!(what(|driver| {
            let adapter = adapter(driver);
            irql::raise(Irql::DISPATCH);
            free_registers(adapter);
        }) == 5);
        check!(stop_of(DMA, |driver| free_channel(adapter(driver))) == Some((E6, [0x13, 1, 2, 0])));
        check!(what(|driver| put_twice(adapter(driver))) == 0x18);
        // Left by the scenes that were stopped; to the Verifier their code is that of the driver.
        check!(what(|_| {
            // Whoever took it is a part of this kernel, wherever the linker has put it.
            before_image_goes(&crate::mm::paging::kernel_text());
        }) == 7);
        check!(what(|driver| {
            adapter(driver);
            // Whoever took it is a part of this kernel, wherever the linker has put it.
            before_image_goes(&crate::mm::paging::kernel_text());
        }) == 0x11);
    }
}
