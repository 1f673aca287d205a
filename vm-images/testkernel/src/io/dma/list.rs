//! Scatter/gather lists: all pieces of a buffer at once.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::finding_kind::FindingKind;
use squall_testkernel_pure::dma::{PAGE, Piece, pieces};

use super::channel::Copied;
use super::transfer::{copy, frames_from};
use super::{Adapter, Held, adapter};
use crate::ex::pool;
use crate::ke::lock::SpinLock;
use crate::mm::frame::{self, Frame};
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, DMA_ADAPTER, DriverListControl, MDL, MDL_PAGES_LOCKED, NTSTATUS, PVOID,
    SCATTER_GATHER_ELEMENT, SCATTER_GATHER_LIST, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

/// What is kept of a list.
struct List {
    owner: usize,
    copied: Vec<Copied>,
    stand_ins: Vec<Frame>,
    /// The list's own memory is the system's.
    is_ours: bool,
    /// A list of pages made of it.
    mdl: usize,
}

impl Drop for List {
    fn drop(&mut self) {
        self.stand_ins.drain(..).for_each(frame::release);
        if self.mdl != 0 {
            pool::free(self.mdl, 0);
        }
    }
}

static LISTS: SpinLock<BTreeMap<usize, List>> = SpinLock::new(BTreeMap::new());

const fn bytes(elements: usize) -> usize {
    size_of::<SCATTER_GATHER_LIST>() + elements * size_of::<SCATTER_GATHER_ELEMENT>()
}

/// The most elements that a buffer can take, one for each page that it touches.
fn pages_of(address: usize, length: u32) -> usize {
    (address % PAGE as usize + length as usize).div_ceil(PAGE as usize)
}

/// The pieces of a buffer that a chain of lists describes, as they lie in memory; pieces that the device reaches and
/// others are not merged. None where the chain is shorter than `length`.
///
/// # Safety
/// `mdl` must be a chain of complete lists.
unsafe fn pieces_of(adapter: &Adapter, mdl: *mut MDL, address: usize, length: u32) -> Option<Vec<Piece>> {
    let reached = |piece: Piece| adapter.reaches(piece.start, piece.length);
    let (mut mdl, mut address, mut left) = (mdl, address, u64::from(length));
    let mut found = Vec::new();
    while left > 0 && !mdl.is_null() {
        // SAFETY: the caller's contract.
        unsafe {
            let (frames, offset) = frames_from(mdl, address)?;
            let end = (*mdl).StartVa.addr() + (*mdl).ByteOffset as usize + (*mdl).ByteCount as usize;
            let here = left.min((end - address) as u64);
            let of_list = pieces(frames.iter().copied(), offset, here, |a, b| reached(a) == reached(b));
            found.extend(of_list);
            left -= here;
            mdl = (*mdl).Next;
            if !mdl.is_null() {
                address = (*mdl).StartVa.addr() + (*mdl).ByteOffset as usize;
            }
        }
    }
    (left == 0 && length > 0).then_some(found)
}

/// Replaces what the device does not reach by pages that it does, one at a time.
fn replace(adapter: &Adapter, found: Vec<Piece>, list: &mut List, to_device: bool) -> Option<Vec<Piece>> {
    let mut elements = Vec::with_capacity(found.len());
    for piece in found {
        if adapter.reaches(piece.start, piece.length) {
            elements.push(piece);
            continue;
        }
        let (mut start, end) = (piece.start, piece.start + piece.length);
        while start < end {
            let length = (PAGE - start % PAGE).min(end - start);
            let page = frame::allocate_run(1, 1, adapter.limit)?;
            list.stand_ins.push(page);
            let stand_in = page.physical() + start % PAGE;
            if to_device {
                // SAFETY: both are memory; the page was free until now.
                unsafe { copy(start, stand_in, length) };
            }
            list.copied.push(Copied { original: start, stand_in, length });
            elements.push(Piece { start: stand_in, length });
            start += length;
        }
    }
    Some(elements)
}

/// Where a list is to be, in memory of the driver's or of the system's.
enum Place {
    Anywhere,
    There(PVOID, u32),
}

/// Everything that a request for a list says.
struct Wanted {
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    address: usize,
    length: u32,
    routine: Option<DriverListControl>,
    context: PVOID,
    to_device: bool,
}

/// # Safety
/// The lists, the device and the place must be valid.
unsafe fn make(adapter: *mut DMA_ADAPTER, wanted: &Wanted, place: Place) -> NTSTATUS {
    let (Some(known), Some(routine)) = (self::adapter(adapter), wanted.routine) else {
        return STATUS_INVALID_PARAMETER;
    };
    if known.slave.is_some() {
        return STATUS_NOT_SUPPORTED;
    }
    // SAFETY: the caller's contract.
    let found = unsafe { pieces_of(&known, wanted.mdl, wanted.address, wanted.length) };
    let Some(found) = found else { return STATUS_INVALID_PARAMETER };
    if known.may_copy() && pages_of(wanted.address, wanted.length) > known.registers as usize {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let is_ours = matches!(place, Place::Anywhere);
    let mut list = List { owner: known.owner, copied: Vec::new(), stand_ins: Vec::new(), is_ours, mdl: 0 };
    let Some(elements) = replace(&known, found, &mut list, wanted.to_device) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let size = bytes(elements.len());
    let at = match place {
        Place::There(_, room) if (room as usize) < size => return STATUS_BUFFER_TOO_SMALL,
        Place::There(at, _) => at.cast::<SCATTER_GATHER_LIST>(),
        Place::Anywhere => match pool::allocate_zeroed(size, *b"DmaS") {
            Some(block) => block.as_ptr().cast(),
            None => return STATUS_INSUFFICIENT_RESOURCES,
        },
    };
    // SAFETY: there is room for the header and the elements; the driver's device and routine.
    unsafe {
        at.write(SCATTER_GATHER_LIST { NumberOfElements: elements.len() as u32, Reserved: 0 });
        let first = at.add(1).cast::<SCATTER_GATHER_ELEMENT>();
        for (index, piece) in elements.iter().enumerate() {
            let (address, length) = (piece.start.cast_signed(), piece.length as u32);
            first.add(index).write(SCATTER_GATHER_ELEMENT { Address: address, Length: length, Reserved: 0 });
        }
        LISTS.lock().insert(at.expose_provenance(), list);
        routine(wanted.device, (*wanted.device).CurrentIrp, at, wanted.context);
    }
    STATUS_SUCCESS
}

/// *PGET_SCATTER_GATHER_LIST callback function (wdm.h)*: at DISPATCH_LEVEL; the routine is called at once, as map
/// registers are never waited for here.
pub unsafe extern "win64" fn get(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    current: PVOID,
    length: u32,
    routine: Option<DriverListControl>,
    context: PVOID,
    to_device: BOOLEAN,
) -> NTSTATUS {
    let address = current.addr();
    let wanted = Wanted { device, mdl, address, length, routine, context, to_device: to_device != 0 };
    // SAFETY: as promised by the caller.
    unsafe { make(adapter, &wanted, Place::Anywhere) }
}

/// *PBUILD_SCATTER_GATHER_LIST callback function (wdm.h)*: the same in memory of the driver's, which may be too small.
pub unsafe extern "win64" fn build(
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
    let address = current.addr();
    let wanted = Wanted { device, mdl, address, length, routine, context, to_device: to_device != 0 };
    // SAFETY: as promised by the caller.
    unsafe { make(adapter, &wanted, Place::There(buffer, room)) }
}

/// *PPUT_SCATTER_GATHER_LIST callback function (wdm.h)*: after a read, what stood in is copied to the buffer; the list is
/// gone.
pub unsafe extern "win64" fn put(_: *mut DMA_ADAPTER, list: *mut SCATTER_GATHER_LIST, to_device: BOOLEAN) {
    let Some(kept) = LISTS.lock().remove(&list.addr()) else { return };
    for part in kept.copied.iter().filter(|_| to_device == 0) {
        // SAFETY: both were memory when the list was made, and the driver keeps its buffer until now.
        unsafe { copy(part.stand_in, part.original, part.length) };
    }
    if kept.is_ours {
        pool::free(list.addr(), 0);
    }
}

/// *PCALCULATE_SCATTER_GATHER_LIST_SIZE callback function (wdm.h)*: the most that a list of the buffer can take.
pub unsafe extern "win64" fn calculate(
    adapter: *mut DMA_ADAPTER,
    mdl: *mut MDL,
    current: PVOID,
    length: u32,
    size: *mut u32,
    registers: *mut u32,
) -> NTSTATUS {
    if self::adapter(adapter).is_none() {
        return STATUS_INVALID_PARAMETER;
    }
    let mut pages = pages_of(current.addr(), length);
    // SAFETY: the caller gives a chain of lists or null, and storage for the answers.
    unsafe {
        // Of a chain, each list begins on a page of its own.
        let mut next = mdl.as_ref().map_or(core::ptr::null_mut(), |mdl| mdl.Next);
        while let Some(list) = next.as_ref() {
            pages += 1 + usize::from(list.ByteOffset != 0);
            next = list.Next;
        }
        size.write(bytes(pages) as u32);
        if !registers.is_null() {
            registers.write(pages as u32);
        }
    }
    STATUS_SUCCESS
}

/// *PBUILD_MDL_FROM_SCATTER_GATHER_LIST callback function (wdm.h)*: the original list where the device sees the original
/// pages, else one of the pages that it sees, which goes with the scatter/gather list.
pub unsafe extern "win64" fn build_mdl(
    _: *mut DMA_ADAPTER,
    list: *mut SCATTER_GATHER_LIST,
    original: *mut MDL,
    target: *mut *mut MDL,
) -> NTSTATUS {
    let mut lists = LISTS.lock();
    let Some(kept) = lists.get_mut(&list.addr()) else { return STATUS_INVALID_PARAMETER };
    // SAFETY: the caller's lists, complete; the new one's block has room for its numbers.
    unsafe {
        if kept.stand_ins.is_empty() {
            target.write(original);
            return STATUS_SUCCESS;
        }
        let first = list.add(1).cast::<SCATTER_GATHER_ELEMENT>();
        let elements = core::slice::from_raw_parts(first, (*list).NumberOfElements as usize);
        let mut frames: Vec<u64> = Vec::new();
        for element in elements {
            let start = element.Address.cast_unsigned();
            let end = start + u64::from(element.Length);
            for frame in start / PAGE..end.div_ceil(PAGE) {
                if frames.last() != Some(&frame) {
                    frames.push(frame);
                }
            }
        }
        let size = size_of::<MDL>() + frames.len() * 8;
        let (Ok(listed), Some(block)) = (i16::try_from(size), pool::allocate_zeroed(size, *b"DmaM")) else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        let mdl = block.as_ptr().cast::<MDL>();
        mdl.write(MDL {
            Next: core::ptr::null_mut(),
            Size: listed,
            MdlFlags: MDL_PAGES_LOCKED,
            MappedSystemVa: core::ptr::null_mut(),
            ByteOffset: elements.first().map_or(0, |first| (first.Address as u64 % PAGE) as u32),
            ByteCount: elements.iter().map(|element| element.Length).sum(),
            ..*original
        });
        frames.as_ptr().copy_to_nonoverlapping(mdl.add(1).cast(), frames.len());
        kept.mdl = mdl.expose_provenance();
        target.write(mdl);
    }
    STATUS_SUCCESS
}

/// Lists of drivers that still hold them.
pub(super) fn held_by(is_its: impl Fn(usize) -> bool, held: &mut Vec<Held>) {
    for (address, _) in LISTS.lock().iter().filter(|(_, list)| is_its(list.owner)) {
        held.push(Held {
            kind: FindingKind::ScatterGatherListLeft,
            object: format!("scatter/gather list 0x{address:x}"),
            detail: "PutScatterGatherList was not called".into(),
        });
    }
}
