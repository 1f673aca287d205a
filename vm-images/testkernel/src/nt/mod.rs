//! The structures and numbers that a driver and its kernel share.
//!
//! A `.sys` is compiled against the public driver headers, which give every kernel object that a driver may
//! touch a fixed layout on x64. This module is that layout, written down once: types keep the headers' names
//! and spelling, so that a driver author finds what they know, and every size or offset that a driver's inline
//! code relies on is asserted at compile time. What the headers call opaque, or reserve for the system, is the
//! guest's own to use and may differ from Windows.
//!
//! Nothing in here does anything; the rooms of the kernel (`ke`, `io`, `ob`, ...) do.
#![allow(
    non_snake_case,
    non_camel_case_types,
    clippy::upper_case_acronyms,
    reason = "the public headers' own names"
)]
#![allow(
    dead_code,
    reason = "a vocabulary: families of flags and statuses are kept whole where a reader expects them"
)]

pub mod controller;
pub mod dispatcher;
pub mod dma;
pub mod exception;
pub mod file;
pub mod interrupt;
pub mod irp;
pub mod memory;
pub mod object;
pub mod queue;
pub mod registry;
pub mod requirement;
pub mod resource;
pub mod rtl;
pub mod status;
pub mod types;

pub use controller::*;
pub use dispatcher::*;
pub use dma::*;
pub use file::*;
pub use interrupt::*;
pub use irp::*;
pub use memory::*;
pub use object::*;
pub use queue::*;
pub use registry::*;
pub use requirement::*;
pub use resource::*;
pub use rtl::*;
pub use status::*;
pub use types::*;

/// Asserts a type's size and the offsets of its fields at compile time.
macro_rules! layout {
    ($type:ty, size $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use layout;
