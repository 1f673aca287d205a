//! The bits of `CONTROL` and `STATUS`.

use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// Declares a register's value as a set of named bits. Bits without a name are kept as they are: a driver
/// that writes back what it read must not change what it does not know.
macro_rules! register_bits {
    ($(#[$doc:meta])* $name:ident { $($(#[$bit_doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            $($(#[$bit_doc])* pub const $bit: Self = Self($value);)*

            /// The register's value as these bits.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// These bits as the register's value.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether every bit of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl Not for $name {
            type Output = Self;
            fn not(self) -> Self {
                Self(!self.0)
            }
        }
    };
}

register_bits! {
    /// The value of the `CONTROL` register.
    Control {
        /// The card may raise its interrupt line.
        IRQ_ENABLE = 1 << 0;
        /// Writing 1 resets every register and empties the FIFO, whatever else is written with it. Reads 0.
        RESET = 1 << 31;
    }
}

register_bits! {
    /// The value of the `STATUS` register. Writing a 1 clears that bit.
    Status {
        /// A sample was produced since this bit was last cleared.
        SAMPLE_READY = 1 << 0;
        /// A sample was lost, because the FIFO was full when it was produced.
        OVERRUN = 1 << 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_map_says() {
        assert_eq!(Control::IRQ_ENABLE.bits(), 0x0000_0001);
        assert_eq!(Control::RESET.bits(), 0x8000_0000);
        assert_eq!((Status::SAMPLE_READY | Status::OVERRUN).bits(), 0b11);
    }

    #[test]
    fn contains_wants_every_bit() {
        let both = Status::SAMPLE_READY | Status::OVERRUN;
        assert!(both.contains(Status::OVERRUN));
        assert!(!Status::OVERRUN.contains(both));
        assert!((both & !Status::OVERRUN).contains(Status::SAMPLE_READY));
    }

    #[test]
    fn unnamed_bits_survive() {
        assert_eq!((Control::from_bits(0xFF00) | Control::IRQ_ENABLE).bits(), 0xFF01);
    }
}
