//! What may be paged out: paged pool, and an image's sections whose names say so.
//!
//! Objects that the kernel uses at DISPATCH_LEVEL, and lists for memory that stays where it is, must not lie there.

use super::noted;
use crate::ex::pool;

/// Whether the byte at `address` may be paged out. At DISPATCH_LEVEL or below.
pub fn is(address: usize) -> bool {
    pool::holding(address).is_some_and(|block| block.paged) || noted::is_pageable(address as u64)
}
