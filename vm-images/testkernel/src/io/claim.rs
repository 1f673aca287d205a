//! The claim: a small function driver that owns the test card and connects nothing.
//!
//! On Windows a driver that is not plug and play gets no PCI interrupt by itself: the card has to belong to the plug
//! and play manager, which gives its resources to the *function driver* only. So there is one, and all it does is to
//! hand on: whoever opens `\Device\SquallClaim` and sends an internal device control gets the card's physical device
//! object and its resources, and connects to the interrupt himself. Here that driver is part of the kernel. Its joint
//! with the legacy driver is stated in `docs/joints.md`, "The claim".

use alloc::format;
use alloc::vec::Vec;

use squall_testkernel_pure::pci::Function;
use squall_testkernel_pure::utf16;

use super::device::{self, Blueprint};
use super::pci::Interrupts;
use super::{driver, irp, pci, pnp};
use crate::arch::boot::BootInfo;
use crate::ke::lock::SpinLock;
use crate::nt::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_UNKNOWN, IRP, IRP_MJ_CLEANUP,
    IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_INTERNAL_DEVICE_CONTROL, NTSTATUS, STATUS_BUFFER_OVERFLOW,
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_SUCCESS, layout,
};
use crate::selftest::{check, kernel_test};

const DRIVER: &str = "SquallClaim";

/// The card: QEMU's vendor, this project's device.
const CARD: (u16, u16) = (0x1234, 0x5153);

/// `CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`.
pub const IOCTL_SQUALL_CLAIM: u32 = FILE_DEVICE_UNKNOWN << 16 | 0x800 << 2;

/// What the control request answers with (`SQUALL_CLAIM`); the two resource lists follow it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Answer {
    /// Bytes of the whole answer, lists included.
    pub size: u32,
    /// 1.
    pub version: u32,
    /// The card's PDO: alive as long as the claim's device is open.
    pub physical_device_object: *mut DEVICE_OBJECT,
    /// Where the raw `CM_RESOURCE_LIST` begins, from the beginning of the answer.
    pub raw_offset: u32,
    /// Its length in bytes.
    pub raw_length: u32,
    /// Where the translated one begins.
    pub translated_offset: u32,
    /// Its length in bytes.
    pub translated_length: u32,
}
layout!(Answer, size 32, physical_device_object @ 8, raw_offset @ 16, translated_offset @ 24);

/// The claim's devices and the physical device objects that they own.
static CLAIMED: SpinLock<Vec<(usize, usize)>> = SpinLock::new(Vec::new());

/// What the card may interrupt with, by a word of the kernel's command line; the best that it has without one.
fn at_best(boot: &BootInfo) -> Interrupts {
    if boot.has_word("pci-interrupt=intx") {
        Interrupts::Line
    } else if boot.has_word("pci-interrupt=msi") {
        Interrupts::Message
    } else {
        Interrupts::MessageTable
    }
}

/// Adds the PCI bus to the tree, and claims each test card on it: the first one as `\Device\SquallClaim`, the others
/// with a number behind that, from 1.
///
/// # Errors
/// That of the objects that could not be made.
pub fn start(boot: &BootInfo) -> Result<(), NTSTATUS> {
    let at_best = at_best(boot);
    let is_card = |function: &Function| (function.vendor, function.device) == CARD;
    let cards = pci::enumerate(|function| is_card(function).then_some(at_best))?;
    for (number, (_, pdo)) in cards.into_iter().enumerate() {
        let number = if number == 0 { alloc::string::String::new() } else { format!("{number}") };
        claim(&utf16::encode(&format!("\\Device\\SquallClaim{number}")), pdo)?;
    }
    Ok(())
}

/// Makes a claim's device for a physical device object, on top of it.
fn claim(name: &[u16], pdo: *mut DEVICE_OBJECT) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let plan = Blueprint {
        extension: 0,
        name: Some(name),
        kind: FILE_DEVICE_UNKNOWN,
        characteristics: 0,
        exclusive: false,
    };
    let driver: *mut DRIVER_OBJECT = driver::builtin(DRIVER)?;
    // SAFETY: a builtin driver is never unloaded; both devices are new or the tree's own.
    unsafe {
        for major in [IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE] {
            (*driver).MajorFunction[usize::from(major)] = Some(succeed);
        }
        (*driver).MajorFunction[usize::from(IRP_MJ_INTERNAL_DEVICE_CONTROL)] = Some(control);
        let device = device::create(driver, plan)?;
        CLAIMED.lock().push((device.addr(), pdo.addr()));
        device::attach(device, pdo, |_| {});
        (*device).Flags &= !DO_DEVICE_INITIALIZING;
        Ok(device)
    }
}

/// Completes a packet.
///
/// # Safety
/// The packet is the caller's.
unsafe fn finish(packet: *mut IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        (*packet).IoStatus.Status = status;
        (*packet).IoStatus.Information = information;
        irp::IofCompleteRequest(packet, 0);
    }
    status
}

unsafe extern "win64" fn succeed(_device: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe { finish(packet, STATUS_SUCCESS, 0) }
}

/// The whole answer for a claim's device.
fn answer(device: usize) -> Option<Vec<u8>> {
    let pdo = CLAIMED.lock().iter().find(|(claim, _)| *claim == device)?.1;
    let description = pnp::description_of(pdo)?;
    let raw = pnp::resource_list(&description, &description.raw);
    let translated = pnp::resource_list(&description, &description.translated);
    let raw_at = size_of::<Answer>();
    // Each list where a list may begin: at a multiple of four is enough, eight is kind.
    let translated_at = (raw_at + raw.len()).next_multiple_of(8);
    let size = translated_at + translated.len();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend((size as u32).to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend((pdo as u64).to_le_bytes());
    for word in [raw_at, raw.len(), translated_at, translated.len()] {
        bytes.extend((word as u32).to_le_bytes());
    }
    bytes.extend(raw);
    bytes.resize(translated_at, 0);
    bytes.extend(translated);
    Some(bytes)
}

unsafe extern "win64" fn control(device: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's; its system buffer holds as much as its location says.
    unsafe {
        let [room, _, code, _] = (*(*packet).Tail.CurrentStackLocation).Parameters.0;
        let answer = if code as u32 == IOCTL_SQUALL_CLAIM { answer(device.addr()) } else { None };
        let Some(bytes) = answer else { return finish(packet, STATUS_INVALID_DEVICE_REQUEST, 0) };
        let to = (*packet).SystemBuffer.cast::<u8>();
        let room = room as u32 as usize;
        if to.is_null() || room < size_of::<Answer>() {
            return finish(packet, STATUS_BUFFER_TOO_SMALL, 0);
        }
        let fits = room >= bytes.len();
        let length = if fits { bytes.len() } else { size_of::<Answer>() };
        bytes.as_ptr().copy_to_nonoverlapping(to, length);
        finish(packet, if fits { STATUS_SUCCESS } else { STATUS_BUFFER_OVERFLOW }, length)
    }
}

kernel_test! {
    /// *Using Interrupt Resource Descriptors*, and the joint of the claim: a driver that opens the claim learns the
    /// PDO and both resource lists, and may attach on top of it.
    fn a_claim_hands_on_what_its_card_was_given() {
        use super::pnp::Description;
        use super::{attach, build, file, selftest};
        use crate::nt::{CM_PARTIAL_RESOURCE_DESCRIPTOR, FILE_OBJECT, IO_STATUS_BLOCK, UNICODE_STRING};
        use crate::ob;
        let port = CM_PARTIAL_RESOURCE_DESCRIPTOR::range(1, 1, 1, 0xC040, 32);
        let line = CM_PARTIAL_RESOURCE_DESCRIPTOR::interrupt(3, 0, 22, 22, 1);
        let seen = CM_PARTIAL_RESOURCE_DESCRIPTOR::interrupt(3, 0, 3, 0x36, 1);
        let description = Description {
            bus_type: 5, enumerator: "Test", raw: [port, line].into(), translated: [port, seen].into(),
            ..Description::default()
        };
        let name = utf16::encode(r"\Device\SelftestClaim");
        let pdo = pnp::add("PnpManager", Vec::new(), Vec::new(), description);
        let Some(pdo) = pdo.ok() else { check!(false); return Ok(()) };
        let Ok(device) = claim(&name, pdo) else { check!(false); return Ok(()) };
        let counted = UNICODE_STRING {
            Length: (name.len() * 2) as u16, MaximumLength: (name.len() * 2) as u16, Buffer: name.as_ptr().cast_mut(),
        };
        let (mut opened, mut top) = (core::ptr::null_mut::<FILE_OBJECT>(), core::ptr::null_mut::<DEVICE_OBJECT>());
        let mut buffer = [0u64; 32];
        // SAFETY: what is pointed at are locals and this test's own objects.
        unsafe {
            check!(file::IoGetDeviceObjectPointer(&raw const counted, 0, &raw mut opened, &raw mut top) == STATUS_SUCCESS);
            check!(top == device && (*pdo).AttachedDevice == device);
            let mut ask = |room: u32| {
                let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
                let packet = build::IoBuildDeviceIoControlRequest(
                    IOCTL_SQUALL_CLAIM, top, core::ptr::null_mut(), 0, buffer.as_mut_ptr().cast(), room, 1,
                    core::ptr::null_mut(), &raw mut status,
                );
                let returned = irp::IofCallDriver(top, packet);
                (returned, status.Information)
            };
            check!(ask(16).0 == STATUS_BUFFER_TOO_SMALL);
            check!(ask(40) == (STATUS_BUFFER_OVERFLOW, 32));
            let (status, length) = ask(256);
            let answer = buffer.as_ptr().cast::<Answer>().read();
            check!(status == STATUS_SUCCESS && length == answer.size as usize && answer.version == 1);
            check!(answer.physical_device_object == pdo && answer.raw_length == 60 && answer.translated_length == 60);
            let list = buffer.as_ptr().cast::<u8>().add(answer.translated_offset as usize).cast();
            let Ok(read) = super::resource::read_list(list) else { check!(false); return Ok(()) };
            check!(read.len() == 2 && read[1].raw.as_interrupt() == Some((3, 0x36, 1)));
            // A driver's own device on top of the claim's.
            let Ok((upper_driver, upper)) = selftest::start() else { check!(false); return Ok(()) };
            check!(attach::IoAttachDeviceToDeviceStack(upper, top) == device);
            attach::IoDetachDevice(device);
            device::delete(upper);
            selftest::stop(upper_driver)?;
            ob::dereference(opened.addr());
            device::detach(pdo);
            device::delete(device);
        }
        CLAIMED.lock().retain(|(claim, _)| *claim != device.addr());
    }
}
