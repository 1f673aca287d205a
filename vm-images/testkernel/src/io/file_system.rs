//! The volume `C:`, a file system in memory.
//!
//! What the host's agent uploads and fetches, drivers open as files, by `\??\C:\...` and `\SystemRoot\...`. To the I/O
//! manager the volume is a device like any other: a driver of the kernel's own answers the requests for it. Directories are made or
//! implied by the files in them; there is no list of what is in one, no time but that of the boot and those that are set, and no
//! extended attribute.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::files::{About, Entry, FileSystem, key_of};
use squall_testkernel_pure::utf16;

use super::device::{self, Blueprint};
use super::share_access::{self, ShareAccess};
use super::{driver, irp};
use crate::agent::FILES;
use crate::ke::clock;
use crate::ke::lock::SpinLock;
use crate::nt::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, FILE_OBJECT, IO_STACK_LOCATION, IRP,
    IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_FLUSH_BUFFERS, IRP_MJ_QUERY_INFORMATION, IRP_MJ_READ,
    IRP_MJ_SET_INFORMATION, IRP_MJ_WRITE, NTSTATUS, STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW,
    STATUS_CANNOT_DELETE, STATUS_DELETE_PENDING, STATUS_DISK_FULL, STATUS_END_OF_FILE,
    STATUS_FILE_IS_A_DIRECTORY, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_NOT_A_DIRECTORY,
    STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_NOT_FOUND, STATUS_SUCCESS, TRUE,
};
use crate::ob::names;

const VOLUME: &str = r"\Device\HarddiskVolume1";
/// `FILE_DEVICE_DISK_FILE_SYSTEM`.
const DISK_FILE_SYSTEM: u32 = 8;

/// What becomes of a file that is there, and of one that is not: the disposition of a create.
const SUPERSEDE: u32 = 0;
const OPEN: u32 = 1;
const CREATE: u32 = 2;
const OPEN_IF: u32 = 3;
const OVERWRITE: u32 = 4;
const OVERWRITE_IF: u32 = 5;

/// Options of a create.
const DIRECTORY_FILE: u32 = 0x1;
const NON_DIRECTORY_FILE: u32 = 0x40;
const DELETE_ON_CLOSE: u32 = 0x1000;

/// What a create tells: superseded, opened, created, overwritten.
const SUPERSEDED: usize = 0;
const OPENED: usize = 1;
const CREATED: usize = 2;
const OVERWRITTEN: usize = 3;

const ATTRIBUTE_DIRECTORY: u32 = 0x10;
const ATTRIBUTE_ARCHIVE: u32 = 0x20;
const ATTRIBUTE_READONLY: u32 = 0x1;
/// Stands for no other attribute.
const ATTRIBUTE_NORMAL: u32 = 0x80;
/// Read-only, hidden, system, directory, archive, normal, temporary, not content indexed: those that can be set.
const ATTRIBUTES: u32 = 0x21B7;

/// What the file object's context leads to.
struct Open {
    key: String,
    directory: bool,
    delete_on_close: bool,
    /// Opened for appending and nothing else.
    appends: bool,
}

/// What the openers of one file share.
#[derive(Default)]
struct Shared {
    access: ShareAccess,
    openers: usize,
    delete: bool,
}

static SHARED: SpinLock<BTreeMap<String, Shared>> = SpinLock::new(BTreeMap::new());

/// Makes the volume and its names.
///
/// # Errors
/// That of the objects that could not be made.
pub fn start() -> Result<(), NTSTATUS> {
    let name = utf16::encode(VOLUME);
    let plan = Blueprint {
        extension: 0,
        name: Some(&name),
        kind: DISK_FILE_SYSTEM,
        characteristics: 0,
        exclusive: false,
    };
    let driver = driver::builtin("SquallFs")?;
    // SAFETY: a builtin driver is never unloaded; the device is new.
    unsafe {
        let table: [(u8, Dispatch); 8] = [
            (IRP_MJ_CREATE, create),
            (IRP_MJ_CLEANUP, cleanup),
            (IRP_MJ_CLOSE, close),
            (IRP_MJ_READ, read),
            (IRP_MJ_WRITE, write),
            (IRP_MJ_FLUSH_BUFFERS, flush),
            (IRP_MJ_QUERY_INFORMATION, query),
            (IRP_MJ_SET_INFORMATION, set),
        ];
        for (major, routine) in table {
            (*driver).MajorFunction[usize::from(major)] = Some(routine);
        }
        let device = device::create(driver, plan)?;
        (*device).Flags |= DO_BUFFERED_IO;
        (*device).Flags &= !DO_DEVICE_INITIALIZING;
    }
    let links = [(r"\??\C:", VOLUME.into()), (r"\SystemRoot", format!(r"{VOLUME}\Windows"))];
    for (link, target) in links {
        let linked = names::with(|names| names.link(&utf16::encode(link), &utf16::encode(&target), 0));
        linked.map_err(names::status_of)?;
    }
    Ok(())
}

type Dispatch = unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;

/// How a request ends: with this many bytes, or whatever the request counts.
type Answer = Result<usize, NTSTATUS>;

/// Answers a packet.
///
/// # Safety
/// The packet is the volume's driver's.
unsafe fn answer(
    irp: *mut IRP,
    work: impl FnOnce(&IO_STACK_LOCATION, &mut FILE_OBJECT, *mut u8) -> Answer,
) -> NTSTATUS {
    // SAFETY: the caller's contract; every request for a volume has a file object.
    unsafe {
        let location = (*irp).Tail.CurrentStackLocation;
        let result = work(&*location, &mut *(*location).FileObject, (*irp).SystemBuffer.cast());
        let (status, information) = match result {
            Ok(information) => (STATUS_SUCCESS, information),
            Err(status) => (status, 0),
        };
        (*irp).IoStatus.Status = status;
        (*irp).IoStatus.Information = information;
        irp::IofCompleteRequest(irp, 0);
        status
    }
}

/// The driver's part of a file object.
fn opened(file: &FILE_OBJECT) -> Result<&'static Open, NTSTATUS> {
    // SAFETY: set by `create` to a box that `close` frees, and by nobody else; null for a file that was not opened.
    unsafe { file.FsContext.cast::<Open>().as_ref() }.ok_or(STATUS_INVALID_DEVICE_REQUEST)
}

fn parent_exists(files: &FileSystem, key: &str) -> bool {
    key.rsplit_once('\\').is_some_and(|(parent, _)| files.find(parent) == Some(Entry::Directory))
}

/// What a create does with what is there, and with a file that is read-only where its contents are to be changed; gives what it tells, and whether it is a directory.
fn place(
    files: &mut FileSystem,
    key: &str,
    disposition: u32,
    options: u32,
    changes: bool,
) -> Result<(usize, bool), NTSTATUS> {
    let wants_directory = options & DIRECTORY_FILE != 0;
    match files.find(key) {
        Some(Entry::Directory) if options & NON_DIRECTORY_FILE != 0 => Err(STATUS_FILE_IS_A_DIRECTORY),
        Some(Entry::File(_)) if wants_directory => Err(STATUS_NOT_A_DIRECTORY),
        Some(_) if disposition == CREATE => Err(STATUS_OBJECT_NAME_COLLISION),
        Some(Entry::Directory) => {
            let replaces = matches!(disposition, SUPERSEDE | OVERWRITE | OVERWRITE_IF);
            if replaces { Err(STATUS_OBJECT_NAME_COLLISION) } else { Ok((OPENED, true)) }
        }
        Some(Entry::File(_)) => {
            let is_read_only = files.about(key).attributes & ATTRIBUTE_READONLY != 0;
            if is_read_only && (disposition != OPEN && disposition != OPEN_IF || changes) {
                return Err(STATUS_ACCESS_DENIED);
            }
            let told = match disposition {
                SUPERSEDE => SUPERSEDED,
                OVERWRITE | OVERWRITE_IF => OVERWRITTEN,
                _ => OPENED,
            };
            if told != OPENED {
                files.make_file(key).map_err(|_| STATUS_DISK_FULL)?;
            }
            Ok((told, false))
        }
        None if !parent_exists(files, key) => Err(STATUS_OBJECT_PATH_NOT_FOUND),
        None if matches!(disposition, OPEN | OVERWRITE) => Err(STATUS_OBJECT_NAME_NOT_FOUND),
        None => {
            let made = if wants_directory { files.make_directory(key) } else { files.make_file(key) };
            made.map_err(|_| STATUS_DISK_FULL)?;
            Ok((CREATED, wants_directory))
        }
    }
}

fn do_create(location: &IO_STACK_LOCATION, file: &mut FILE_OBJECT) -> Answer {
    const FILE_APPEND_DATA: u32 = 4;
    const FILE_WRITE_DATA: u32 = 2;
    let [context, options, shares, _] = location.Parameters.0;
    let (disposition, options) = (options as u32 >> 24, options as u32 & 0xFF_FFFF);
    let share = (shares >> 16) as u32 & 0xFFFF;
    // SAFETY: `Parameters.Create.SecurityContext`, whose access mask is at 10h; the I/O manager always gives one.
    let desired = unsafe { core::ptr::with_exposed_provenance::<u32>(context as usize + 0x10).read() };
    if disposition > OVERWRITE_IF
        || options & (DIRECTORY_FILE | NON_DIRECTORY_FILE) == DIRECTORY_FILE | NON_DIRECTORY_FILE
    {
        return Err(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: the file object's own name.
    let mut name = utf16::display(unsafe { file.FileName.units() });
    // SAFETY: while it is being opened, a file's related one is an open file, of this volume.
    if let Some(related) = unsafe { file.RelatedFileObject.as_ref() } {
        let above = &opened(related)?.key;
        let above = above.strip_prefix("C:").unwrap_or(above);
        name = if name.is_empty() { above.into() } else { format!("{above}\\{name}") };
    }
    let key = key_of(&format!("C:{name}")).map_err(|_| STATUS_OBJECT_NAME_INVALID)?;
    // Without a name it is the volume itself that is opened, which is no directory to whoever opens it so.
    let is_volume = name.is_empty() && file.RelatedFileObject.is_null();
    let options = if is_volume { options & !NON_DIRECTORY_FILE } else { options };
    let changes = desired & (FILE_APPEND_DATA | FILE_WRITE_DATA) != 0;
    let mut all = SHARED.lock();
    let shared = all.entry(key.clone()).or_default();
    let result = if shared.delete {
        Err(STATUS_DELETE_PENDING)
    } else {
        share_access::check(file, desired, share, &mut shared.access, shared.openers == 0)
            .and_then(|()| place(&mut FILES.lock(), &key, disposition, options, changes))
    };
    match result {
        Ok((told, directory)) => {
            shared.openers += 1;
            let open = Open {
                key,
                directory,
                delete_on_close: options & DELETE_ON_CLOSE != 0,
                appends: desired & (FILE_APPEND_DATA | FILE_WRITE_DATA) == FILE_APPEND_DATA,
            };
            file.FsContext = Box::into_raw(Box::new(open)).cast();
            Ok(told)
        }
        Err(status) => {
            if !matches!(status, crate::nt::STATUS_SHARING_VIOLATION | STATUS_DELETE_PENDING) {
                share_access::forget(file, &mut shared.access);
            }
            if shared.openers == 0 {
                all.remove(&key);
            }
            Err(status)
        }
    }
}

unsafe extern "win64" fn create(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, |location, file, _| do_create(location, file)) }
}

unsafe extern "win64" fn cleanup(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |file: &mut FILE_OBJECT| {
        let open = opened(file)?;
        let mut all = SHARED.lock();
        if let Some(shared) = all.get_mut(&open.key) {
            share_access::forget(file, &mut shared.access);
            shared.openers -= 1;
            shared.delete |= open.delete_on_close;
            if shared.openers == 0 {
                if shared.delete {
                    FILES.lock().remove(&open.key);
                }
                all.remove(&open.key);
            }
        }
        Ok(0)
    };
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, |_, file, _| work(file)) }
}

unsafe extern "win64" fn close(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |file: &mut FILE_OBJECT| {
        let context = core::mem::replace(&mut file.FsContext, core::ptr::null_mut()).cast::<Open>();
        if !context.is_null() {
            // SAFETY: made as a box by `create`; the file is used no more.
            drop(unsafe { Box::from_raw(context) });
        }
        Ok(0)
    };
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, |_, file, _| work(file)) }
}

unsafe extern "win64" fn flush(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, |_, file, _| opened(file).map(|_| 0)) }
}

/// Moves the position of a file on which requests come one after another.
fn advance(file: &mut FILE_OBJECT, end: usize) {
    if file.Flags & crate::nt::FO_SYNCHRONOUS_IO != 0 {
        file.CurrentByteOffset = end as i64;
    }
}

unsafe extern "win64" fn read(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |location: &IO_STACK_LOCATION, file: &mut FILE_OBJECT, to: *mut u8| {
        let open = opened(file)?;
        let [length, _, offset, _] = location.Parameters.0;
        if open.directory {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let offset = usize::try_from(offset.cast_signed()).map_err(|_| STATUS_INVALID_PARAMETER)?;
        let bytes = FILES.lock().read_at(&open.key, offset, length as u32 as usize);
        if bytes.is_empty() && length as u32 > 0 {
            return Err(STATUS_END_OF_FILE);
        }
        // SAFETY: buffered: the buffer is as long as the request.
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(to, bytes.len()) };
        advance(file, offset + bytes.len());
        Ok(bytes.len())
    };
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, work) }
}

unsafe extern "win64" fn write(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |location: &IO_STACK_LOCATION, file: &mut FILE_OBJECT, from: *mut u8| {
        let open = opened(file)?;
        let [length, _, offset, _] = location.Parameters.0;
        if open.directory {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let length = length as u32 as usize;
        let data: Vec<u8> = if length == 0 {
            Vec::new()
        } else {
            // SAFETY: buffered: the buffer is as long as the request.
            unsafe { core::slice::from_raw_parts(from, length) }.to_vec()
        };
        let mut files = FILES.lock();
        // FILE_WRITE_TO_END_OF_FILE
        let at_end = open.appends || offset == u64::MAX;
        let offset = match files.find(&open.key) {
            Some(Entry::File(size)) if at_end => size,
            _ => usize::try_from(offset.cast_signed()).map_err(|_| STATUS_INVALID_PARAMETER)?,
        };
        files.write_at(&open.key, offset, &data).map_err(|_| STATUS_DISK_FULL)?;
        drop(files);
        advance(file, offset + length);
        Ok(length)
    };
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, work) }
}

/// Classes of information.
mod class {
    pub const BASIC: u32 = 4;
    pub const STANDARD: u32 = 5;
    pub const INTERNAL: u32 = 6;
    pub const EA: u32 = 7;
    pub const NAME: u32 = 9;
    pub const DISPOSITION: u32 = 13;
    pub const POSITION: u32 = 14;
    pub const ALL: u32 = 18;
    pub const ALLOCATION: u32 = 19;
    pub const END_OF_FILE: u32 = 20;
    pub const NETWORK_OPEN: u32 = 34;
    pub const ATTRIBUTE_TAG: u32 = 35;
}

/// A number by which files are told apart.
fn index_number(key: &str) -> u64 {
    key.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |number, byte| (number ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// What there is to know of an open file; the length below which a buffer is too short for it.
fn describe(open: &Open, file: &FILE_OBJECT, class: u32) -> Result<(Vec<u8>, usize), NTSTATUS> {
    let size = match FILES.lock().find(&open.key) {
        Some(Entry::File(size)) => size as u64,
        _ => 0,
    };
    let about = FILES.lock().about(&open.key);
    let allocated = size.max(about.allocated).next_multiple_of(4096);
    let kind = if open.directory { ATTRIBUTE_DIRECTORY } else { 0 };
    let attributes = match about.attributes {
        0 if open.directory => ATTRIBUTE_DIRECTORY,
        0 => ATTRIBUTE_ARCHIVE,
        set => set | kind,
    };
    let times = about.times.map(|time| if time == 0 { clock::system_time_at_boot() } else { time });
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let fixed = |bytes: Vec<u8>| {
        let length = bytes.len();
        Ok((bytes, length))
    };
    match class {
        class::BASIC => fixed(words(&[&times[..], &[attributes.into()]].concat())),
        class::STANDARD => {
            let delete = SHARED.lock().get(&open.key).is_some_and(|shared| shared.delete);
            let flags = 1 | u64::from(delete) << 32 | u64::from(open.directory) << 40;
            fixed(words(&[allocated, size, flags]))
        }
        class::NAME => {
            // SAFETY: the file object's own name; one that was opened relative to another has only the rest of it.
            let mut name = unsafe { file.FileName.units() }.to_vec();
            if name.first() != Some(&u16::from(b'\\')) {
                name = utf16::encode(open.key.strip_prefix("C:").unwrap_or(&open.key));
            }
            let name: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            Ok(([&(name.len() as u32).to_le_bytes()[..], &name].concat(), 8))
        }
        class::INTERNAL => fixed(words(&[index_number(&open.key)])),
        class::EA => fixed(0_u32.to_le_bytes().into()),
        class::ATTRIBUTE_TAG => fixed(words(&[attributes.into()])),
        class::ALL => {
            let part = |class| describe(open, file, class).map(|(bytes, _)| bytes);
            let mut all =
                [part(class::BASIC)?, part(class::STANDARD)?, part(class::INTERNAL)?, part(class::EA)?]
                    .concat();
            // Access, mode and alignment are the I/O manager's to fill in.
            all.extend(0_u32.to_le_bytes());
            all.extend(file.CurrentByteOffset.to_le_bytes());
            all.extend([0; 8]);
            all.extend(part(class::NAME)?);
            Ok((all, 104))
        }
        class::POSITION => fixed(words(&[file.CurrentByteOffset.cast_unsigned()])),
        class::NETWORK_OPEN => fixed(words(&[&times[..], &[allocated, size, attributes.into()]].concat())),
        _ => Err(STATUS_INVALID_INFO_CLASS),
    }
}

unsafe extern "win64" fn query(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let mut overflow = false;
    let mut work = |location: &IO_STACK_LOCATION, file: &mut FILE_OBJECT, to: *mut u8| {
        let [length, class, ..] = location.Parameters.0;
        let (bytes, least) = describe(opened(file)?, file, class as u32)?;
        let room = length as u32 as usize;
        if room < least {
            return Err(STATUS_INFO_LENGTH_MISMATCH);
        }
        overflow = room < bytes.len();
        let count = bytes.len().min(room);
        // SAFETY: buffered: the buffer is as long as the request.
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(to, count) };
        Ok(count)
    };
    // SAFETY: the packet is this routine's; it is not complete before its status is changed.
    unsafe {
        let location = (*irp).Tail.CurrentStackLocation;
        let result = work(&*location, &mut *(*location).FileObject, (*irp).SystemBuffer.cast());
        let status = match result {
            Ok(_) if overflow => STATUS_BUFFER_OVERFLOW,
            Ok(_) => STATUS_SUCCESS,
            Err(status) => status,
        };
        (*irp).IoStatus.Status = status;
        (*irp).IoStatus.Information = result.unwrap_or(0);
        irp::IofCompleteRequest(irp, 0);
        status
    }
}

/// FILE_BASIC_INFORMATION: a time of 0 or -1 leaves that time as it is, and so do attributes of 0.
fn change_basic(open: &Open, [create, access, write, change, attributes]: [u64; 5]) -> Answer {
    let attributes = attributes as u32;
    let is_other_kind = attributes & ATTRIBUTE_DIRECTORY != 0 && !open.directory;
    if is_other_kind || [create, access, write, change].iter().any(|time| time.cast_signed() < -2) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let mut files = FILES.lock();
    let mut about = files.about(&open.key);
    for (kept, time) in about.times.iter_mut().zip([create, access, write, change]) {
        if time.cast_signed() > 0 {
            *kept = time;
        }
    }
    if attributes != 0 {
        let others = attributes & ATTRIBUTES & !(ATTRIBUTE_NORMAL | ATTRIBUTE_DIRECTORY);
        about.attributes = if others == 0 { ATTRIBUTE_NORMAL } else { others };
    }
    files.set_about(&open.key, about);
    Ok(0)
}

fn change(open: &Open, file: &mut FILE_OBJECT, class: u32, values: [u64; 5]) -> Answer {
    let [value, ..] = values;
    let length = || usize::try_from(value.cast_signed()).map_err(|_| STATUS_INVALID_PARAMETER);
    match class {
        class::BASIC => return change_basic(open, values),
        class::POSITION => file.CurrentByteOffset = length()? as i64,
        class::DISPOSITION => {
            let delete = value & 0xFF != 0;
            if delete && open.directory && !is_empty(&open.key) {
                return Err(STATUS_CANNOT_DELETE);
            }
            if delete && FILES.lock().about(&open.key).attributes & ATTRIBUTE_READONLY != 0 {
                return Err(STATUS_CANNOT_DELETE);
            }
            if let Some(shared) = SHARED.lock().get_mut(&open.key) {
                shared.delete = delete;
            }
            file.DeletePending = if delete { TRUE } else { 0 };
        }
        class::END_OF_FILE if open.directory => return Err(STATUS_INVALID_PARAMETER),
        class::END_OF_FILE => FILES.lock().set_length(&open.key, length()?).map_err(|_| STATUS_DISK_FULL)?,
        class::ALLOCATION => {
            let mut files = FILES.lock();
            let about = About { allocated: length()? as u64, ..files.about(&open.key) };
            files.set_about(&open.key, about);
            if let Some(Entry::File(size)) = files.find(&open.key)
                && length()? < size
            {
                files.set_length(&open.key, length()?).map_err(|_| STATUS_DISK_FULL)?;
            }
        }
        _ => return Err(STATUS_INVALID_INFO_CLASS),
    }
    Ok(0)
}

/// Whether a directory can go: it was made, and nothing is in it.
fn is_empty(key: &str) -> bool {
    let mut files = FILES.lock();
    let about = files.about(key);
    files.remove(key) && files.make_directory(key).is_ok() && {
        files.set_about(key, about);
        true
    }
}

unsafe extern "win64" fn set(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |location: &IO_STACK_LOCATION, file: &mut FILE_OBJECT, from: *mut u8| {
        let [length, class, ..] = location.Parameters.0;
        let (length, class) = (length as u32 as usize, class as u32);
        let least = match class {
            class::BASIC => 40,
            class::DISPOSITION => 1,
            _ => 8,
        };
        if length < least {
            return Err(STATUS_INFO_LENGTH_MISMATCH);
        }
        let mut values = [0_u64; 5];
        // SAFETY: buffered: the buffer is as long as the request.
        unsafe { from.copy_to_nonoverlapping(values.as_mut_ptr().cast(), length.min(40)) };
        change(opened(file)?, file, class, values)
    };
    // SAFETY: the packet is this routine's.
    unsafe { answer(irp, work) }
}
