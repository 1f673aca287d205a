//! What the host has open: files of the memory file system, and devices under `\\.\NAME`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::files::OpenFile;
use squall_testkernel_pure::agent::protocol::ProtocolError;
use squall_testkernel_pure::utf16;

use super::FILES;
use crate::io::file::File;
use crate::nt::NTSTATUS;

const MAX_HANDLES: usize = 64;
/// How a program names a device.
const DEVICE_PREFIX: &str = r"\\.\";

enum Open {
    File(OpenFile),
    Device(File),
}

/// Everything open, by handle.
#[derive(Default)]
pub struct Handles {
    open: BTreeMap<i64, Open>,
    last: i64,
}

impl Handles {
    /// Opens a file or device; gives its handle.
    pub fn open(&mut self, path: &str, mode: &str) -> Result<i64, ProtocolError> {
        if self.open.len() == MAX_HANDLES {
            return Err(ProtocolError::generic(format_args!(
                "{path}: {MAX_HANDLES} handles are open, close one"
            )));
        }
        let open = match path.strip_prefix(DEVICE_PREFIX) {
            Some(name) => Open::Device(open_device(name, mode)?),
            None => Open::File(FILES.lock().open(path, mode).map_err(ProtocolError::generic)?),
        };
        self.last += 1;
        self.open.insert(self.last, open);
        Ok(self.last)
    }

    /// Closes a handle.
    pub fn close(&mut self, handle: i64) -> Result<(), ProtocolError> {
        self.open.remove(&handle).map(drop).ok_or_else(|| unknown(handle))
    }

    /// Reads up to `count` bytes, and says whether they reach the end; a device has none.
    pub fn read(&mut self, handle: i64, count: usize) -> Result<(Vec<u8>, bool), ProtocolError> {
        match self.find(handle)? {
            Open::File(file) => FILES.lock().read(file, count).map_err(ProtocolError::generic),
            Open::Device(file) => {
                let bytes = file.read(count).map_err(|status| failed("read", handle, status))?;
                Ok((bytes, false))
            }
        }
    }

    /// Writes `bytes`; gives how many were taken.
    pub fn write(&mut self, handle: i64, bytes: &[u8]) -> Result<usize, ProtocolError> {
        match self.find(handle)? {
            Open::File(file) => {
                FILES.lock().write(file, bytes).map_err(ProtocolError::generic)?;
                Ok(bytes.len())
            }
            Open::Device(file) => file.write(bytes).map_err(|status| failed("write", handle, status)),
        }
    }

    /// Checks that there is such a handle: nothing is buffered.
    pub fn flush(&mut self, handle: i64) -> Result<(), ProtocolError> {
        self.find(handle).map(|_| ())
    }

    fn find(&mut self, handle: i64) -> Result<&mut Open, ProtocolError> {
        self.open.get_mut(&handle).ok_or_else(|| unknown(handle))
    }
}

fn open_device(name: &str, mode: &str) -> Result<File, ProtocolError> {
    let (read, write) = match mode.trim_end_matches('b') {
        "r" => (true, false),
        "w" | "a" => (false, true),
        "r+" | "w+" | "a+" | "rb+" | "wb+" | "ab+" => (true, true),
        _ => return Err(ProtocolError::generic(format_args!("{mode}: not a mode that fopen knows"))),
    };
    let mut path = utf16::encode(r"\??\");
    path.extend(name.encode_utf16());
    File::open(&path, read, write).map_err(|status| {
        ProtocolError::generic(format_args!("{DEVICE_PREFIX}{name}: cannot be opened, {status}"))
    })
}

fn unknown(handle: i64) -> ProtocolError {
    ProtocolError::generic(format_args!("handle {handle} is not open"))
}

fn failed(what: &str, handle: i64, status: NTSTATUS) -> ProtocolError {
    ProtocolError::generic(format_args!("{what} on handle {handle} failed, {status}"))
}
