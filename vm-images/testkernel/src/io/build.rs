//! Requests that drivers make of other drivers.
//!
//! `IoBuildDeviceIoControlRequest` and `IoBuildSynchronousFsdRequest` make packets that the I/O manager finishes: when
//! one has come back up, its data are copied to the caller's buffer, the caller's status block and event are set, and
//! the packet is freed. Windows does that in the issuing thread, here it happens on the spot: a kernel buffer is the
//! same in every thread. A packet of `IoBuildAsynchronousFsdRequest` is the driver's own to free, in its completion
//! routine.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::mdl::Access;
use super::{device, irp, mdl, selftest};
use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ke::event::Event;
use crate::ke::thread;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::mm::mdl::MmMapLockedPages;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, DO_BUFFERED_IO, DO_DIRECT_IO, IO_STATUS_BLOCK, IRP, IRP_BUFFERED_IO,
    IRP_DEALLOCATE_BUFFER, IRP_INPUT_OPERATION, IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL,
    IRP_MJ_QUERY_INFORMATION, IRP_MJ_QUERY_VOLUME_INFORMATION, IRP_MJ_READ, IRP_MJ_WRITE, IRP_READ_OPERATION,
    IRP_WRITE_OPERATION, KERNEL_MODE, KEVENT, MDL, NTSTATUS, PVOID, Parameters, SL_INVOKE_ON_SUCCESS,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// In `IRP::AllocationFlags`: the I/O manager frees the packet at completion.
const MANAGERS: u8 = 0x80;

const METHOD_BUFFERED: u32 = 0;
const METHOD_IN_DIRECT: u32 = 1;
const METHOD_NEITHER: u32 = 3;
/// The severity of an error, in the top two bits of a status.
const SEVERITY_ERROR: u32 = 3;

fn pointer<T>(address: usize) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address)
}

/// A system buffer of `room` bytes that begins with `length` bytes from `from`.
///
/// # Safety
/// `from` must be null or lead to `length` bytes; `irp` is new.
unsafe fn buffer(irp: &mut IRP, room: usize, from: *const u8, length: usize, caller: usize) -> Option<()> {
    if room == 0 {
        return Some(());
    }
    let buffer = pool::allocate_object(room, Kind::Plain, caller)?;
    if !from.is_null() {
        // SAFETY: the caller's contract; `length` is within the room.
        unsafe { from.copy_to_nonoverlapping(buffer.as_ptr(), length) };
    }
    irp.SystemBuffer = buffer.as_ptr().cast();
    irp.Flags |= IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER;
    Some(())
}

/// Takes a packet back that was not sent, with what hangs on it.
///
/// # Safety
/// `irp` must be one that was made here.
unsafe fn discard(irp: NonNull<IRP>) {
    // SAFETY: the caller's contract.
    unsafe {
        release(irp.as_ptr());
        irp::free(irp);
    }
}

/// Frees the buffer and the lists of a packet that was made here.
///
/// # Safety
/// As for [`discard`].
unsafe fn release(irp: *mut IRP) {
    // SAFETY: the caller's contract.
    unsafe {
        if (*irp).Flags & IRP_DEALLOCATE_BUFFER != 0 && !(*irp).SystemBuffer.is_null() {
            pool::free((*irp).SystemBuffer.addr(), 0);
            (*irp).SystemBuffer = core::ptr::null_mut();
        }
        let mut list: *mut MDL = (*irp).MdlAddress;
        (*irp).MdlAddress = core::ptr::null_mut();
        while !list.is_null() {
            let next = (*list).Next;
            mdl::release(list);
            list = next;
        }
    }
}

/// Whether a packet is queued to its thread until the I/O manager frees it: IoFreeIrp is not for such ones.
///
/// # Safety
/// `irp` must be a packet.
pub unsafe fn belongs_to_a_thread(irp: *const IRP) -> bool {
    // SAFETY: the caller's contract.
    unsafe { (*irp).AllocationFlags & MANAGERS != 0 }
}

/// Hands a packet's data to its issuer; true where the packet is the I/O manager's to free.
///
/// # Safety
/// `irp` must be a packet whose completion has reached the top.
pub unsafe fn before_the_issuer_is_told(irp: *mut IRP) -> bool {
    // SAFETY: the caller's contract; the buffers are as large as they were when the packet was made.
    unsafe {
        if (*irp).AllocationFlags & MANAGERS == 0 {
            return false;
        }
        let IO_STATUS_BLOCK { Status: status, Information: bytes, .. } = (*irp).IoStatus;
        let wanted = IRP_BUFFERED_IO | IRP_INPUT_OPERATION;
        let from = (*irp).SystemBuffer.cast::<u8>();
        let copies = (*irp).Flags & wanted == wanted && status.bits() >> 30 != SEVERITY_ERROR;
        if copies && !from.is_null() && !(*irp).UserBuffer.is_null() {
            from.copy_to_nonoverlapping((*irp).UserBuffer.cast(), bytes);
        }
        release(irp);
    }
    true
}

/// # Safety
/// The call must be one of IoBuildDeviceIoControlRequest's.
unsafe extern "win64" fn build_device_io_control(call: &Call<9>) -> *mut IRP {
    let [code, device, input, input_length, output, output_length, internal, event, status] = call.arguments;
    let (code, input_length, output_length) = (code as u32, input_length as u32, output_length as u32);
    let device = pointer::<DEVICE_OBJECT>(device);
    // SAFETY: the caller gives a device.
    let Some(packet) = irp::allocate_for(unsafe { (*device).StackSize }, call.caller) else {
        return core::ptr::null_mut();
    };
    // SAFETY: the packet is new, so all of it is this function's; the caller's buffers are as long as it says.
    unsafe {
        let irp = &mut *packet.as_ptr();
        irp.AllocationFlags |= MANAGERS;
        let (from, used) = (pointer::<u8>(input), input_length as usize);
        let method = code & 3;
        let ready = match method {
            METHOD_BUFFERED => {
                let room = used.max(output_length as usize);
                irp.UserBuffer = pointer(output);
                if output_length > 0 {
                    irp.Flags |= IRP_INPUT_OPERATION;
                }
                buffer(irp, room, from, used, call.caller)
            }
            METHOD_NEITHER => {
                irp.UserBuffer = pointer(output);
                Some(())
            }
            _ => buffer(irp, used, from, used, call.caller).and_then(|()| {
                if output_length > 0 {
                    let access = if method == METHOD_IN_DIRECT { Access::Read } else { Access::Write };
                    let list = mdl::describe(output, output_length as usize, access, call.caller)?;
                    irp.MdlAddress = list.as_ptr();
                }
                Some(())
            }),
        };
        if ready.is_none() {
            discard(packet);
            return core::ptr::null_mut();
        }
        finish(irp, event, status);
        let internal = internal as BOOLEAN != 0;
        let location = irp::next_location(packet);
        location.MajorFunction =
            if internal { IRP_MJ_INTERNAL_DEVICE_CONTROL } else { IRP_MJ_DEVICE_CONTROL };
        let type3: PVOID = if method == METHOD_NEITHER { pointer(input) } else { core::ptr::null_mut() };
        location.Parameters = Parameters::device_io_control(output_length, input_length, code, type3);
    }
    packet.as_ptr()
}

/// Who made the packet, and how it wants to hear of its end.
fn finish(irp: &mut IRP, event: usize, status: usize) {
    irp.UserEvent = pointer::<KEVENT>(event);
    irp.UserIosb = pointer::<IO_STATUS_BLOCK>(status);
    irp.RequestorMode = KERNEL_MODE;
    irp.Tail.Thread = thread::current().as_ptr().cast::<c_void>();
}

/// A read, write, flush or other request with at most one buffer.
///
/// # Safety
/// `device` must be a device, `data` lead to `length` bytes, `offset` be null or lead to one.
unsafe fn build_fsd(
    major: u8,
    device: *mut DEVICE_OBJECT,
    data: usize,
    length: u32,
    offset: *const i64,
    caller: usize,
) -> Option<NonNull<IRP>> {
    // SAFETY: the caller's contract.
    let (stack_size, flags) = unsafe { ((*device).StackSize, (*device).Flags) };
    let packet = irp::allocate_for(stack_size, caller)?;
    // SAFETY: the packet is new, so all of it is this function's; the rest is the caller's contract.
    unsafe {
        let location = irp::next_location(packet);
        location.MajorFunction = major;
        if major != IRP_MJ_READ && major != IRP_MJ_WRITE {
            return Some(packet);
        }
        let irp = &mut *packet.as_ptr();
        irp.UserBuffer = pointer(data);
        let reads = major == IRP_MJ_READ;
        irp.Flags |= if reads { IRP_READ_OPERATION } else { IRP_WRITE_OPERATION };
        let ready = if length == 0 {
            Some(())
        } else if flags & DO_BUFFERED_IO != 0 {
            if reads {
                irp.Flags |= IRP_INPUT_OPERATION;
            }
            let from = if reads { core::ptr::null() } else { pointer::<u8>(data) };
            buffer(irp, length as usize, from, length as usize, caller)
        } else if flags & DO_DIRECT_IO != 0 {
            let access = if reads { Access::Write } else { Access::Read };
            mdl::describe(data, length as usize, access, caller).map(|list| irp.MdlAddress = list.as_ptr())
        } else {
            Some(())
        };
        if ready.is_none() {
            discard(packet);
            return None;
        }
        location.Parameters = Parameters::read_write(length, offset.as_ref().copied().unwrap_or(0));
    }
    Some(packet)
}

/// # Safety
/// The call must be one of IoBuildSynchronousFsdRequest's.
unsafe extern "win64" fn build_synchronous(call: &Call<7>) -> *mut IRP {
    let [major, device, data, length, offset, event, status] = call.arguments;
    // SAFETY: the caller gives what the documentation asks for.
    let built =
        unsafe { build_fsd(major as u8, pointer(device), data, length as u32, pointer(offset), call.caller) };
    let Some(packet) = built else { return core::ptr::null_mut() };
    // SAFETY: the packet is new.
    let irp = unsafe { &mut *packet.as_ptr() };
    irp.AllocationFlags |= MANAGERS;
    finish(irp, event, status);
    packet.as_ptr()
}

/// # Safety
/// The call must be one of IoBuildAsynchronousFsdRequest's.
unsafe extern "win64" fn build_asynchronous(call: &Call<6>) -> *mut IRP {
    let [major, device, data, length, offset, status] = call.arguments;
    // SAFETY: the caller gives what the documentation asks for.
    let built =
        unsafe { build_fsd(major as u8, pointer(device), data, length as u32, pointer(offset), call.caller) };
    let Some(packet) = built else { return core::ptr::null_mut() };
    // SAFETY: the packet is new.
    finish(unsafe { &mut *packet.as_ptr() }, 0, status);
    packet.as_ptr()
}

export! {
    /// *IoBuildDeviceIoControlRequest function (wdm.h)*: buffered, direct or neither, as the code says; the packet is
    /// the I/O manager's, so the caller never frees it.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoBuildDeviceIoControlRequest(
        code: u32,
        device: *mut DEVICE_OBJECT,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
        internal: BOOLEAN,
        event: *mut KEVENT,
        status: *mut IO_STATUS_BLOCK,
    ) -> *mut IRP {
        with_caller!(build_device_io_control)
    }

    /// *IoBuildSynchronousFsdRequest function (wdm.h)*: the buffer as the device wants it; the packet is the I/O
    /// manager's, so the caller never frees it.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoBuildSynchronousFsdRequest(
        major: u32,
        device: *mut DEVICE_OBJECT,
        data: PVOID,
        length: u32,
        offset: *const i64,
        event: *mut KEVENT,
        status: *mut IO_STATUS_BLOCK,
    ) -> *mut IRP {
        with_caller!(build_synchronous)
    }

    /// *IoBuildAsynchronousFsdRequest function (wdm.h)*: the same without an event; the caller's completion routine
    /// frees the packet, its system buffer or its MDL.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoBuildAsynchronousFsdRequest(
        major: u32,
        device: *mut DEVICE_OBJECT,
        data: PVOID,
        length: u32,
        offset: *const i64,
        status: *mut IO_STATUS_BLOCK,
    ) -> *mut IRP {
        with_caller!(build_asynchronous)
    }
}

/// A packet of the I/O manager's own for an open file: a read or write of the caller's buffer, which is told of its end by
/// event and status block.
///
/// # Safety
/// `device` must be the file's; buffer, event and status block stay until the end.
pub unsafe fn for_file(
    major: u8,
    device: *mut DEVICE_OBJECT,
    data: (PVOID, u32),
    offset: i64,
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> Option<NonNull<IRP>> {
    let (data, length) = data;
    let arguments = [
        major.into(),
        device.addr(),
        data.expose_provenance(),
        length as usize,
        (&raw const offset).expose_provenance(),
        event.expose_provenance(),
        status.expose_provenance(),
    ];
    // SAFETY: the caller's contract.
    NonNull::new(unsafe { build_synchronous(&Call { caller: 0, arguments }) })
}

/// The same for a control request.
///
/// # Safety
/// As for [`for_file`].
pub unsafe fn control_for_file(
    code: u32,
    device: *mut DEVICE_OBJECT,
    input: (PVOID, u32),
    output: (PVOID, u32),
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> Option<NonNull<IRP>> {
    let arguments = [
        code as usize,
        device.addr(),
        input.0.expose_provenance(),
        input.1 as usize,
        output.0.expose_provenance(),
        output.1 as usize,
        0,
        event.expose_provenance(),
        status.expose_provenance(),
    ];
    // SAFETY: the caller's contract.
    NonNull::new(unsafe { build_device_io_control(&Call { caller: 0, arguments }) })
}

/// The same for information about the file, which is asked for or set.
///
/// # Safety
/// As for [`for_file`].
pub unsafe fn information_for_file(
    major: u8,
    device: *mut DEVICE_OBJECT,
    data: (PVOID, u32),
    class: u32,
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> Option<NonNull<IRP>> {
    let (to, length) = data;
    // SAFETY: the caller's contract; the packet is new.
    unsafe {
        let packet = irp::allocate((*device).StackSize)?;
        let irp = &mut *packet.as_ptr();
        irp.AllocationFlags |= MANAGERS;
        let asks = matches!(major, IRP_MJ_QUERY_INFORMATION | IRP_MJ_QUERY_VOLUME_INFORMATION);
        let from = if asks { core::ptr::null() } else { to.cast::<u8>().cast_const() };
        if buffer(irp, length as usize, from, length as usize, 0).is_none() {
            discard(packet);
            return None;
        }
        if asks {
            irp.UserBuffer = to;
            irp.Flags |= IRP_INPUT_OPERATION;
        }
        finish(irp, event.expose_provenance(), status.expose_provenance());
        let location = irp::next_location(packet);
        location.MajorFunction = major;
        location.Parameters = Parameters([length.into(), class.into(), 0, 0]);
        Some(packet)
    }
}

/// Answers a control request: what it was given, in capitals.
unsafe extern "win64" fn shout(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's; its buffers are as long as its location says.
    unsafe {
        let location = (*irp).Tail.CurrentStackLocation;
        let [output, input, code, _] = (*location).Parameters.0;
        let from = core::slice::from_raw_parts((*irp).SystemBuffer.cast::<u8>(), input as usize).to_vec();
        let to = if (*irp).MdlAddress.is_null() {
            (*irp).SystemBuffer
        } else {
            MmMapLockedPages((*irp).MdlAddress, KERNEL_MODE)
        };
        let length = from.len().min(output as usize);
        for (index, byte) in from.iter().take(length).enumerate() {
            to.cast::<u8>().add(index).write(byte.to_ascii_uppercase());
        }
        let known = code == 0x22_2000 || code == 0x22_2002;
        selftest::finish(irp, if known { STATUS_SUCCESS } else { STATUS_INVALID_DEVICE_REQUEST }, length)
    }
}

/// A buffered (method 0) or direct (2) control request to a device that shouts.
fn ask(device: *mut DEVICE_OBJECT, code: u32, answer: &mut [u8; 8]) -> Option<IO_STATUS_BLOCK> {
    let event = Event::new_notification();
    let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
    let question = b"legacy";
    // SAFETY: every pointer leads to a local that outlives the request, which is waited for.
    unsafe {
        let irp = IoBuildDeviceIoControlRequest(
            code,
            device,
            question.as_ptr().cast_mut().cast(),
            6,
            answer.as_mut_ptr().cast(),
            8,
            0,
            event.as_ptr(),
            &raw mut status,
        );
        if irp.is_null() || irp::IofCallDriver(device, irp) == STATUS_PENDING {
            return None;
        }
    }
    event.wait(Some(1_000_000_000)).then_some(status)
}

/// Packets of the pool's that the kernel itself made for a test and has not freed.
fn packets() -> usize {
    let here = crate::mm::paging::kernel_text();
    pool::allocated_by(&here).iter().filter(|block| block.tag == u32::from_le_bytes(*b"Irp ")).count()
}

kernel_test! {
    /// *IoBuildDeviceIoControlRequest function*: the output comes back, the event is set, the packet is freed.
    fn a_control_request_is_buffered_or_direct_as_its_code_says() {
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        // SAFETY: the driver and the device are this test's.
        unsafe { (*driver).MajorFunction[usize::from(IRP_MJ_DEVICE_CONTROL)] = Some(shout) };
        let before = packets();
        for code in [0x22_2000, 0x22_2002] {
            let mut answer = [0; 8];
            let status = ask(device, code, &mut answer);
            check!(status.is_some_and(|status| status.Status == STATUS_SUCCESS && status.Information == 6));
            check!(&answer == b"LEGACY\0\0");
        }
        // *Describing the buffer for I/O control codes*: on an error nothing is copied back.
        let mut answer = [0; 8];
        let status = ask(device, 0x22_3000, &mut answer);
        check!(status.is_some_and(|status| status.Status == STATUS_INVALID_DEVICE_REQUEST));
        check!(answer == [0; 8] && packets() == before);
        // SAFETY: as above.
        unsafe { device::delete(device) };
        selftest::stop(driver)?;
    }

    /// *IoBuildAsynchronousFsdRequest function*: the completion routine takes the packet back and frees it.
    fn an_asynchronous_write_is_freed_by_its_completion_routine() {
        unsafe extern "win64" fn done(_: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
            // SAFETY: the packet is this routine's; the context is the test's event.
            unsafe {
                release(irp);
                irp::IoFreeIrp(irp);
                crate::ke::event::set(context.cast());
            }
            STATUS_MORE_PROCESSING_REQUIRED
        }
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        let event = Event::new_notification();
        let mut status = IO_STATUS_BLOCK::new(STATUS_PENDING, 0);
        let before = packets();
        let text = b"hello";
        // SAFETY: every pointer leads to what outlives the request, which is waited for.
        unsafe {
            let irp = IoBuildAsynchronousFsdRequest(
                IRP_MJ_WRITE.into(), device, text.as_ptr().cast_mut().cast(), 5, core::ptr::null(), &raw mut status,
            );
            let Some(packet) = NonNull::new(irp) else { check!(false); return Ok(()) };
            let location = irp::next_location(packet);
            location.CompletionRoutine = Some(done);
            location.Context = event.as_ptr().cast();
            location.Control = SL_INVOKE_ON_SUCCESS;
            check!(irp::IofCallDriver(device, irp) == STATUS_SUCCESS);
            check!(event.wait(Some(1_000_000_000)) && packets() == before);
            device::delete(device);
        }
        selftest::stop(driver)?;
    }

    /// *IoReuseIrp function*: a packet may go down again.
    fn a_reused_packet_goes_down_again() {
        let Ok((driver, device)) = selftest::start() else { check!(false); return Ok(()) };
        let Some(packet) = irp::allocate(1) else { check!(false); return Ok(()) };
        let irp = packet.as_ptr();
        // SAFETY: the packet and the device are this test's.
        unsafe {
            for _ in 0..3 {
                irp::IoReuseIrp(irp, STATUS_PENDING);
                check!((*irp).IoStatus.Status == STATUS_PENDING && (*irp).CurrentLocation == 2);
                irp::next_location(packet).MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
                check!(irp::IofCallDriver(device, irp) == STATUS_INVALID_DEVICE_REQUEST);
            }
            irp::free(packet);
            device::delete(device);
        }
        selftest::stop(driver)?;
    }
}
