//! Reads, writes and control requests: by a packet, or past it.

use core::ptr::NonNull;

use super::super::{build, irp, under_way};
use super::{Referenced, Turn, event_of, hand_over, send_and_wait};
use crate::ke::event;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, FILE_OBJECT, FO_WRITE_THROUGH, HANDLE, IO_STATUS_BLOCK, IRP,
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_FILE_SYSTEM_CONTROL, IRP_MJ_FLUSH_BUFFERS, IRP_MJ_READ, IRP_MJ_WRITE,
    KEVENT, NTSTATUS, PVOID, SL_WRITE_THROUGH, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_PENDING, STATUS_SUCCESS, TRUE,
};

/// `FastIoDeviceControl` of a driver that has one: most control requests need no packet then. Nothing where the driver would rather
/// have one.
///
/// # Safety
/// The arguments must be those of ZwDeviceIoControlFile.
unsafe fn fast_control(
    file: &Referenced,
    code: u32,
    input: (PVOID, u32),
    output: (PVOID, u32),
) -> Option<IO_STATUS_BLOCK> {
    type FastIoDeviceControl = unsafe extern "win64" fn(
        file: *mut FILE_OBJECT,
        wait: BOOLEAN,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
        code: u32,
        status: *mut IO_STATUS_BLOCK,
        device: *mut DEVICE_OBJECT,
    ) -> BOOLEAN;
    /// `FAST_IO_DISPATCH::FastIoDeviceControl`, behind the structure's size.
    const AT: usize = 0x50;
    let device = file.device();
    let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
    // SAFETY: the file keeps its device, and that its driver; a table is as long as it says, and what is not null in it is of its
    // type.
    unsafe {
        let table = (*(*device).DriverObject).FastIoDispatch.cast::<u8>();
        if table.is_null() || (table.cast::<u32>().read() as usize) < AT + 8 {
            return None;
        }
        let routine = table.add(AT).cast::<Option<FastIoDeviceControl>>().read()?;
        let (from, to) = (input, output);
        (routine(file.0, TRUE, from.0, from.1, to.0, to.1, code, &raw mut status, device) != 0)
            .then_some(status)
    }
}

/// Makes a request of a file: `build` makes its packet, given where its end is to be told.
///
/// # Safety
/// Buffers and `status` must be valid until the request has ended.
unsafe fn request(
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    build: impl FnOnce(&Referenced, *mut KEVENT, *mut IO_STATUS_BLOCK) -> Result<Option<NonNull<IRP>>, NTSTATUS>,
) -> NTSTATUS {
    let prepared = Referenced::of(handle).and_then(|file| Ok((file, event_of(event)?)));
    let (file, event) = match prepared {
        Ok(prepared) => prepared,
        Err(status) => return status,
    };
    // No thread of user mode is there for whose sake a completion would be queued.
    if !apc.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let _turn = Turn::take(&file);
    // SAFETY: the caller's contract.
    unsafe {
        if !file.is_synchronous() {
            return match build(&file, event, status) {
                Ok(Some(packet)) => {
                    hand_over(&file, packet, false);
                    irp::call_driver(file.device(), packet.as_ptr())
                }
                Ok(None) => STATUS_INSUFFICIENT_RESOURCES,
                Err(status) => status,
            };
        }
        let mut outcome = IO_STATUS_BLOCK::new(STATUS_PENDING, 0);
        let returned = send_and_wait(&file, &raw mut outcome, |event, block| build(&file, event, block));
        status.write(outcome);
        if !event.is_null() {
            event::set(event);
        }
        returned
    }
}

/// Reads or writes: without an offset a synchronous file goes on where it was.
///
/// # Safety
/// As of [`request`]; offset and key must each be valid or null.
unsafe fn transfer(
    major: u8,
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    data: (PVOID, u32),
    (offset, key): (*const i64, *const u32),
) -> NTSTATUS {
    // SAFETY: the caller's.
    unsafe {
        request(handle, event, apc, status, |file, event, block| {
            let writes = major == IRP_MJ_WRITE;
            let offset = file.offset(offset, writes)?;
            let packet = build::for_file(major, file.device(), data, offset, event, block);
            if let Some(packet) = packet {
                let location = irp::next_location(packet);
                location.Parameters.0[1] = key.as_ref().copied().unwrap_or(0).into();
                if writes && (*file.0).Flags & FO_WRITE_THROUGH != 0 {
                    location.Flags |= SL_WRITE_THROUGH;
                }
            }
            Ok(packet)
        })
    }
}

/// A control request, with its input and its output.
///
/// # Safety
/// As of [`request`].
unsafe fn control(
    major: u8,
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    code: u32,
    (input, output): ((PVOID, u32), (PVOID, u32)),
) -> NTSTATUS {
    // SAFETY: the caller's; the packet is new.
    unsafe {
        request(handle, event, apc, status, |file, event, block| {
            let packet = build::control_for_file(code, file.device(), input, output, event, block);
            if let Some(packet) = packet {
                irp::next_location(packet).MajorFunction = major;
            }
            Ok(packet)
        })
    }
}

export! {
    /// *ZwReadFile function (wdm.h)*: without an offset a synchronous file goes on where it was. A completion routine is
    /// refused.
    pub unsafe extern "win64" fn ZwReadFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        buffer: PVOID,
        length: u32,
        offset: *const i64,
        key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_READ, handle, event, apc, status, (buffer, length), (offset, key)) }
    }

    /// *ZwWriteFile function (wdm.h)*: as ZwReadFile; FILE_WRITE_TO_END_OF_FILE appends.
    pub unsafe extern "win64" fn ZwWriteFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        buffer: PVOID,
        length: u32,
        offset: *const i64,
        key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_WRITE, handle, event, apc, status, (buffer, length), (offset, key)) }
    }

    /// *ZwDeviceIoControlFile function (ntifs.h)*: buffered, direct or neither, as the code says.
    pub unsafe extern "win64" fn ZwDeviceIoControlFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        code: u32,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe {
            let (input, output) = ((input, input_length), (output, output_length));
            if let Ok(file) = Referenced::of(handle) {
                let _turn = Turn::take(&file);
                if let Some(answer) = fast_control(&file, code, input, output) {
                    status.write(answer);
                    if let Ok(event) = event_of(event)
                        && !event.is_null()
                    {
                        event::set(event);
                    }
                    return answer.Status;
                }
            }
            control(IRP_MJ_DEVICE_CONTROL, handle, event, apc, status, code, (input, output))
        }
    }

    /// *ZwFsControlFile function (ntifs.h)*: as ZwDeviceIoControlFile, for file systems: IRP_MJ_FILE_SYSTEM_CONTROL.
    pub unsafe extern "win64" fn ZwFsControlFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        code: u32,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
    ) -> NTSTATUS {
        let buffers = ((input, input_length), (output, output_length));
        // SAFETY: the caller's.
        unsafe { control(IRP_MJ_FILE_SYSTEM_CONTROL, handle, event, apc, status, code, buffers) }
    }

    /// *NtCancelIoFile function*: cancels what the calling thread has asked of the file, and waits for its end.
    pub unsafe extern "win64" fn ZwCancelIoFile(handle: HANDLE, status: *mut IO_STATUS_BLOCK) -> NTSTATUS {
        match Referenced::of(handle) {
            Ok(file) => {
                under_way::cancel_all(file.0.addr());
                // SAFETY: the caller gives storage for the status.
                unsafe { status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0)) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *ZwFlushBuffersFile function (ntifs.h)*.
    pub unsafe extern "win64" fn ZwFlushBuffersFile(handle: HANDLE, status: *mut IO_STATUS_BLOCK) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe {
            request(handle, core::ptr::null_mut(), core::ptr::null_mut(), status, |file, event, block| {
                let nothing = (core::ptr::null_mut(), 0);
                Ok(build::for_file(IRP_MJ_FLUSH_BUFFERS, file.device(), nothing, 0, event, block))
            })
        }
    }
}
