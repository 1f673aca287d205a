//! Driver objects: loading a service's driver, and what is kept of it.
//!
//! A driver object lives as long as its devices do. When it goes, its image goes with it: a driver whose Unload leaves a
//! device object behind therefore stays in memory for ever, a zombie that can neither run nor be loaded again. That is
//! Windows' own behaviour, and one of the things that a test of Unload has to notice.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use squall_testkernel_pure::agent::answers::Finding;
use squall_testkernel_pure::agent::files::file_name;
use squall_testkernel_pure::utf16;

use super::{device, extension, irp, reinitialize};
use crate::cm;
use crate::ex::pool;
use crate::ke::lock::SpinLock;
use crate::ke::{call, dpc};
use crate::ldr::image::{Image, LoadError};
use crate::ldr::inject::Watch;
use crate::mm::module_list;
use crate::nt::{
    DRIVER_EXTENSION, DRIVER_OBJECT, DRVO_BUILTIN_DRIVER, DRVO_LEGACY_DRIVER, DriverInitialize, DriverUnload,
    IRP_MJ_COUNT, NTSTATUS, STATUS_IMAGE_ALREADY_LOADED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_OBJECT_NAME_COLLISION, UNICODE_STRING, io_type,
};
use crate::ob::types::Kind;
use crate::ob::{self, names};
use crate::{ps, vf};

const HARDWARE: &str = r"\REGISTRY\MACHINE\HARDWARE\DESCRIPTION\SYSTEM";

/// Images, by the address of their driver's object.
static IMAGES: SpinLock<BTreeMap<usize, Image>> = SpinLock::new(BTreeMap::new());
/// The kernel's own driver objects: the plug and play manager's, the buses', the claim's. They are never unloaded.
static BUILTIN: SpinLock<BTreeMap<&'static str, usize>> = SpinLock::new(BTreeMap::new());

/// Why a driver was not loaded.
#[derive(Debug)]
pub enum Refusal {
    /// The file is not an image that can run here.
    Image(LoadError),
    /// No driver object could be made for it.
    Status(NTSTATUS),
    /// The driver's own DriverEntry said so.
    Entry {
        /// What it returned.
        status: NTSTATUS,
        /// What it had and did not give back.
        findings: Vec<Finding>,
    },
}

/// A driver that DriverEntry has set up, described.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Address of the driver object.
    pub object: usize,
    /// The image's file name.
    pub name: String,
    /// The image's addresses.
    pub range: Range<u64>,
    /// Address of DriverEntry.
    pub entry: u64,
    /// Unload, as DriverEntry left it.
    pub unload: Option<DriverUnload>,
}

/// A counted string whose buffer lies in the driver object's own block.
struct Strings {
    at: *mut u16,
}

impl Strings {
    /// Copies `text` into the zeroed block, with room for the terminator that Windows leaves there too.
    ///
    /// # Safety
    /// The block must have room for it.
    unsafe fn place(&mut self, text: &[u16]) -> UNICODE_STRING {
        let bytes = (text.len() * 2) as u16;
        let buffer = self.at;
        // SAFETY: the caller's contract.
        unsafe { text.as_ptr().copy_to_nonoverlapping(buffer, text.len()) };
        self.at = self.at.wrapping_add(text.len() + 1);
        UNICODE_STRING { Length: bytes, MaximumLength: bytes + 2, Buffer: buffer }
    }
}

/// Makes a driver object named `\Driver\service`.
pub fn create(service: &str, flags: u32) -> Result<*mut DRIVER_OBJECT, NTSTATUS> {
    let name = utf16::encode(&alloc::format!("\\Driver\\{service}"));
    let key = utf16::encode(service);
    let hardware = utf16::encode(HARDWARE);
    let extension_at = size_of::<DRIVER_OBJECT>();
    let hardware_at = extension_at + size_of::<DRIVER_EXTENSION>();
    let strings_at = hardware_at + size_of::<UNICODE_STRING>();
    let size = strings_at + 2 * (name.len() + key.len() + hardware.len() + 3);
    let block = pool::allocate_zeroed(size, *b"Driv").ok_or(STATUS_INSUFFICIENT_RESOURCES)?.as_ptr();
    let driver = block.cast::<DRIVER_OBJECT>();
    let extension = block.wrapping_add(extension_at).cast::<DRIVER_EXTENSION>();
    let hardware_string = block.wrapping_add(hardware_at).cast::<UNICODE_STRING>();
    let mut strings = Strings { at: block.wrapping_add(strings_at).cast() };
    // SAFETY: the block is zeroed, which is valid for the structures in it, and has room for them and the strings.
    unsafe {
        let object = &mut *driver;
        object.Type = io_type::DRIVER;
        object.Size = size_of::<DRIVER_OBJECT>() as i16;
        object.Flags = flags;
        object.DriverExtension = extension;
        object.DriverName = strings.place(&name);
        object.MajorFunction = [Some(irp::invalid_request); IRP_MJ_COUNT];
        object.HardwareDatabase = hardware_string;
        *hardware_string = strings.place(&hardware);
        (*extension).DriverObject = driver;
        (*extension).ServiceKeyName = strings.place(&key);
    }
    let address = driver.expose_provenance();
    if let Err(error) = names::with(|names| names.insert(&name, address)) {
        pool::free(address, 0);
        // The object of an earlier load is still there: loaded, or unloaded and kept by what it left behind.
        return Err(match names::status_of(error) {
            STATUS_OBJECT_NAME_COLLISION => STATUS_IMAGE_ALREADY_LOADED,
            status => status,
        });
    }
    ob::insert(address, Kind::Driver, delete);
    Ok(driver)
}

/// The last reference is gone: the image goes.
fn delete(address: usize) {
    names::with(|names| names.remove(|object| object == address));
    extension::forget(address);
    let image = IMAGES.lock().remove(&address);
    if let Some(image) = image {
        vf::unload::before_image_goes(&image.range());
        // As Windows does: a DPC of the driver's that is queued or running is let out of the image first.
        dpc::flush_all();
        image.unload();
    }
    pool::free(address, 0);
}

/// A driver object of the kernel's own, `\Driver\name`, made when it is first asked for.
pub fn builtin(name: &'static str) -> Result<*mut DRIVER_OBJECT, NTSTATUS> {
    let known = BUILTIN.lock().get(name).copied();
    if let Some(address) = known {
        return Ok(core::ptr::with_exposed_provenance_mut(address));
    }
    let driver = create(name, DRVO_BUILTIN_DRIVER)?;
    BUILTIN.lock().insert(name, driver.addr());
    Ok(driver)
}

/// Loads `file`, which lies at `path`, as the driver of `service` and runs its DriverEntry on this thread, which is a system thread; where `watch`
/// is given, over it.
pub fn load(service: &str, path: &str, file: &[u8], watch: Option<&Arc<Watch>>) -> Result<Loaded, Refusal> {
    let image = Image::load(file, file_name(path), watch).map_err(Refusal::Image)?;
    let driver = match create(service, DRVO_LEGACY_DRIVER) {
        Ok(driver) => driver,
        Err(status) => {
            image.unload();
            return Err(Refusal::Status(status));
        }
    };
    let (name, range, entry_address) = (image.name().into(), image.range(), image.entry());
    // SAFETY: the entry point was checked to lie in an executable section; what it does is the driver's affair.
    let entry = unsafe { core::mem::transmute::<u64, DriverInitialize>(entry_address) };
    // SAFETY: the object is new, and nobody else has it.
    unsafe {
        (*driver).DriverStart = core::ptr::with_exposed_provenance_mut(image.base() as usize);
        (*driver).DriverSize = image.size();
        (*driver).DriverInit = Some(entry);
        (*driver).DriverSection = core::ptr::with_exposed_provenance_mut(module_list::entry_of(image.base()));
    }
    IMAGES.lock().insert(driver.addr(), image);
    ps::notify::image_is_loaded(&alloc::format!(r"\??\{path}"), &range);
    // Only lent: the I/O manager takes the path back when DriverEntry returns. Windows' has a terminator too.
    let mut path: Vec<u16> = cm::service_path(service);
    let bytes = (path.len() * 2) as u16;
    path.push(0);
    let mut path_string =
        UNICODE_STRING { Length: bytes, MaximumLength: bytes + 2, Buffer: path.as_mut_ptr() };
    // SAFETY: the driver's entry point, with what its documentation promises.
    let mut enter = || unsafe { entry(driver, &raw mut path_string) };
    let books = vf::entries::Snapshot::take();
    let status = match watch {
        Some(watch) => watch.over(&mut enter),
        None => enter(),
    };
    vf::entries::entry_returned(driver.addr(), &books);
    call::returned(entry as usize, driver.addr());
    let mut loaded = Loaded { object: driver.addr(), name, range, entry: entry_address, unload: None };
    if !status.is_success() {
        reinitialize::forget(driver.addr());
        // Windows calls no Unload after a failed DriverEntry: what is there now stays.
        let findings = vf::findings::left_behind(&loaded);
        ob::dereference(driver.addr());
        return Err(Refusal::Entry { status, findings });
    }
    // SAFETY: the driver object is alive: its first reference is given up by unload only.
    loaded.unload = unsafe {
        device::initialized(driver);
        reinitialize::run(driver);
        (*driver).DriverUnload
    };
    Ok(loaded)
}
