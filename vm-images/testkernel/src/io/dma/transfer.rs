//! Mapping a transfer: the part of a buffer that comes next becomes one stretch of addresses for the device.

use squall_testkernel_pure::dma::{PAGE, Piece, pieces};

use super::channel::{self, Copied, Registers};
use super::{Adapter, adapter};
use crate::ldr::export::export;
use crate::mm::frame::Frame;
use crate::nt::{BOOLEAN, DMA_ADAPTER, FALSE, MDL, PHYSICAL_ADDRESS, PVOID, TRUE};

/// The page frame numbers of a list from the page of `address` on, and where in that page it is; none where the list
/// does not reach it.
///
/// # Safety
/// `mdl` must be a complete list.
pub(super) unsafe fn frames_from(mdl: *const MDL, address: usize) -> Option<(&'static [u64], u64)> {
    // SAFETY: the caller's contract: the numbers follow the list.
    unsafe {
        let start = (*mdl).StartVa.addr();
        let end = start + (*mdl).ByteOffset as usize + (*mdl).ByteCount as usize;
        let pages = (end - start).div_ceil(PAGE as usize);
        let skipped = address.checked_sub(start)? / PAGE as usize;
        if address >= end {
            return None;
        }
        let frames = mdl.add(1).cast::<u64>();
        let frames = core::slice::from_raw_parts(frames.add(skipped), pages - skipped);
        Some((frames, (address % PAGE as usize) as u64))
    }
}

/// Copies memory by physical addresses.
///
/// # Safety
/// Both stretches must be memory, and not overlap.
pub(super) unsafe fn copy(from: u64, to: u64, length: u64) {
    let direct =
        |physical: u64| Frame::containing(physical).direct().wrapping_add((physical % PAGE) as usize);
    // SAFETY: the caller's contract; the direct map shows all memory in one piece.
    unsafe { direct(from).copy_to_nonoverlapping(direct(to), length as usize) };
}

impl Registers {
    /// Lets pages of these registers stand in for as much of a buffer as they have room for; gives where the device finds
    /// it, and how much that is.
    ///
    /// # Safety
    /// The frames must be memory.
    unsafe fn stand_in(
        &mut self,
        frames: &[u64],
        offset: u64,
        length: u64,
        to_device: bool,
    ) -> Option<(u64, u64)> {
        let first = self.pages?.physical() + u64::from(self.used) * PAGE + offset;
        let room = u64::from(self.count.checked_sub(self.used)?) * PAGE;
        let length = length.min(room.checked_sub(offset)?);
        let mut stand_in = first;
        for piece in pieces(frames.iter().copied(), offset, length, |_, _| true) {
            if to_device {
                // SAFETY: the caller's contract; the pages are these registers' own.
                unsafe { copy(piece.start, stand_in, piece.length) };
            }
            self.copied.push(Copied { original: piece.start, stand_in, length: piece.length });
            stand_in += piece.length;
        }
        self.used += (offset + length).div_ceil(PAGE) as u32;
        (stand_in > first).then_some((first, stand_in - first))
    }
}

/// As much of a buffer as lies together where the device reaches it, or what stands in for it.
///
/// # Safety
/// As for [`IoMapTransfer`].
unsafe fn map(
    adapter: &Adapter,
    frames: &[u64],
    offset: u64,
    base: PVOID,
    length: u64,
    to_device: bool,
) -> Option<(u64, u64)> {
    let boundary = adapter.slave.map_or(u64::MAX, |slave| slave.boundary());
    let length = length.min(boundary);
    let merges = |first: Piece, next: Piece| {
        let ends = next.start + next.length - 1;
        adapter.reaches(next.start, next.length) && first.start / boundary == ends / boundary
    };
    let piece = pieces(frames.iter().copied(), offset, length, merges).next()?;
    if adapter.reaches(piece.start, piece.length) {
        return Some((piece.start, piece.length));
    }
    // SAFETY: the caller's contract.
    channel::with_registers(base, |registers| unsafe {
        registers.stand_in(frames, offset, length, to_device)
    })?
}

export! { in HAL;
    /// *PMAP_TRANSFER callback function (wdm.h)*: the device's address of the buffer at `current`, and in Length how much of
    /// it lies there together; 0 of it where no map register is left. The system's controller transfers it when a device that has
    /// a channel of it asks.
    pub unsafe extern "win64" fn IoMapTransfer(
        adapter: *mut DMA_ADAPTER,
        mdl: *mut MDL,
        base: PVOID,
        current: PVOID,
        length: *mut u32,
        to_device: BOOLEAN,
    ) -> PHYSICAL_ADDRESS {
        // SAFETY: the caller's complete list and its length, which is within the list.
        unsafe {
            let mapped = self::adapter(adapter).zip(frames_from(mdl, current.addr())).and_then(|(adapter, place)| {
                let (frames, offset) = place;
                let mapped = map(&adapter, frames, offset, base, (*length).into(), to_device != 0)?;
                if let Some(slave) = adapter.slave {
                    slave.start(mapped.0, mapped.1, to_device != 0);
                }
                Some(mapped)
            });
            let (address, mapped) = mapped.unwrap_or((0, 0));
            length.write(mapped as u32);
            address.cast_signed()
        }
    }

    /// *PFLUSH_ADAPTER_BUFFERS callback function (wdm.h)*: after a read, what the device wrote to map registers is copied
    /// to the buffer; the registers are free for the next part. The system's controller is done, and only what it has transferred
    /// is copied. FALSE for an adapter that there is not.
    pub unsafe extern "win64" fn IoFlushAdapterBuffers(
        adapter: *mut DMA_ADAPTER,
        _mdl: *mut MDL,
        base: PVOID,
        _current: PVOID,
        _length: u32,
        to_device: BOOLEAN,
    ) -> BOOLEAN {
        let Some(known) = self::adapter(adapter) else { return FALSE };
        if let Some(slave) = known.slave {
            slave.stop();
        }
        channel::with_registers(base, |registers| {
            let copied: u64 = registers.copied.iter().map(|part| part.length).sum();
            let mut done = known.slave.map_or(copied, |slave| slave.done_of(copied));
            for part in registers.copied.drain(..).filter(|_| to_device == 0) {
                let length = part.length.min(done);
                // SAFETY: both were memory when they were mapped, and the driver keeps its buffer until now.
                unsafe { copy(part.stand_in, part.original, length) };
                done -= length;
            }
            registers.used = 0;
        });
        TRUE
    }
}
