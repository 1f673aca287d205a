//! The loader: from the bytes of a `.sys` to an image that can run.

pub mod caller;
pub mod export;
pub mod fallible;
pub mod image;
pub mod inject;
pub mod nt_names;
pub mod raising;
