//! What the code of a driver with WPP software tracing calls: sessions are asked for, and there is none.
//!
//! Sources: *WmiQueryTraceInformation function (wdm.h)*, *WmiTraceMessage function (wdm.h)*, *WmiTraceMessageVa function (wdm.h)*.

use crate::ldr::export::export;
use crate::nt::{
    GUID, NTSTATUS, PVOID, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_HANDLE, STATUS_INVALID_INFO_CLASS,
    STATUS_INVALID_PARAMETER, STATUS_INVALID_PARAMETER_MIX, STATUS_NOT_FOUND, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// `TRACE_INFORMATION_CLASS`.
mod class {
    pub const ID: u32 = 0;
    pub const HANDLE: u32 = 1;
    pub const ENABLE_FLAGS: u32 = 2;
    pub const ENABLE_LEVEL: u32 = 3;
    pub const GLOBAL_LOGGER: u32 = 4;
    pub const EVENT_LOGGER: u32 = 5;
    pub const ALL_LOGGERS: u32 = 6;
    pub const HANDLE_BY_NAME: u32 = 7;
}

export! {
    /// *WmiQueryTraceInformation function (wdm.h)*: there is no session, so that no handle and no name is that of one.
    pub unsafe extern "win64" fn WmiQueryTraceInformation(
        class: u32,
        _information: PVOID,
        length: u32,
        required: *mut u32,
        buffer: PVOID,
    ) -> NTSTATUS {
        let (size, answer) = match class {
            class::ID | class::ENABLE_FLAGS | class::ENABLE_LEVEL => (4, STATUS_INVALID_HANDLE),
            class::HANDLE => (8, STATUS_INVALID_HANDLE),
            class::GLOBAL_LOGGER | class::EVENT_LOGGER => (8, STATUS_NOT_FOUND),
            class::HANDLE_BY_NAME => (8, STATUS_INVALID_PARAMETER),
            class::ALL_LOGGERS => (0, STATUS_SUCCESS),
            _ => return STATUS_INVALID_INFO_CLASS,
        };
        if !required.is_null() {
            // SAFETY: the caller's.
            unsafe { required.write(size) };
        }
        if length != size && class != class::ALL_LOGGERS {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        let wants_buffer = !matches!(class, class::GLOBAL_LOGGER | class::EVENT_LOGGER | class::ALL_LOGGERS);
        if wants_buffer && buffer.is_null() { STATUS_INVALID_PARAMETER_MIX } else { answer }
    }

    /// *WmiTraceMessage function (wdm.h)*: STATUS_INVALID_HANDLE, as no session has any. The message's arguments are not looked at.
    pub unsafe extern "win64" fn WmiTraceMessage(_logger: u64, _flags: u32, _message: *const GUID, _number: u16) -> NTSTATUS {
        STATUS_INVALID_HANDLE
    }

    /// *WmiTraceMessageVa function (wdm.h)*: the same, with the arguments as a list.
    pub unsafe extern "win64" fn WmiTraceMessageVa(
        _logger: u64,
        _flags: u32,
        _message: *const GUID,
        _number: u16,
        _arguments: PVOID,
    ) -> NTSTATUS {
        STATUS_INVALID_HANDLE
    }
}

kernel_test! {
    /// *WmiQueryTraceInformation function (wdm.h)*: sizes before inputs, and inputs before what is not there.
    fn sessions_are_asked_for_and_there_is_none() {
        let (mut words, mut required) = ([0_u64; 6], 0);
        let (out, input) = ((&raw mut words[0]).cast(), (&raw mut words[1]).cast());
        let none = core::ptr::null_mut();
        // SAFETY: storage for whatever would be answered.
        let mut ask = |class, length, buffer| unsafe {
            (WmiQueryTraceInformation(class, out, length, &raw mut required, buffer), required)
        };
        check!(ask(class::ID, 4, input) == (STATUS_INVALID_HANDLE, 4) && ask(class::ID, 8, input) == (STATUS_INFO_LENGTH_MISMATCH, 4));
        check!(ask(class::HANDLE, 8, none) == (STATUS_INVALID_PARAMETER_MIX, 8));
        check!(ask(class::GLOBAL_LOGGER, 8, none) == (STATUS_NOT_FOUND, 8) && ask(class::ALL_LOGGERS, 40, none) == (STATUS_SUCCESS, 0));
        check!(ask(99, 8, none).0 == STATUS_INVALID_INFO_CLASS);
    }
}
