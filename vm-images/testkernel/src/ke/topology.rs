//! How the processors belong together: one group, one node, a package and a core for each, and the caches that CPUID tells of.

use alloc::vec::Vec;

use super::group_affinity::GROUP_AFFINITY;
use super::processor::{self, PROCESSOR_NUMBER};
use super::rendezvous::KeIpiGenericCall;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, NTSTATUS, PVOID, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, TRUE,
};
use crate::selftest::{check, kernel_test};

/// `LOGICAL_PROCESSOR_RELATIONSHIP`.
mod relation {
    pub const CORE: u32 = 0;
    pub const NODE: u32 = 1;
    pub const CACHE: u32 = 2;
    pub const PACKAGE: u32 = 3;
    pub const GROUP: u32 = 4;
    pub const ALL: u32 = 0xFFFF;
}

/// Descriptions, one behind the other, each with its kind and size first.
struct Answer(Vec<u8>);

impl Answer {
    fn put(&mut self, kind: u32, parts: &[&[u8]]) {
        let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
        self.0.extend(kind.to_le_bytes());
        self.0.extend((size as u32).to_le_bytes());
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    /// `PROCESSOR_RELATIONSHIP`, or `NUMA_NODE_RELATIONSHIP` of node 0: 22 bytes that are 0, one group, its processors.
    fn processors(&mut self, kind: u32, mask: u64) {
        let groups: u16 = if kind == relation::NODE { 0 } else { 1 };
        self.put(kind, &[&[0; 22], &groups.to_le_bytes(), &affinity(mask)]);
    }
}

fn affinity(mask: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mask.to_le_bytes());
    bytes
}

/// A cache of the processor's, by *CPUID leaf 4*.
struct Cache {
    level: u8,
    /// `PROCESSOR_CACHE_TYPE`: unified, instructions, data.
    kind: u32,
    ways: u8,
    line: u16,
    bytes: u32,
    is_shared: bool,
}

fn caches() -> impl Iterator<Item = Cache> {
    /// More than any processor has.
    const MOST: u32 = 8;
    let highest = core::arch::x86_64::__cpuid(0).eax;
    let each = (0..MOST).map(|number| core::arch::x86_64::__cpuid_count(4, number));
    each.take_while(move |answer| highest >= 4 && answer.eax & 0x1F != 0).map(|answer| {
        let field = |shift: u32, bits: u32| (answer.ebx >> shift & ((1 << bits) - 1)) + 1;
        let (line, partitions, ways) = (field(0, 12), field(12, 10), field(22, 10));
        let sets = answer.ecx.saturating_add(1);
        Cache {
            level: (answer.eax >> 5 & 7) as u8,
            kind: match answer.eax & 0x1F {
                1 => 2,
                2 => 1,
                _ => 0,
            },
            // A way for each line of it is a fully associative cache: CACHE_FULLY_ASSOCIATIVE.
            ways: if answer.eax >> 9 & 1 != 0 { 0xFF } else { ways.min(0xFE) as u8 },
            line: line as u16,
            bytes: line.saturating_mul(partitions).saturating_mul(ways).saturating_mul(sets),
            is_shared: answer.eax >> 14 & 0xFFF != 0,
        }
    })
}

/// What there is of a kind, of all processors or of those in `of`.
fn describe(kind: u32, of: u64) -> Vec<u8> {
    let mut answer = Answer(Vec::new());
    let is = |other| kind == other || kind == relation::ALL;
    let (all, count) = (processor::all_mask(), processor::count());
    let each = || (0..count).map(|number| 1_u64 << number).filter(|mask| mask & of != 0);
    for single in [relation::CORE, relation::PACKAGE] {
        if is(single) {
            each().for_each(|mask| answer.processors(single, mask));
        }
    }
    if is(relation::CACHE) {
        for cache in caches() {
            let sets: Vec<u64> = if cache.is_shared { Vec::from([all]) } else { each().collect() };
            for mask in sets {
                let Cache { level, kind, ways, line, bytes, .. } = cache;
                let parts: [&[u8]; 6] = [
                    &[level, ways],
                    &line.to_le_bytes(),
                    &bytes.to_le_bytes(),
                    &kind.to_le_bytes(),
                    &[0; 20],
                    &affinity(mask),
                ];
                answer.put(relation::CACHE, &parts);
            }
        }
    }
    if is(relation::NODE) {
        answer.processors(relation::NODE, all);
    }
    if is(relation::GROUP) {
        let (one, processors) = (1_u16.to_le_bytes(), count as u8);
        answer.put(
            relation::GROUP,
            &[&one, &one, &[0; 20], &[processors, processors], &[0; 38], &all.to_le_bytes()],
        );
    }
    answer.0
}

unsafe extern "win64" fn write_back(_: usize) -> usize {
    // SAFETY: takes time, and changes nothing that a program sees.
    unsafe { core::arch::asm!("wbinvd") };
    0
}

export! {
    /// *KeQueryNodeActiveAffinity function (wdm.h)*: the processors of a node; none of one that there is not.
    pub unsafe extern "win64" fn KeQueryNodeActiveAffinity(node: u16, set: *mut GROUP_AFFINITY, count: *mut u16) {
        let (mask, number) = if node == 0 { (processor::all_mask(), processor::count()) } else { (0, 0) };
        // SAFETY: the caller gives storage, or null.
        unsafe {
            if !set.is_null() {
                set.write(GROUP_AFFINITY::of(mask));
            }
            if !count.is_null() {
                count.write(number as u16);
            }
        }
    }

    /// *KeQueryNodeMaximumProcessorCount function (wdm.h)*: none is ever added; 0 of a node that there is not.
    pub unsafe extern "win64" fn KeQueryNodeMaximumProcessorCount(node: u16) -> u16 {
        if node == 0 { processor::count() as u16 } else { 0 }
    }

    /// *KeQueryLogicalProcessorRelationship function (wdm.h)*: STATUS_INFO_LENGTH_MISMATCH, and the length that it takes, where the buffer
    /// is too small; STATUS_INVALID_PARAMETER for a processor or a kind that there is not.
    pub unsafe extern "win64" fn KeQueryLogicalProcessorRelationship(
        number: *const PROCESSOR_NUMBER,
        kind: u32,
        information: *mut u8,
        length: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's, or null.
        let of = match unsafe { number.as_ref() } {
            None => u64::MAX,
            Some(&PROCESSOR_NUMBER { group: 0, number, .. }) if usize::from(number) < processor::count() => 1 << number,
            Some(_) => return STATUS_INVALID_PARAMETER,
        };
        if kind > relation::GROUP && kind != relation::ALL {
            return STATUS_INVALID_PARAMETER;
        }
        let answer = describe(kind, of);
        // SAFETY: the caller's.
        unsafe {
            let room = length.read() as usize;
            length.write(answer.len() as u32);
            if room < answer.len() {
                return STATUS_INFO_LENGTH_MISMATCH;
            }
            information.copy_from_nonoverlapping(answer.as_ptr(), answer.len());
        }
        STATUS_SUCCESS
    }

    /// *KeGetRecommendedSharedDataAlignment function (wdm.h)*: so that what one processor writes is on no line of the caches that another wants.
    pub unsafe extern "win64" fn KeGetRecommendedSharedDataAlignment() -> u32 {
        64
    }

    /// *KeInvalidateAllCaches function (wdm.h)*: on every processor, written back first. TRUE.
    pub unsafe extern "win64" fn KeInvalidateAllCaches() -> BOOLEAN {
        // SAFETY: the routine may run on any processor at any IRQL.
        unsafe { KeIpiGenericCall(write_back, 0) };
        TRUE
    }

    /// *KeInvalidateRangeAllCaches function (wdm.h)*: the lines of a range, which all processors forget as one does.
    pub unsafe extern "win64" fn KeInvalidateRangeAllCaches(base: PVOID, length: u32) {
        const LINE: usize = 64;
        let start = base.addr() & !(LINE - 1);
        for line in (start..base.addr().saturating_add(length as usize)).step_by(LINE) {
            // SAFETY: the caller's memory; it keeps its contents.
            unsafe { core::arch::asm!("clflush [{}]", in(reg) line) };
        }
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    /// *KeQueryDpcWatchdogInformation function (wdm.h)*: all 0: no limit is on. STATUS_UNSUCCESSFUL below DISPATCH_LEVEL, where no DPC runs.
    pub unsafe extern "win64" fn KeQueryDpcWatchdogInformation(information: *mut [u32; 5]) -> NTSTATUS {
        use super::irql::{self, Irql};
        if irql::current() < Irql::DISPATCH {
            return crate::nt::STATUS_UNSUCCESSFUL;
        }
        // SAFETY: the caller gives storage.
        unsafe { information.write([0; 5]) };
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *KeQueryLogicalProcessorRelationship function (wdm.h)*: sizes by *SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX structure*.
    fn processors_are_described_one_by_one_and_together() {
        let count = processor::count();
        check!(describe(relation::CORE, u64::MAX).len() == 48 * count && describe(relation::CORE, 1).len() == 48);
        check!(describe(relation::NODE, 1).len() == 48 && describe(relation::GROUP, 1).len() == 80);
        check!(describe(relation::CACHE, 1).len().is_multiple_of(56));
        let group = describe(relation::GROUP, 1);
        check!(group[..12] == [4, 0, 0, 0, 80, 0, 0, 0, 1, 0, 1, 0] && group[32] as usize == count);
        let all = describe(relation::ALL, u64::MAX);
        let mut at = 0;
        while let Some(size) = all.get(at + 4..at + 8) {
            at += u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        }
        check!(at == all.len());
    }
}
