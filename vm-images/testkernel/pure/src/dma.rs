//! Direct memory access as a device sees it: which addresses it reaches, and in what pieces a buffer lies.

/// What a driver says of its device (`DEVICE_DESCRIPTION`), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// It masters the bus itself.
    pub master: bool,
    /// It puts 32 bits on the bus.
    pub has_32_bits: bool,
    /// It puts 64 bits on the bus.
    pub has_64_bits: bool,
    /// It is on PCI, where nobody has less than 32.
    pub on_pci: bool,
    /// The longest transfer, in bytes.
    pub maximum_length: u32,
}

/// Bytes in a page, and so behind one map register.
pub const PAGE: u64 = 4096;

/// The most map registers that a device gets whose transfers may have to be copied.
const MAX_COPIED: u32 = 64;
/// And one that reaches everything.
const MAX_DIRECT: u32 = 1024;

impl Device {
    /// One past the last physical address that it reaches.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        if self.has_64_bits {
            u64::MAX
        } else if self.has_32_bits || self.on_pci {
            1 << 32
        } else {
            // The ISA bus has 24 address lines.
            1 << 24
        }
    }

    /// How many map registers it gets, where memory ends at `memory_end` (*IoGetDmaAdapter*): enough for its longest
    /// transfer, however that lies on pages, within reason.
    #[must_use]
    pub fn map_registers(&self, memory_end: u64) -> u32 {
        let wanted = u64::from(self.maximum_length).div_ceil(PAGE) + 1;
        let most = if self.limit() < memory_end { MAX_COPIED } else { MAX_DIRECT };
        wanted.min(most.into()) as u32
    }
}

/// A stretch of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub length: u64,
}

/// The pieces of a buffer of `length` bytes that begins `offset` bytes into the first of `frames` (page frame numbers):
/// neighbouring pages are one piece, so long as `merges` lets the two become one.
pub fn pieces(
    frames: impl Iterator<Item = u64>,
    offset: u64,
    length: u64,
    merges: impl Fn(Piece, Piece) -> bool,
) -> impl Iterator<Item = Piece> {
    let mut left = length;
    let mut offset = offset;
    let mut pages = frames
        .map_while(move |frame| {
            let piece = Piece { start: frame * PAGE + offset, length: left.min(PAGE.checked_sub(offset)?) };
            offset = 0;
            left -= piece.length;
            (piece.length > 0).then_some(piece)
        })
        .peekable();
    core::iter::from_fn(move || {
        let mut piece = pages.next()?;
        while let Some(next) =
            pages.next_if(|&next| piece.start + piece.length == next.start && merges(piece, next))
        {
            piece.length += next.length;
        }
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const ISA: Device = Device {
        master: true,
        has_32_bits: false,
        has_64_bits: false,
        on_pci: false,
        maximum_length: 0x1_0000,
    };

    #[test]
    fn a_device_reaches_as_far_as_its_bus() {
        assert_eq!(ISA.limit(), 16 << 20);
        assert_eq!(Device { on_pci: true, ..ISA }.limit(), 4 << 30);
        assert_eq!(Device { has_32_bits: true, ..ISA }.limit(), 4 << 30);
        assert_eq!(Device { has_64_bits: true, ..ISA }.limit(), u64::MAX);
    }

    #[test]
    fn map_registers_cover_the_longest_transfer() {
        assert_eq!(ISA.map_registers(64 << 20), 17);
        assert_eq!(Device { maximum_length: u32::MAX, ..ISA }.map_registers(64 << 20), 64);
        assert_eq!(Device { maximum_length: u32::MAX, ..ISA }.map_registers(8 << 20), 1024);
        assert_eq!(Device { maximum_length: 0, ..ISA }.map_registers(0), 1);
    }

    fn pieces_of(frames: &[u64], offset: u64, length: u64) -> Vec<(u64, u64)> {
        let merged = pieces(frames.iter().copied(), offset, length, |_, _| true);
        merged.map(|piece| (piece.start, piece.length)).collect()
    }

    #[test]
    fn neighbouring_pages_are_one_piece() {
        assert_eq!(pieces_of(&[5, 6, 9, 10], 0x10, 0x3000), [(0x5010, 0x1FF0), (0x9000, 0x1010)]);
        assert_eq!(pieces_of(&[5], 0xFFF, 1), [(0x5FFF, 1)]);
        assert_eq!(pieces_of(&[5, 6], 0, 0), []);
        // Fewer pages than the length says: what there is.
        assert_eq!(pieces_of(&[5], 0x800, 0x2000), [(0x5800, 0x800)]);
    }

    #[test]
    fn pages_that_must_not_merge_stay_apart() {
        let apart: Vec<Piece> = pieces([5, 6].into_iter(), 0, 0x2000, |_, _| false).collect();
        assert_eq!(apart.len(), 2);
    }
}
