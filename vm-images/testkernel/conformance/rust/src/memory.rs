//! The heap on pool, and the stack.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec, vec::Vec};
use core::hint::black_box;

use wdk_sys::{
    PAGE_SIZE, POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED,
    ntddk::{ExAllocatePool2, ExFreePoolWithTag, IoGetStackLimits, MmIsAddressValid},
};

use crate::check::{Suite, holds, rule};

const TAG: u32 = u32::from_ne_bytes(*b"rule");

/// Pages of locals, so that the compiler has to probe each of them.
#[inline(never)]
fn deep(depth: u32) -> u64 {
    let mut frame = [0u8; 2 * PAGE_SIZE as usize];
    for (index, byte) in black_box(&mut frame).iter_mut().enumerate() {
        *byte = index as u8;
    }
    let sum: u64 = black_box(&frame).iter().map(|byte| u64::from(*byte)).sum();
    if depth == 0 { sum } else { sum + deep(depth - 1) }
}

pub(crate) fn rules(suite: &mut Suite) {
    rule!(
        suite,
        "ExAllocatePool2 function",
        "memory is zeroed unless POOL_FLAG_UNINITIALIZED is set",
        |rule| {
            for bytes in [1, 8, 100, 4000, 5000, 20_000] {
                for _ in 0..3 {
                    // SAFETY: freed below, once, with its tag.
                    let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }.cast::<u8>();
                    if !holds!(rule, !block.is_null()) {
                        continue;
                    }
                    // SAFETY: that many bytes are ours.
                    let memory = unsafe { core::slice::from_raw_parts_mut(block, bytes as usize) };
                    holds!(rule, memory.iter().all(|byte| *byte == 0));
                    // So that the next one of this size is not zeros by chance.
                    memory.fill(0xA5);
                    // SAFETY: allocated above.
                    unsafe { ExFreePoolWithTag(block.cast(), TAG) };
                }
            }
        }
    );

    rule!(
        suite,
        "ExAllocatePool2 function",
        "blocks are aligned to 16 bytes, those of a page and more to pages",
        |rule| {
            let flags = POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED;
            for bytes in [1, 15, 16, 17, 48, 999, 4096, 4097, 12_288] {
                // SAFETY: freed below, once, with its tag.
                let block = unsafe { ExAllocatePool2(flags, bytes, TAG) };
                let align = if bytes >= u64::from(PAGE_SIZE) { PAGE_SIZE as usize } else { 16 };
                if holds!(rule, !block.is_null() && block.addr().is_multiple_of(align)) {
                    // SAFETY: allocated above.
                    unsafe { ExFreePoolWithTag(block, TAG) };
                }
            }
        }
    );

    rule!(
        suite,
        "ExAllocatePool2 function",
        "a tree, its keys and its values live in pool and come apart again",
        |rule| {
            let mut tree: BTreeMap<u32, (String, Vec<u64>)> = BTreeMap::new();
            let mut state = 1u32;
            for _ in 0..2000 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = (state >> 16) % 300;
                if state & 0x100 == 0 {
                    tree.remove(&key);
                } else {
                    tree.insert(
                        key,
                        (alloc::format!("key {key}"), vec![u64::from(key); (key % 40) as usize]),
                    );
                }
            }
            holds!(rule, tree.len() > 50);
            holds!(
                rule,
                tree.iter().all(|(key, (name, values))| {
                    *name == alloc::format!("key {key}")
                        && values.len() == (key % 40) as usize
                        && values.iter().all(|value| *value == u64::from(*key))
                })
            );
            holds!(rule, tree.keys().is_sorted());
        }
    );

    rule!(
        suite,
        "ExFreePool function",
        "what the allocator gave back can be had again, without end",
        |rule| {
            // Several times the memory that there is.
            let held = (0..256).all(|round| {
                let memory = Box::<[u8]>::new_uninit_slice(1 << 20);
                // SAFETY: the block is valid to ask about.
                black_box(round) < 256 && unsafe { MmIsAddressValid(memory.as_ptr().cast_mut().cast()) } != 0
            });
            holds!(rule, held);
        }
    );

    rule!(
        suite,
        "Using the Kernel Stack",
        "frames of several pages are there down to the stack's limit",
        |rule| {
            let (mut low, mut high, here) = (0, 0, 0u8);
            // SAFETY: storage for both.
            unsafe { IoGetStackLimits(&mut low, &mut high) };
            let room = (&raw const here).addr() as u64 - low;
            holds!(rule, high > low && high - low > room);
            holds!(rule, room > 8192);
            let of_one = deep(0);
            // Half of what remains, at two pages and a little a call.
            let depth = (room / 2 / (2 * u64::from(PAGE_SIZE) + 512)).saturating_sub(1) as u32;
            holds!(rule, deep(depth) == of_one * (u64::from(depth) + 1));
        }
    );
}
