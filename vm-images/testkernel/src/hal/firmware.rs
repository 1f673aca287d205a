//! QEMU's firmware configuration device: what the machine says about itself, and the few files through which the
//! guest answers.
//!
//! Source: QEMU's *QEMU Firmware Configuration (fw_cfg) Device*. Items are read a byte at a time from a port; a
//! writable file is written by DMA, whole, and a large one is read so.

use alloc::vec::Vec;

use crate::arch::port;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::paging;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// The DMA registers, big-endian: the upper half first, the lower half starts it.
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;

const SIGNATURE: u16 = 0x00;
const FEATURES: u16 = 0x01;
const PROCESSOR_COUNT: u16 = 0x05;
const FILE_DIRECTORY: u16 = 0x19;

/// In [`FEATURES`]: there is a DMA interface.
const HAS_DMA: u32 = 1 << 1;
/// Files are looked through no further than this.
const MAX_FILES: u32 = 256;

const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;

/// `FWCfgDmaAccess`, all big-endian.
#[repr(C)]
struct DmaAccess {
    control: u32,
    length: u32,
    address: u64,
}

fn select(item: u16) {
    port::write_u16(SELECTOR, item);
}

fn next<const LEN: usize>() -> [u8; LEN] {
    core::array::from_fn(|_| port::read_u8(DATA))
}

fn read<const LEN: usize>(item: u16) -> [u8; LEN] {
    select(item);
    next()
}

fn is_present() -> bool {
    &read::<4>(SIGNATURE) == b"QEMU"
}

/// How many processors the machine has; 1 where nobody says.
pub fn processor_count() -> usize {
    if !is_present() {
        return 1;
    }
    usize::from(u16::from_le_bytes(read(PROCESSOR_COUNT))).max(1)
}

/// The item and the size of the file called `name`.
fn find_file(name: &str) -> Option<(u16, u32)> {
    if !is_present() {
        return None;
    }
    let count = u32::from_be_bytes(read(FILE_DIRECTORY)).min(MAX_FILES);
    for _ in 0..count {
        let size = u32::from_be_bytes(next());
        let item = u16::from_be_bytes(next());
        let _reserved = next::<2>();
        let text = next::<56>();
        let length = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        if &text[..length] == name.as_bytes() {
            return Some((item, size));
        }
    }
    None
}

/// Writes the whole of the file called `name`; false where there is no such file of that size, or the device
/// refuses.
pub fn write_file(name: &str, contents: &[u8]) -> bool {
    let Some((item, size)) = find_file(name) else { return false };
    has_dma() && size as usize == contents.len() && transfer(Some(item), DMA_WRITE, &raw const *contents)
}

/// The whole of the file called `name`; none where there is no such file of at most `most` bytes, no memory for it, or the device
/// refuses.
pub fn read_file(name: &str, most: usize) -> Option<Vec<u8>> {
    let (item, size) = find_file(name)?;
    let size = usize::try_from(size).ok().filter(|&size| size <= most && has_dma())?;
    let mut contents = Vec::new();
    contents.try_reserve_exact(size).ok()?;
    contents.resize(size, 0);
    // Page by page, as what is in one piece to the kernel need not be so in memory.
    let (mut rest, mut item) = (&mut contents[..], Some(item));
    while !rest.is_empty() {
        let in_page = PAGE_SIZE - rest.as_ptr().addr() % PAGE_SIZE;
        let (piece, behind) = rest.split_at_mut(in_page.min(rest.len()));
        if !transfer(item.take(), DMA_READ, &raw const *piece) {
            return None;
        }
        rest = behind;
    }
    Some(contents)
}

fn has_dma() -> bool {
    u32::from_le_bytes(read(FEATURES)) & HAS_DMA != 0
}

/// Reads into or writes from `piece`, which lies in one page: from the beginning of `item`, or on from where the transfer before it
/// ended. What is read the device writes there: then the piece is one that may be written.
fn transfer(item: Option<u16>, direction: u32, piece: *const [u8]) -> bool {
    let length = piece.len();
    let Some(address) = contiguous(piece.addr() as u64, length as u64) else { return false };
    let select = item.map_or(0, |item| u32::from(item) << 16 | DMA_SELECT);
    let access = DmaAccess {
        control: (select | direction).to_be(),
        length: (length as u32).to_be(),
        address: address.to_be(),
    };
    let at = core::ptr::from_ref(&access);
    let Some(physical) = contiguous(at.addr() as u64, size_of::<DmaAccess>() as u64) else { return false };
    port::write_u32(DMA_HIGH, ((physical >> 32) as u32).to_be());
    port::write_u32(DMA_LOW, (physical as u32).to_be());
    // SAFETY: `access` is alive, and the device writes nothing there but its control word. QEMU carries the transfer
    // out within the port write, so the word is final.
    let control = u32::from_be(unsafe { (&raw const (*at).control).read_volatile() });
    control & DMA_ERROR == 0
}

/// The physical address of `size` bytes that lie within a page.
fn contiguous(address: u64, size: u64) -> Option<u64> {
    let (first, last) = (paging::physical(address)?, paging::physical(address + size.checked_sub(1)?)?);
    (last - first == size - 1).then_some(first)
}
