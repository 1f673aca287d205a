//! What may stand under the driver's `Parameters` key.

/// Where the card is, as its owner set it with jumpers and wrote it into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// First port of the register window.
    pub io_port_base: u16,
    /// Interrupt line of the ISA bus.
    pub line: u8,
}

/// Why the values cannot be those of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsError {
    /// No window of the card begins at this port.
    IoPortBase(u32),
    /// The ISA bus has no such line for a card.
    InterruptLine(u32),
}

impl Settings {
    /// Checks the values of `IoPortBase` and `InterruptLine`. `window` is the length of the register window, to which the card
    /// aligns it.
    ///
    /// # Errors
    ///
    /// Names the first value that no card can have.
    pub fn check(io_port_base: u32, interrupt_line: u32, window: u16) -> Result<Self, SettingsError> {
        // Ports below 0x100 belong to the main board.
        const FIRST_CARD_PORT: u16 = 0x100;
        let base = u16::try_from(io_port_base)
            .ok()
            .filter(|base| *base >= FIRST_CARD_PORT && base.is_multiple_of(window))
            .ok_or(SettingsError::IoPortBase(io_port_base))?;
        // 0 is the timer, 2 the second interrupt controller.
        let line = u8::try_from(interrupt_line)
            .ok()
            .filter(|line| matches!(line, 1 | 3..=15))
            .ok_or(SettingsError::InterruptLine(interrupt_line))?;
        Ok(Self { io_port_base: base, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cards_values_pass() {
        assert_eq!(Settings::check(0x300, 5, 32), Ok(Settings { io_port_base: 0x300, line: 5 }));
        assert!(Settings::check(0xFFE0, 15, 32).is_ok());
    }

    #[test]
    fn values_no_card_can_have_are_named() {
        for base in [0, 0x60, 0x301, 0x310, 0x1_0300, u32::MAX] {
            assert_eq!(Settings::check(base, 5, 32), Err(SettingsError::IoPortBase(base)));
        }
        for line in [0, 2, 16, 256 + 5, u32::MAX] {
            assert_eq!(Settings::check(0x300, line, 32), Err(SettingsError::InterruptLine(line)));
        }
    }
}
