//! Memory: page frames, page tables, the kernel's heap, and the places where images, stacks, pool pages and
//! device memory appear.
//!
//! | from | what |
//! |---|---|
//! | 0 | nothing: a null pointer, or any user address, faults |
//! | `0xffff_8000_0000_0000` | the direct map: all of memory, writable, never executable |
//! | `0xffff_c000_0000_0000` | pages on demand: stacks between guard pages, pool, device memory |
//! | `0xffff_d000_0000_0000` | special pool: pages that stand alone, between guards |
//! | `0xffff_f780_0000_0000` | `KUSER_SHARED_DATA` |
//! | `0xffff_f800_0000_0000` | driver images, each section with its own protection |
//! | `0xffff_ffff_8000_0000` | the kernel |

pub mod contiguous;
pub mod frame;
pub mod heap;
pub mod image;
pub mod io;
pub mod mdl;
pub mod module_list;
pub mod modules;
pub mod paging;
pub mod physical;
pub mod pool_region;
pub mod region;
pub mod reserved;
pub mod section;
pub mod section_object;
pub mod special_region;
pub mod user;
