//! The card's resources on PCI, as the driver that claims it hands them on.
//!
//! A PCI card's resources are the plug and play manager's to give, and it gives them to a function driver. So a small one owns the card
//! and connects nothing; this driver opens it, asks it for the card's physical device object and resources, and attaches to it. The
//! request and its answer are stated where both sides look them up, in docs/joints.md under "The claim".

use squall_driver_pure::Granted;
use wdk_sys::{PDEVICE_OBJECT, STATUS_DEVICE_CONFIGURATION_ERROR};

use crate::nt::{lower::Opened, status::Result, text::text};

/// `CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`.
const GET_RESOURCES: u32 = 0x22 << 16 | 0x800 << 2;

/// The head of the answer.
const HEADER: usize = 32;

/// An answer with the registers, and as many messages as there can be, raw and translated.
#[repr(C, align(8))]
struct Answer([u8; ANSWER]);

const ANSWER: usize = HEADER + 2 * (20 + 20 * (3 + Granted::MOST_LINES));

/// Opens the driver that claims the card.
pub(crate) fn open_claim() -> Result<Opened> {
    Opened::open(&text!("\\Device\\SquallClaim").counted())
}

/// Asks it for the card's physical device object and translated resources. (Not inlined: the answer is a third of a page of stack.)
#[inline(never)]
pub(crate) fn ask(claim: &Opened) -> Result<(PDEVICE_OBJECT, Granted)> {
    let mut answer = Answer([0; ANSWER]);
    let length = claim.ask(GET_RESOURCES, &mut answer.0)?;
    let answer = answer.0.get(..length).unwrap_or_default();
    read(answer).ok_or_else(|| {
        wdk::println!("squall: \\Device\\SquallClaim: {length} bytes that are no card's resources");
        STATUS_DEVICE_CONFIGURATION_ERROR
    })
}

fn read(answer: &[u8]) -> Option<(PDEVICE_OBJECT, Granted)> {
    let word = |at: usize| Some(u32::from_le_bytes(answer.get(at..at + 4)?.try_into().ok()?) as usize);
    if word(4)? != 1 {
        return None;
    }
    let physical = u64::from_le_bytes(answer.get(8..16)?.try_into().ok()?) as usize;
    let translated = answer.get(word(24)?..)?.get(..word(28)?)?;
    let granted = Granted::read(translated).ok()?;
    (physical != 0).then_some((core::ptr::with_exposed_provenance_mut(physical), granted))
}
