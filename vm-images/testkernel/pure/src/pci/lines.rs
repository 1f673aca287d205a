//! Where a function's interrupt pin ends: at which input of the I/O APIC.
//!
//! A bridge turns the four pins behind it by one for each device number, so that first functions, which all use INTA#,
//! spread over four wires. On the main bus the chipset does the same once more and leads the four wires on: the PIIX of
//! the `pc` machine to ISA lines of the firmware's choice, the ICH9 of `q35` to inputs 16 to 23 of the I/O APIC.

use super::Function;

/// What leads the main bus's wires to the interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// PIIX3 and 4: each of four wires to an ISA line, as its registers say (*82371SB*, `PIRQRC[A:D]`).
    Piix([Option<u8>; 4]),
    /// ICH9, as it comes out of reset: PIRQE to PIRQH for devices up to 24 and for the bridge at 30, PIRQA to PIRQD
    /// for the chipset's own devices (*ICH9 data sheet*, D31IR to D25IR).
    Ich9,
}

/// The input of the I/O APIC where the pin of `functions[index]` ends.
#[must_use]
pub fn input_of(router: Router, functions: &[Function], index: usize) -> Option<u8> {
    let function = functions.get(index)?;
    let mut pin = function.pin?;
    let mut device = function.address.device;
    let mut parent = function.parent;
    // Each step goes to a function earlier in the list, so this ends.
    while let Some(bridge) = parent.and_then(|parent| functions.get(parent)) {
        pin = (pin + device) % 4;
        device = bridge.address.device;
        parent = bridge.parent;
    }
    match router {
        // Slot 1, the chipset itself, has the wires in order.
        Router::Piix(lines) => lines[usize::from((pin + device + 3) % 4)],
        Router::Ich9 if device < 25 || device == 30 => {
            Some(20 + (pin + if device == 30 { 0 } else { device }) % 4)
        }
        Router::Ich9 => Some(16 + pin),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Card, Machine};
    use super::super::scan;
    use super::*;

    #[test]
    fn the_piix_turns_the_wires_by_slot() {
        let router = Router::Piix([Some(10), Some(10), Some(11), None]);
        let inputs: [Option<u8>; 5] = core::array::from_fn(|slot| {
            let functions = scan::functions(&Machine::new().with(0, slot as u8, Card::sampling()));
            input_of(router, &functions, 0)
        });
        assert_eq!(inputs, [None, Some(10), Some(10), Some(11), None]);
    }

    #[test]
    fn the_ich9_has_inputs_of_its_own() {
        let input = |device| {
            let functions = scan::functions(&Machine::new().with(0, device, Card::sampling()));
            input_of(Router::Ich9, &functions, 0)
        };
        assert_eq!([2, 3, 24, 25, 30, 31].map(input), [22, 23, 20, 16, 20, 16].map(Some));
    }

    #[test]
    fn every_bridge_turns_once_more() {
        let machine =
            Machine::new().with(0, 3, Card::bridge()).with(1, 2, Card::bridge()).with(2, 1, Card::sampling());
        let functions = scan::functions(&machine);
        // INTA# at slot 1 is pin 1, at slot 2 pin 3, and at slot 3 of the main bus wire 3 + 3.
        assert_eq!(input_of(Router::Ich9, &functions, 2), Some(20 + (1 + 2 + 3) % 4));
        assert_eq!(input_of(Router::Ich9, &functions, 0), None, "a bridge without a pin");
    }
}
