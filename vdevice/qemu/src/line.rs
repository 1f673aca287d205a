//! How a card's interrupt line reaches the machine.
//!
//! The card has one line. An ISA slot has a wire for it, whose rising edge is the interrupt. A PCI slot has
//! three ways, of which the guest chooses one in configuration space: INTx, a level that is raised and
//! lowered; or MSI or MSI-X, a message for each time that the line rises.
//!
//! Cards can share a line. On PCI, QEMU keeps account of who holds it. On ISA it does not, and neither does the
//! bus: whoever drives the wire last is heard. Cards that were made to share one only ever pull it up, so it is
//! high as long as one of them holds it, and a card that joins in makes no edge.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use squall_model::LineChange;

use crate::abi::{IrqState, Object};
use crate::symbols::qemu;

/// The line of a card that is plugged in.
pub(crate) enum Line {
    /// A wire of the ISA interrupt controllers, which look at its edges.
    Isa(Wire),
    /// A function of a PCI bus.
    Pci(Function),
}

/// What the line's movements are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Edges of an ISA wire.
    Isa,
    /// A PCI level.
    Intx,
    /// Messages of the one vector.
    Msi,
    /// Messages of several vectors in turn.
    Msix,
}

impl Mode {
    /// The name in `stats`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Isa => "isa",
            Self::Intx => "intx",
            Self::Msi => "msi",
            Self::Msix => "msix",
        }
    }
}

impl Line {
    pub(crate) fn mode(&self) -> Mode {
        match self {
            Self::Isa(_) => Mode::Isa,
            Self::Pci(function) => function.mode(),
        }
    }

    /// The line moved. The big lock is held.
    pub(crate) fn apply(&self, movement: Movement) {
        match self {
            Self::Isa(wire) => movement.drive(|level| wire.set(level)),
            Self::Pci(function) => function.apply(movement),
        }
    }

    /// A snapshot was loaded, in which the line is `high`. What it leads to was restored by QEMU.
    pub(crate) fn restored(&self, high: bool) {
        if let Self::Isa(wire) = self {
            wire.hold(high);
        }
    }

    /// The guest has chosen another way while the line was high: it is high there too. QEMU itself lowers
    /// INTx when a message mode takes over.
    pub(crate) fn present(&self, asserted: u64) {
        self.apply(Movement { was: false, change: LineChange { level: true, rose: true }, asserted });
    }
}

/// How a line moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Movement {
    /// Its level before.
    pub(crate) was: bool,
    pub(crate) change: LineChange,
    /// How often it has risen so far.
    pub(crate) asserted: u64,
}

impl Movement {
    /// Moves a wire so that who looks at its edges sees them: a rise needs a low level before it.
    fn drive(self, set: impl Fn(bool)) {
        if self.change.rose {
            if self.was {
                set(false);
            }
            set(true);
        }
        if !self.change.level {
            set(false);
        }
    }

    /// Whether the level is what it was: who looks at nothing else sees nothing of a line that fell and rose at once.
    fn keeps_level(self) -> bool {
        self.was && self.change.level
    }
}

/// ISA interrupts.
const WIRES: usize = 16;

/// How many cards hold each of them high.
static HOLDERS: [AtomicU32; WIRES] = [const { AtomicU32::new(0) }; WIRES];

/// A card's end of an ISA wire.
pub(crate) struct Wire {
    irq: *mut IrqState,
    holders: &'static AtomicU32,
    held: AtomicBool,
}

// SAFETY: QEMU's wires are not bound to a thread; they are moved under the big lock, as everything that moves
// one is.
unsafe impl Send for Wire {}
// SAFETY: as above.
unsafe impl Sync for Wire {}

impl Wire {
    /// The wire of interrupt `number`, which is below 16.
    ///
    /// # Safety
    /// `irq` is that wire, and exists as long as the machine.
    pub(crate) unsafe fn new(irq: *mut IrqState, number: u32) -> Self {
        let holders = &HOLDERS[number as usize % WIRES];
        Self { irq, holders, held: AtomicBool::new(false) }
    }

    /// Holds the wire high, or lets go of it. Returns whether anybody holds it then.
    fn hold(&self, high: bool) -> bool {
        // Only one thread at a time is here: the big lock is held in every call of a device.
        let holders = self.holders.load(Ordering::Relaxed);
        let others = holders.saturating_sub(u32::from(self.held.swap(high, Ordering::Relaxed)));
        let holders = others + u32::from(high);
        self.holders.store(holders, Ordering::Relaxed);
        holders > 0
    }

    fn set(&self, level: bool) {
        let level = self.hold(level);
        // SAFETY: the wire exists, by the word given to `new`; the big lock is held in every call of a
        // device.
        unsafe { (qemu().qemu_set_irq)(self.irq, c_int::from(level)) };
    }
}

/// A PCI function of QEMU's.
pub(crate) struct Function {
    object: *mut Object,
    /// Vectors of its MSI-X table; 0 where it has none.
    vectors: u32,
    /// What chooses its messages.
    switches: Switches,
}

/// The bits of configuration space that turn messages on, where there are such.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    pub(crate) msi: Option<Switch>,
    pub(crate) msix: Option<Switch>,
}

/// A bit in a byte of configuration space. Each interrupt looks at it: QEMU's functions that tell the same look at no more,
/// and a call of them is dearer than the look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    pub(crate) byte: *const u8,
    pub(crate) bit: u8,
}

impl Switch {
    /// # Safety
    /// The byte is there.
    unsafe fn is_on(self) -> bool {
        // SAFETY: by the caller's word. QEMU changes it under the big lock, which is held; volatile, as it is QEMU's.
        unsafe { self.byte.read_volatile() & self.bit != 0 }
    }
}

// SAFETY: the function is only touched under the big lock.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// # Safety
    /// `object` is a PCI device that has INTx, perhaps MSI and, unless `vectors` is 0, so many MSI-X vectors,
    /// all in use, and the switches are its. It is realized as long as this is used.
    pub(crate) unsafe fn new(object: *mut Object, vectors: u32, switches: Switches) -> Self {
        Self { object, vectors, switches }
    }

    fn mode(&self) -> Mode {
        // SAFETY: by the word given to `new`, in the configuration space of a device that is realized.
        let is_on = |switch: Option<Switch>| switch.is_some_and(|switch| unsafe { switch.is_on() });
        match self.switches {
            Switches { msix, .. } if is_on(msix) => Mode::Msix,
            Switches { msi, .. } if is_on(msi) => Mode::Msi,
            Switches { .. } => Mode::Intx,
        }
    }

    fn apply(&self, movement: Movement) {
        let rose = movement.change.rose;
        match self.mode() {
            Mode::Msix if rose => {
                let vector = movement.asserted.saturating_sub(1) % u64::from(self.vectors);
                // SAFETY: by the word given to `new`; one of its vectors.
                unsafe { (qemu().msix_notify)(self.object, vector as u32) };
            }
            // SAFETY: by the word given to `new`; it has one vector.
            Mode::Msi if rose => unsafe { (qemu().msi_notify)(self.object, 0) },
            Mode::Msix | Mode::Msi => {}
            Mode::Intx | Mode::Isa if movement.keeps_level() => {}
            Mode::Intx | Mode::Isa => movement.drive(|level| self.set_intx(level)),
        }
    }

    /// Moves the INTx level.
    pub(crate) fn set_intx(&self, level: bool) {
        // SAFETY: by the word given to `new`.
        unsafe { (qemu().pci_set_irq)(self.object, c_int::from(level)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_an_edge_and_nothing_else_is_driven() {
        let driven = |was, level, rose| {
            let levels = std::cell::RefCell::new(Vec::new());
            let movement = Movement { was, change: LineChange { level, rose }, asserted: 1 };
            movement.drive(|level| levels.borrow_mut().push(level));
            (levels.into_inner(), movement.keeps_level())
        };
        assert_eq!(driven(false, true, true), (vec![true], false));
        assert_eq!(driven(true, false, false), (vec![false], false));
        assert_eq!(driven(true, true, true), (vec![false, true], true));
        assert_eq!(driven(false, false, true), (vec![true, false], false));
        assert_eq!(driven(true, false, true), (vec![false, true, false], false));
    }

    #[test]
    fn a_wire_is_high_as_long_as_one_card_holds_it() {
        // SAFETY: neither wire is driven here.
        let [first, second] = [(); 2].map(|()| unsafe { Wire::new(std::ptr::null_mut(), 3) });
        assert!(first.hold(true) && first.hold(true) && second.hold(true));
        assert!(first.hold(false) && first.hold(false), "the second still does");
        assert!(!second.hold(false) && !second.hold(false));
        assert!(first.hold(true) && !first.hold(false));
    }
}
