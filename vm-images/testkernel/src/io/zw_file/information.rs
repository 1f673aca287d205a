//! What is known of a file, asked and set.

use super::super::build;
use super::super::file::Opening;
use super::open::open;
use super::{NOT_ALERTED, Referenced, Turn, send_and_wait};
use crate::ldr::export::export;
use crate::nt::{
    FILE_OBJECT, HANDLE, IO_STATUS_BLOCK, IRP_MJ_QUERY_INFORMATION, IRP_MJ_QUERY_VOLUME_INFORMATION,
    IRP_MJ_SET_INFORMATION, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_BUFFER_OVERFLOW,
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::handle;

/// Classes of information, and how many bytes each takes at least.
mod class {
    use super::{NTSTATUS, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS};

    pub const ACCESS: u32 = 8;
    pub const POSITION: u32 = 14;
    pub const MODE: u32 = 16;
    pub const ALIGNMENT: u32 = 17;
    pub const ALL: u32 = 18;
    /// With its size.
    pub const NETWORK_OPEN: (u32, u32) = (34, 56);

    /// Basic, standard, internal, EA, access, name, position, mode, alignment, all, alternate name, stream, pipe and mailslot ones,
    /// compression, object id, reparse point, network open, attribute tag.
    pub const QUERIED: &[(u32, u32)] = &[
        (4, 40),
        (5, 24),
        (6, 8),
        (7, 4),
        (ACCESS, 4),
        (9, 8),
        (POSITION, 8),
        (MODE, 4),
        (ALIGNMENT, 4),
        (ALL, 104),
        (21, 8),
        (22, 32),
        (23, 8),
        (24, 40),
        (25, 16),
        (26, 24),
        (28, 16),
        (29, 72),
        (33, 16),
        (34, 56),
        (35, 8),
    ];
    /// Basic, rename, link, disposition, position, mode, allocation, end of file, pipe and mailslot ones, object id, completion, move
    /// cluster, quota, reparse point, valid data length, short name.
    pub const SET: &[(u32, u32)] = &[
        (4, 40),
        (10, 24),
        (11, 24),
        (13, 1),
        (POSITION, 8),
        (MODE, 4),
        (19, 8),
        (20, 8),
        (23, 8),
        (25, 16),
        (27, 8),
        (29, 72),
        (30, 16),
        (31, 24),
        (39, 8),
        (40, 8),
    ];

    /// Whether so many bytes will do.
    pub fn has_room(classes: &[(u32, u32)], class: u32, length: u32) -> Result<(), NTSTATUS> {
        match classes.iter().find(|(known, _)| *known == class) {
            None => Err(STATUS_INVALID_INFO_CLASS),
            Some((_, least)) if length < *least => Err(STATUS_INFO_LENGTH_MISMATCH),
            Some(_) => Ok(()),
        }
    }
}

/// Asks for information, or sets it; waits for it, as such requests do on every handle.
///
/// # Safety
/// Buffer and `status` must be valid until the request has ended.
unsafe fn inform(
    file: &Referenced,
    major: u8,
    data: (PVOID, u32),
    class: u32,
    status: *mut IO_STATUS_BLOCK,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        send_and_wait(file, status, |event, block| {
            Ok(build::information_for_file(major, file.device(), data, class, event, block))
        })
    }
}

/// A file of which a class of information is asked, or set, and its turn; the class has to be one of these, and to have room.
fn opened_for(
    handle: HANDLE,
    classes: &[(u32, u32)],
    class: u32,
    length: u32,
) -> Result<(Referenced, Option<Turn>), NTSTATUS> {
    let file = Referenced::of(handle)?;
    class::has_room(classes, class, length)?;
    let turn = Turn::take(&file);
    Ok((file, turn))
}

export! {
    /// *ZwQueryInformationFile function (wdm.h)*: position, mode, access and alignment are the I/O manager's own to tell; all else is
    /// the driver's. STATUS_INFO_LENGTH_MISMATCH where the buffer is too short for the class.
    pub unsafe extern "win64" fn ZwQueryInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        let (file, _turn) = match opened_for(handle, class::QUERIED, class, length) {
            Ok(opened) => opened,
            Err(status) => return status,
        };
        let granted = handle::object(handle).map_or(0, |(_, granted)| granted);
        // SAFETY: the caller's; there is room for the class.
        unsafe {
            let number = match class {
                class::POSITION if file.is_synchronous() => {
                    information.cast::<i64>().write_unaligned((*file.0).CurrentByteOffset);
                    status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 8));
                    return STATUS_SUCCESS;
                }
                class::ACCESS => granted,
                class::MODE => file.mode(),
                class::ALIGNMENT => (*file.device()).AlignmentRequirement,
                class::ALL => {
                    let told = inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, status);
                    if told.is_success() || told == STATUS_BUFFER_OVERFLOW {
                        // Where FILE_ALL_INFORMATION has what is not the driver's.
                        let alignment = (*file.device()).AlignmentRequirement;
                        for (offset, own) in [(76, granted), (88, file.mode()), (92, alignment)] {
                            information.byte_add(offset).cast::<u32>().write_unaligned(own);
                        }
                    }
                    return told;
                }
                _ => return inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, status),
            };
            information.cast::<u32>().write_unaligned(number);
            status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 4));
            STATUS_SUCCESS
        }
    }

    /// *ZwQueryFullAttributesFile function (wdm.h)*: FILE_NETWORK_OPEN_INFORMATION of a file by its name.
    pub unsafe extern "win64" fn ZwQueryFullAttributesFile(
        attributes: *const OBJECT_ATTRIBUTES,
        information: PVOID,
    ) -> NTSTATUS {
        /// `FILE_READ_ATTRIBUTES`.
        const READ_ATTRIBUTES: u32 = 0x80;
        let opening = Opening::existing(READ_ATTRIBUTES, 7, NOT_ALERTED);
        let mut handle = core::ptr::null_mut();
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        // SAFETY: the caller's attributes and storage; the rest are locals.
        unsafe {
            let opened = open(&raw mut handle, attributes, &raw mut status, &opening);
            if !opened.is_success() {
                return opened;
            }
            let (class, size) = class::NETWORK_OPEN;
            let told = ZwQueryInformationFile(handle, &raw mut status, information, size, class);
            let _ = handle::close(handle);
            told
        }
    }

    /// *IoQueryFileInformation function (ntifs.h)*: as ZwQueryInformationFile, of a file object.
    pub unsafe extern "win64" fn IoQueryFileInformation(
        file: *mut FILE_OBJECT,
        class: u32,
        length: u32,
        information: PVOID,
        returned: *mut u32,
    ) -> NTSTATUS {
        if let Err(status) = class::has_room(class::QUERIED, class, length) {
            return status;
        }
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        ob::reference(file.addr());
        let file = Referenced(file);
        let _turn = Turn::take(&file);
        // SAFETY: the caller refers to the file, and gives a buffer of that length and storage for the length.
        unsafe {
            let told = inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, &raw mut status);
            returned.write(status.Information as u32);
            told
        }
    }

    /// *ZwSetInformationFile function (wdm.h)*: the position is the I/O manager's own; all else is the driver's to change.
    /// STATUS_INFO_LENGTH_MISMATCH where there is too little for the class.
    pub unsafe extern "win64" fn ZwSetInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        let (file, _turn) = match opened_for(handle, class::SET, class, length) {
            Ok(opened) => opened,
            Err(status) => return status,
        };
        // SAFETY: the caller's; there are as many bytes as the class takes.
        unsafe {
            if class == class::POSITION && file.is_synchronous() {
                let position = information.cast::<i64>().read_unaligned();
                if position < 0 {
                    return STATUS_INVALID_PARAMETER;
                }
                (*file.0).CurrentByteOffset = position;
                status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0));
                return STATUS_SUCCESS;
            }
            inform(&file, IRP_MJ_SET_INFORMATION, (information, length), class, status)
        }
    }

    /// *ZwQueryVolumeInformationFile function (ntifs.h)*: what kind of device it is the I/O manager tells itself; all else is the driver's.
    pub unsafe extern "win64" fn ZwQueryVolumeInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        /// `FileFsDeviceInformation`, and the bytes that it takes.
        const DEVICE: u32 = 4;
        const DEVICE_SIZE: u32 = 8;
        let file = match Referenced::of(handle) {
            Ok(file) => file,
            Err(status) => return status,
        };
        let _turn = Turn::take(&file);
        // SAFETY: the caller's; there is room for the class.
        unsafe {
            if class != DEVICE {
                return inform(&file, IRP_MJ_QUERY_VOLUME_INFORMATION, (information, length), class, status);
            }
            if length < DEVICE_SIZE {
                return STATUS_INFO_LENGTH_MISMATCH;
            }
            let device = &*(*file.0).DeviceObject;
            information.cast::<[u32; 2]>().write_unaligned([device.DeviceType, device.Characteristics]);
            status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, DEVICE_SIZE as usize));
            STATUS_SUCCESS
        }
    }
}
