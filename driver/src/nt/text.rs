//! Names for the kernel: counted UTF-16.

use wdk_sys::UNICODE_STRING;

/// A name of `N` ASCII characters that lives as long as the image.
#[derive(Debug)]
pub(crate) struct Text<const N: usize>([u16; N]);

impl<const N: usize> Text<N> {
    /// Widens a literal.
    #[expect(
        clippy::indexing_slicing,
        reason = "runs while compiling, where an index out of bounds is an error"
    )]
    pub(crate) const fn new(literal: &str) -> Self {
        let bytes = literal.as_bytes();
        assert!(bytes.len() == N && literal.is_ascii(), "one UTF-16 unit for each character");
        let mut units = [0; N];
        let mut index = 0;
        while index < N {
            units[index] = bytes[index] as u16;
            index += 1;
        }
        Self(units)
    }

    /// The characters. Where the kernel wants them to end in a zero, the literal has to.
    pub(crate) const fn as_ptr(&self) -> *const u16 {
        self.0.as_ptr()
    }

    /// The length in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        2 * N
    }

    /// The name as the kernel takes it. The kernel only reads it, though the type of `Buffer` does not say so.
    pub(crate) fn counted(&'static self) -> UNICODE_STRING {
        let bytes = const {
            assert!(N * 2 < u16::MAX as usize);
            (N * 2) as u16
        };
        UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: self.0.as_ptr().cast_mut() }
    }
}

/// A `&'static Text` from a literal.
macro_rules! text {
    ($literal:expr) => {{
        static TEXT: $crate::nt::text::Text<{ $literal.len() }> = $crate::nt::text::Text::new($literal);
        &TEXT
    }};
}
pub(crate) use text;
