//! Snapshots of the machine: what a card takes into them.
//!
//! QEMU describes a device's state by a structure whose layout differs between versions. But it saves memory
//! without asking, and a device may own memory that is mapped nowhere. So the card keeps itself in such a
//! block while the machine is stopped, which is when snapshots are made and loaded: after everything that
//! happens to it then it is written there; and before anything does, it is read from there if QEMU has put
//! something else in its place.
//!
//! What a PCI device has besides, QEMU describes itself, and exports the descriptions.
//!
//! The block holds a length, 4 bytes, little-endian, and so much JSON. No length means that nothing was saved.

use std::ffi::CStr;
use std::ptr::null_mut;

use serde::{Deserialize, Serialize};
use squall_model::Card;
use thiserror::Error;

use crate::abi::{Error, Object, Room};
use crate::device::Device;
use crate::symbols::{find, qemu};

/// The size of the block. A card with a full FIFO, on which everything is going on at once, comes to half of it.
const LEN: usize = 8192;
const LENGTH_LEN: usize = 4;

/// The version of the format.
const SCHEMA: &str = "squall.card/2";

/// Why what a snapshot has left is not a card.
#[derive(Debug, Error)]
enum Unreadable {
    #[error("nothing was saved there")]
    Empty,
    #[error("{0} bytes are more than there is room for")]
    Length(usize),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("its schema is {0}, not {SCHEMA}")]
    Schema(String),
}

#[derive(Serialize)]
struct Saving<'a> {
    schema: &'a str,
    card: &'a Card,
}

#[derive(Deserialize)]
struct Loading {
    schema: String,
    card: Card,
}

/// Memory that goes into snapshots.
pub(crate) struct Block {
    region: *mut Room,
    owner: *mut Object,
    bytes: *mut [u8; LEN],
    /// What was last written there.
    known: Box<[u8; LEN]>,
}

// SAFETY: QEMU touches the memory only while it makes or loads a snapshot, which it does under the big lock,
// as is everything here.
unsafe impl Send for Block {}

impl Block {
    /// A block that belongs to `owner`; `None` if QEMU has raised an error. Cards of which QEMU has no path
    /// must have different names.
    ///
    /// # Safety
    /// `owner` is the object that `device` stands for, and is being realized; `errp` is a place for an error.
    pub(crate) unsafe fn new(
        owner: *mut Object,
        device: &Device,
        name: &CStr,
        errp: *mut *mut Error,
    ) -> Option<Self> {
        let region = device.keep(Room::zeroed());
        // SAFETY: by the caller's word; the room is large and aligned enough for a MemoryRegion.
        let made = unsafe { (qemu().memory_region_init_ram)(region, owner, name.as_ptr(), LEN as u64, errp) };
        if !made {
            return None;
        }
        // SAFETY: just initialised as memory.
        let bytes = unsafe { (qemu().memory_region_get_ram_ptr)(region) };
        Some(Self { region, owner, bytes: bytes.cast(), known: Box::new([0; LEN]) })
    }

    /// The card is pulled out. Its block goes with its object, later; the next card in this slot may have one
    /// of the same name until then.
    pub(crate) fn give_up_name(&self) {
        // SAFETY: the region and the object that it was made for, which is being unrealized.
        unsafe { (qemu().vmstate_unregister_ram)(self.region, self.owner) };
    }

    /// Writes the card down.
    #[cold]
    #[inline(never)]
    pub(crate) fn save(&mut self, card: &Card) {
        let text = serde_json::to_vec(&Saving { schema: SCHEMA, card }).unwrap_or_default();
        let mut image = Box::new([0; LEN]);
        let Some(room) = image.get_mut(LENGTH_LEN..LENGTH_LEN + text.len()) else { return };
        room.copy_from_slice(&text);
        image[..LENGTH_LEN].copy_from_slice(&(text.len() as u32).to_le_bytes());
        if image == self.known {
            return;
        }
        // SAFETY: memory of that size which belongs to the device; nobody else touches it now.
        unsafe { self.bytes.write(*image) };
        // SAFETY: the region was initialised with that size.
        unsafe { (qemu().memory_region_set_dirty)(self.region, 0, LEN as u64) };
        self.known = image;
    }

    /// The card that QEMU has put there since it was last looked at, or that was reset if it is none.
    pub(crate) fn load(&mut self) -> Option<Card> {
        // SAFETY: memory of that size which belongs to the device; nobody else touches it now.
        let image = Box::new(unsafe { self.bytes.read() });
        if image == self.known {
            return None;
        }
        let card = read(&image).unwrap_or_else(|unreadable| {
            complain(&unreadable);
            Card::new()
        });
        self.known = image;
        Some(card)
    }
}

fn read(image: &[u8; LEN]) -> Result<Card, Unreadable> {
    let [a, b, c, d, text @ ..] = image;
    let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if len == 0 {
        return Err(Unreadable::Empty);
    }
    let text = text.get(..len).ok_or(Unreadable::Length(len))?;
    let loading: Loading = serde_json::from_slice(text)?;
    if loading.schema != SCHEMA {
        return Err(Unreadable::Schema(loading.schema));
    }
    Ok(loading.card)
}

fn complain(unreadable: &Unreadable) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "squall-vdevice: the snapshot holds no card that can be read, so it is reset: {unreadable}"
    );
}

/// Has a PCI device's configuration space and, where it has any, its MSI-X table go into snapshots; `false`
/// where QEMU refuses.
///
/// # Safety
/// `object` is a PCI device that is being realized, and has an MSI-X table if `msix`.
pub(crate) unsafe fn register_pci(object: *mut Object, msix: bool) -> bool {
    descriptions(msix).all(|description| {
        let register = qemu().vmstate_register_with_alias_id;
        // SAFETY: by the caller's word; QEMU's own description of what it finds in a PCI device.
        let failed = unsafe { register(object, u32::MAX, find(description), object, -1, 0, null_mut()) };
        failed == 0
    })
}

/// Undoes [`register_pci`].
///
/// # Safety
/// It was called with the same arguments.
pub(crate) unsafe fn unregister_pci(object: *mut Object, msix: bool) {
    for description in descriptions(msix) {
        // SAFETY: by the caller's word. What is not registered is ignored.
        unsafe { (qemu().vmstate_unregister)(object, find(description), object) };
    }
}

fn descriptions(msix: bool) -> impl Iterator<Item = &'static CStr> {
    [c"vmstate_pci_device"].into_iter().chain(msix.then_some(c"vmstate_msix"))
}

#[cfg(test)]
mod tests {
    use squall_model::{
        Direction, LateDisable, LateRegister, MAX_BURST, MAX_DELAY_NS, MAX_SCHEDULES, Misbehaviour, Pace,
        Schedule, Spurious, Trigger,
    };
    use squall_registers::Register;

    use super::*;

    fn image(text: &str) -> [u8; LEN] {
        let mut image = [0; LEN];
        image[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
        image[4..4 + text.len()].copy_from_slice(text.as_bytes());
        image
    }

    #[test]
    fn the_largest_card_has_room() {
        let mut card = Card::new();
        let (far, many) = (u64::from(u32::MAX) << 30, MAX_BURST);
        let trigger =
            Trigger { register: Register::Sequence, direction: Direction::Write, mask: !0, value: !0 };
        let pace = Pace::Access { trigger, delay_ns: MAX_DELAY_NS };
        let (jitter_ns, burst_gap_ns) = (MAX_DELAY_NS, MAX_DELAY_NS);
        let schedule = Schedule { pace, jitter_ns, burst: many, burst_gap_ns, count: far, seed: !0 };
        let wrong = Misbehaviour {
            stuck_line: Some(false),
            late_disable: Some(LateDisable { delay_ns: MAX_DELAY_NS, samples: many, read_flushes: false }),
            spurious: Some(Spurious { period_ns: MAX_DELAY_NS, width_ns: MAX_DELAY_NS - 1 }),
            fifo_places: Some(64),
            removed: false,
            late_register: Some(LateRegister {
                register: Register::Control,
                delay_ns: MAX_DELAY_NS,
                reads: many,
            }),
        };
        let _ = card.write(4, 4, 1, far, &mut |_| {}).unwrap();
        let _ = card.fire(1_000_000, far, &mut |_| {});
        let _ = card.start_storm(&[schedule; MAX_SCHEDULES], far, &mut |_| {}).unwrap();
        let _ = card.misbehave(wrong, far, &mut |_| {}).unwrap();
        let _ = card.write(0x14, 4, u64::MAX, far, &mut |_| {}).unwrap();
        let _ = card.write(4, 4, 0, far, &mut |_| {}).unwrap();
        let text = serde_json::to_string(&Saving { schema: SCHEMA, card: &card }).unwrap();
        assert!(text.len() < LEN / 2, "{}", text.len());
        assert_eq!(read(&image(&text)).unwrap().statistics(), card.statistics());
        let other = text.replace("card/2", "card/1");
        assert!(matches!(read(&image(&other)), Err(Unreadable::Schema(_))));
    }

    #[test]
    fn what_is_no_card_is_refused() {
        assert!(matches!(read(&[0; LEN]), Err(Unreadable::Empty)));
        assert!(matches!(read(&[0xFF; LEN]), Err(Unreadable::Length(_))));
        assert!(matches!(read(&image("{}")), Err(Unreadable::Json(_))));
    }
}
