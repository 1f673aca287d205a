//! `NTSTATUS`: how every kernel routine says what became of a request.
//!
//! The top two bits are the severity: 0 success, 1 information, 2 warning, 3 error. `NT_SUCCESS` is "severity
//! 0 or 1", which is the same as "not negative".

use core::fmt;

/// A status code. Transparent, so that it crosses the driver ABI as the `LONG` it is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use = "an NTSTATUS may be a failure"]
pub struct NTSTATUS(pub i32);

impl NTSTATUS {
    /// The status whose 32 bits are `bits`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits.cast_signed())
    }

    /// The 32 bits, as the documentation writes them (`0xC0000022`).
    pub const fn bits(self) -> u32 {
        self.0.cast_unsigned()
    }

    /// `NT_SUCCESS`: success or information.
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Debug for NTSTATUS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NTSTATUS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.bits())
    }
}

macro_rules! statuses {
    ($($(#[$meta:meta])* $name:ident = $bits:literal;)*) => {
        $($(#[$meta])* pub const $name: NTSTATUS = NTSTATUS::from_bits($bits);)*
    };
}

statuses! {
    /// The request did what it was asked.
    STATUS_SUCCESS = 0x0000_0000;
    /// The wait ended because its time was up.
    STATUS_TIMEOUT = 0x0000_0102;
    /// The request is on its way; its completion tells.
    STATUS_PENDING = 0x0000_0103;
    /// The buffer held less than there is.
    STATUS_BUFFER_OVERFLOW = 0x8000_0005;
    /// An address that is not a multiple of what it has to be.
    STATUS_DATATYPE_MISALIGNMENT = 0x8000_0002;
    /// No further entry.
    STATUS_NO_MORE_ENTRIES = 0x8000_001A;
    /// The catch-all error.
    STATUS_UNSUCCESSFUL = 0xC000_0001;
    /// The routine exists, its service does not.
    STATUS_NOT_IMPLEMENTED = 0xC000_0002;
    /// A class of information that the object does not have.
    STATUS_INVALID_INFO_CLASS = 0xC000_0003;
    /// A fixed-size argument of another size.
    STATUS_INFO_LENGTH_MISMATCH = 0xC000_0004;
    /// Memory that may not be touched that way.
    STATUS_ACCESS_VIOLATION = 0xC000_0005;
    /// A handle that names no object.
    STATUS_INVALID_HANDLE = 0xC000_0008;
    /// No process or thread of that number.
    STATUS_INVALID_CID = 0xC000_000B;
    /// An argument out of its documented range.
    STATUS_INVALID_PARAMETER = 0xC000_000D;
    /// No device of that name.
    STATUS_NO_SUCH_DEVICE = 0xC000_000E;
    /// No file of that name.
    STATUS_NO_SUCH_FILE = 0xC000_000F;
    /// The device does not know this request.
    STATUS_INVALID_DEVICE_REQUEST = 0xC000_0010;
    /// Read at or past the end.
    STATUS_END_OF_FILE = 0xC000_0011;
    /// A lower driver has more to do before the IRP is complete.
    STATUS_MORE_PROCESSING_REQUIRED = 0xC000_0016;
    /// No memory.
    STATUS_NO_MEMORY = 0xC000_0017;
    /// The caller may not.
    STATUS_ACCESS_DENIED = 0xC000_0022;
    /// The buffer cannot hold the answer.
    STATUS_BUFFER_TOO_SMALL = 0xC000_0023;
    /// A handle or name of another kind of object.
    STATUS_OBJECT_TYPE_MISMATCH = 0xC000_0024;
    /// A name that the object manager cannot parse.
    STATUS_OBJECT_NAME_INVALID = 0xC000_0033;
    /// No object of that name.
    STATUS_OBJECT_NAME_NOT_FOUND = 0xC000_0034;
    /// Another object has that name.
    STATUS_OBJECT_NAME_COLLISION = 0xC000_0035;
    /// The directory part of the name does not exist.
    STATUS_OBJECT_PATH_NOT_FOUND = 0xC000_003A;
    /// A name that does not begin where it must.
    STATUS_OBJECT_PATH_SYNTAX_BAD = 0xC000_003B;
    /// A directory where a file was wanted.
    STATUS_FILE_IS_A_DIRECTORY = 0xC000_00BA;
    /// A file where a directory was wanted.
    STATUS_NOT_A_DIRECTORY = 0xC000_0103;
    /// No room for more bytes.
    STATUS_DISK_FULL = 0xC000_007F;
    /// The object is going away.
    STATUS_DELETE_PENDING = 0xC000_0056;
    /// Not the image of this kind of machine, or not an image at all.
    STATUS_INVALID_IMAGE_FORMAT = 0xC000_007B;
    /// There is no debugger.
    STATUS_DEBUGGER_INACTIVE = 0xC000_0354;
    /// Out of a resource: memory, most often.
    STATUS_INSUFFICIENT_RESOURCES = 0xC000_009A;
    /// The device is not ready.
    STATUS_DEVICE_NOT_READY = 0xC000_00A3;
    /// The device takes one opener only.
    STATUS_SHARING_VIOLATION = 0xC000_0043;
    /// A structure of a revision that is not known.
    STATUS_UNKNOWN_REVISION = 0xC000_0058;
    /// A security descriptor of the wrong form.
    STATUS_INVALID_SECURITY_DESCR = 0xC000_0079;
    /// Two structures whose revisions do not go together.
    STATUS_REVISION_MISMATCH = 0xC000_0059;
    /// Somebody who may not be an object's owner.
    STATUS_INVALID_OWNER = 0xC000_005A;
    /// A privilege that the request takes is not held.
    STATUS_PRIVILEGE_NOT_HELD = 0xC000_0061;
    /// An access control list that is none.
    STATUS_INVALID_ACL = 0xC000_0077;
    /// A security identifier that is none.
    STATUS_INVALID_SID = 0xC000_0078;
    /// The access control list has no room for it.
    STATUS_ALLOTTED_SPACE_EXCEEDED = 0xC000_0099;
    /// A self-relative descriptor where an absolute one was wanted, or the other way round.
    STATUS_BAD_DESCRIPTOR_FORMAT = 0xC000_00E7;
    /// The request took too long.
    STATUS_IO_TIMEOUT = 0xC000_00B5;
    /// The routine or this form of it is not supported.
    STATUS_NOT_SUPPORTED = 0xC000_00BB;
    /// No mapping begins there.
    STATUS_NOT_MAPPED_VIEW = 0xC000_0019;
    /// A protection that pages cannot have.
    STATUS_INVALID_PAGE_PROTECTION = 0xC000_0045;
    /// The device is gone.
    STATUS_DEVICE_DOES_NOT_EXIST = 0xC000_00C0;
    /// Registry: the value exists and is not what the caller wants.
    STATUS_OBJECT_NAME_EXISTS = 0x4000_0000;
    /// The image is already loaded.
    STATUS_IMAGE_ALREADY_LOADED = 0xC000_010E;
    /// The request was cancelled.
    STATUS_CANCELLED = 0xC000_0120;
    /// A kernel resource cannot be deleted while in use.
    STATUS_CANNOT_DELETE = 0xC000_0121;
    /// The routine may not be called at this IRQL.
    STATUS_INVALID_LEVEL = 0xC000_0148;
    /// The requested device is not there.
    STATUS_NO_SUCH_MEMBER = 0xC000_017A;
    /// A routine that filters has done it in the system's stead.
    STATUS_CALLBACK_BYPASS = 0xC000_0503;
    /// Another filter has that altitude.
    STATUS_FLT_INSTANCE_ALTITUDE_COLLISION = 0xC01C_0011;
    /// The key is marked for deletion.
    STATUS_KEY_DELETED = 0xC000_017C;
    /// The device is in use.
    STATUS_DEVICE_BUSY = 0x8000_0011;
    /// It does not match.
    STATUS_NO_MATCH = 0xC000_0272;
    /// Some characters have no counterpart.
    STATUS_SOME_NOT_MAPPED = 0x0000_0107;
    /// Its fourth argument is out of range.
    STATUS_INVALID_PARAMETER_4 = 0xC000_00F2;
    /// Its fifth is.
    STATUS_INVALID_PARAMETER_5 = 0xC000_00F3;
    /// Its sixth is.
    STATUS_INVALID_PARAMETER_6 = 0xC000_00F4;
    /// A view that its section has no room for.
    STATUS_INVALID_VIEW_SIZE = 0xC000_001F;
    /// A file that no section can be made of.
    STATUS_INVALID_FILE_FOR_SECTION = 0xC000_0020;
    /// A view that may do more than its section.
    STATUS_SECTION_PROTECTION = 0xC000_004E;
    /// Nothing of that name or number.
    STATUS_NOT_FOUND = 0xC000_0225;
    /// An import of the driver is missing.
    STATUS_DRIVER_ENTRYPOINT_NOT_FOUND = 0xC000_0263;
    /// The arguments do not go together.
    STATUS_INVALID_PARAMETER_MIX = 0xC000_0030;
    /// No such component, or another first argument that is none.
    STATUS_INVALID_PARAMETER_1 = 0xC000_00EF;
    /// The second argument is none.
    STATUS_INVALID_PARAMETER_2 = 0xC000_00F0;
    /// The third argument is not valid.
    STATUS_INVALID_PARAMETER_3 = 0xC000_00F1;
    /// The routine is not registered.
    STATUS_PROCEDURE_NOT_FOUND = 0xC000_007A;
    /// The resource is claimed by another device.
    STATUS_CONFLICTING_ADDRESSES = 0xC000_0018;
    /// The name is longer than the system allows.
    STATUS_NAME_TOO_LONG = 0xC000_0106;
    /// The registry value is of another type.
    STATUS_OBJECT_TYPE_INVALID = 0xC000_0193;
}
