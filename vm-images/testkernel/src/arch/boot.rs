//! The way into Rust, and what the boot loader said.
//!
//! QEMU's `-kernel` finds the PVH note in the image, loads the segments and jumps to the 32-bit entry.
//! `boot.s` turns on long mode and calls [`kernel_entry`] with the physical address of an `hvm_start_info`,
//! which tells where memory is and what the command line says. Everything of interest is copied here, since
//! that structure may lie in memory that the kernel is about to hand out.

use core::arch::global_asm;
use core::mem::size_of;

global_asm!(include_str!("boot.s"), options(att_syntax));

/// Where the first bytes of physical memory are visible: all of memory appears here, never executable.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;

/// How much the boot page tables show; what the loader hands over must lie below.
const BOOT_MAPPED: u64 = 1 << 30;

/// `hvm_start_info` as the Xen public headers give it (version 1, which added the memory map).
#[repr(C)]
#[derive(Clone, Copy)]
struct HvmStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

const HVM_START_MAGIC: u32 = 0x336e_c578;

#[repr(C)]
#[derive(Clone, Copy)]
struct HvmMemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// `XEN_HVM_MEMMAP_TYPE_RAM`.
const MEMORY_RAM: u32 = 1;

/// A piece of usable memory, by physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

const MAX_RANGES: usize = 16;
const MAX_COMMAND_LINE: usize = 512;

/// What the loader told, copied to safety.
#[derive(Debug, Clone)]
pub struct BootInfo {
    ranges: [MemoryRange; MAX_RANGES],
    range_count: usize,
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_len: usize,
}

impl BootInfo {
    /// Usable memory, in the loader's order.
    pub fn memory(&self) -> &[MemoryRange] {
        &self.ranges[..self.range_count]
    }

    /// Usable memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory().iter().map(|range| range.end - range.start).sum()
    }

    /// Whether the command line holds `word`, standing alone between spaces.
    pub fn has_word(&self, word: &str) -> bool {
        self.command_line[..self.command_line_len]
            .split(u8::is_ascii_whitespace)
            .any(|part| part == word.as_bytes())
    }
}

/// Reads a loader structure at a physical address, or nothing where the boot page tables do not reach it.
fn read_physical<T: Copy>(address: u64) -> Option<T> {
    let end = address.checked_add(size_of::<T>() as u64)?;
    if address == 0 || end > BOOT_MAPPED {
        return None;
    }
    let pointer = (DIRECT_MAP_BASE + address) as *const T;
    // SAFETY: the range lies in the first GiB, which the boot page tables map at DIRECT_MAP_BASE, and every
    // `T` used here is made of integers, for which any bytes are a value.
    Some(unsafe { pointer.read_unaligned() })
}

fn read_boot_info(start_info: u64) -> Option<BootInfo> {
    let info: HvmStartInfo = read_physical(start_info)?;
    if info.magic != HVM_START_MAGIC || info.version < 1 {
        return None;
    }
    let mut boot = BootInfo {
        ranges: [MemoryRange { start: 0, end: 0 }; MAX_RANGES],
        range_count: 0,
        command_line: [0; MAX_COMMAND_LINE],
        command_line_len: 0,
    };
    for index in 0..u64::from(info.memory_map_entries).min(128) {
        let entry: HvmMemoryMapEntry =
            read_physical(info.memory_map.checked_add(index * size_of::<HvmMemoryMapEntry>() as u64)?)?;
        let end = entry.address.saturating_add(entry.size);
        if entry.kind == MEMORY_RAM && boot.range_count < MAX_RANGES {
            boot.ranges[boot.range_count] = MemoryRange { start: entry.address, end };
            boot.range_count += 1;
        }
    }
    while info.command_line != 0 && boot.command_line_len < MAX_COMMAND_LINE {
        match read_physical::<u8>(info.command_line + boot.command_line_len as u64) {
            None | Some(0) => break,
            Some(byte) => boot.command_line[boot.command_line_len] = byte,
        }
        boot.command_line_len += 1;
    }
    (boot.range_count > 0).then_some(boot)
}

/// Called once, by `boot.s`.
#[unsafe(no_mangle)]
extern "C" fn kernel_entry(start_info: u64) -> ! {
    match read_boot_info(start_info) {
        Some(boot) => crate::kernel_main(&boot),
        None => {
            crate::console::print_unlocked(format_args!(
                "boot: no PVH start info at {start_info:#x}; start with -kernel\n"
            ));
            super::halt_forever()
        }
    }
}
