//! The system's DMA controller of ISA times: two 8237, four channels each, the first for bytes, the second for words.
//!
//! Between the two, channel 4 leads the first one through the second and is nobody's. A channel counts within 64 KiB (128 KiB of
//! words): the rest of the address is in a page register of its own, which does not count along.

/// How a channel transfers (`DEVICE_DESCRIPTION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// From memory to the device.
    pub to_device: bool,
    /// As long as the device asks, and not one unit at each request.
    pub demand: bool,
    /// From the beginning again when it has come to the end.
    pub auto_initialize: bool,
}

/// A channel that a device can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel(u8);

/// Where the page registers are, by channel.
const PAGE_PORTS: [u16; 8] = [0x87, 0x83, 0x81, 0x82, 0x8F, 0x8B, 0x89, 0x8A];
/// Written to [`CASCADE_MODE_PORT`] and [`CASCADE_MASK_PORT`], these let the first controller through.
pub const CASCADE: (u8, u8) = (0xC0, 0x00);
/// The second controller's mode register.
pub const CASCADE_MODE_PORT: u16 = 0xD6;
/// The second controller's mask register.
pub const CASCADE_MASK_PORT: u16 = 0xD4;
/// The count of channel 4, which nobody uses.
pub const UNUSED_COUNT_PORT: u16 = 0xC2;
/// Makes the next byte of the second controller's 16-bit registers the low one.
pub const SECOND_FLIP_FLOP_PORT: u16 = 0xD8;

impl Channel {
    /// Channels 0 to 3 are 8 bits wide (`width` 0), 5 to 7 are 16 (`width` 1); there are no others.
    #[must_use]
    pub const fn new(number: u32, width: u32) -> Option<Self> {
        match (number, width) {
            (0..=3, 0) | (5..=7, 1) => Some(Self(number as u8)),
            _ => None,
        }
    }

    /// 0 to 3, 5 to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn is_wide(self) -> bool {
        self.0 >= 4
    }

    /// Bytes in a unit.
    #[must_use]
    pub const fn unit(self) -> u32 {
        if self.is_wide() { 2 } else { 1 }
    }

    /// No transfer crosses a multiple of this.
    #[must_use]
    pub const fn boundary(self) -> u64 {
        0x1_0000 * self.unit() as u64
    }

    /// The register of its 8237 that begins this many units after the first.
    const fn register(self, offset: u16) -> u16 {
        if self.is_wide() { 0xC0 + 2 * offset } else { offset }
    }

    const fn within(self) -> u8 {
        self.0 & 3
    }

    /// The address, low byte first.
    #[must_use]
    pub const fn address_port(self) -> u16 {
        self.register(2 * self.within() as u16)
    }

    /// The count, low byte first.
    #[must_use]
    pub const fn count_port(self) -> u16 {
        self.register(2 * self.within() as u16 + 1)
    }

    /// The page register.
    #[must_use]
    pub const fn page_port(self) -> u16 {
        PAGE_PORTS[self.0 as usize]
    }

    /// Whether requests are heard: the port and what to write.
    #[must_use]
    pub const fn mask(self, masked: bool) -> (u16, u8) {
        (self.register(0xA), self.within() | if masked { 4 } else { 0 })
    }

    /// How to transfer: the port and what to write.
    #[must_use]
    pub const fn mode(self, mode: Mode) -> (u16, u8) {
        let manner = if mode.demand { 0x00 } else { 0x40 };
        let again = if mode.auto_initialize { 0x10 } else { 0 };
        let direction = if mode.to_device { 0x08 } else { 0x04 };
        (self.register(0xB), manner | again | direction | self.within())
    }

    /// A write of anything makes the next byte the low one.
    #[must_use]
    pub const fn flip_flop_port(self) -> u16 {
        self.register(0xC)
    }

    /// What the address and page registers take for a physical address below 16 MiB.
    #[must_use]
    pub const fn address(self, physical: u64) -> (u16, u8) {
        if self.is_wide() {
            ((physical >> 1) as u16, (physical >> 16) as u8 & 0xFE)
        } else {
            (physical as u16, (physical >> 16) as u8)
        }
    }

    /// What the count register takes for so many bytes, which are taken for one unit at least: one unit less.
    #[must_use]
    pub const fn count(self, bytes: u64) -> u16 {
        (bytes / self.unit() as u64).saturating_sub(1) as u16
    }

    /// How many bytes a count still stands for; at its end it has gone below 0.
    #[must_use]
    pub const fn left(self, count: u16) -> u32 {
        count.wrapping_add(1) as u32 * self.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(number: u32) -> Channel {
        Channel::new(number, u32::from(number > 3)).unwrap()
    }

    #[test]
    fn a_channel_is_as_wide_as_its_controller() {
        assert!(Channel::new(1, 1).is_none() && Channel::new(5, 0).is_none());
        assert!(Channel::new(4, 1).is_none() && Channel::new(8, 1).is_none() && Channel::new(0, 2).is_none());
        assert_eq!((channel(3).boundary(), channel(7).boundary()), (0x1_0000, 0x2_0000));
    }

    #[test]
    fn registers_are_where_the_data_sheet_has_them() {
        let two = channel(2);
        assert_eq!((two.address_port(), two.count_port(), two.page_port()), (4, 5, 0x81));
        let six = channel(6);
        assert_eq!((six.address_port(), six.count_port(), six.page_port()), (0xC8, 0xCA, 0x89));
        assert_eq!((two.mask(true), six.mask(false)), ((0x0A, 6), (0xD4, 2)));
        assert_eq!((two.flip_flop_port(), six.flip_flop_port()), (0x0C, 0xD8));
        let mode = Mode { to_device: true, demand: false, auto_initialize: false };
        assert_eq!(two.mode(mode), (0x0B, 0x4A));
        let mode = Mode { to_device: false, demand: true, auto_initialize: true };
        assert_eq!(six.mode(mode), (0xD6, 0x16));
    }

    #[test]
    fn addresses_and_counts_are_in_units() {
        assert_eq!(channel(1).address(0x12_3456), (0x3456, 0x12));
        assert_eq!(channel(5).address(0x13_3456), (0x9A2B, 0x12));
        assert_eq!((channel(1).count(0x1_0000), channel(5).count(0x1_0000)), (0xFFFF, 0x7FFF));
        assert_eq!((channel(1).count(0), channel(5).count(1)), (0, 0));
        assert_eq!((channel(1).left(0x1FF), channel(5).left(0x1FF)), (0x200, 0x400));
        assert_eq!((channel(1).left(0xFFFF), channel(5).left(0xFFFF)), (0, 0));
    }
}
