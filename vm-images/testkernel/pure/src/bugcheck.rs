//! Which bug check a fault becomes.
//!
//! NT does not have one stop code for "bad pointer": the code says who did it, where and at which IRQL, and
//! that is most of what it is worth. The order of the decisions is NT's:
//!
//! 1. At IRQL >= DISPATCH_LEVEL a page fault cannot be resolved. It begins as 0xA; with the instruction
//!    pointer outside the kernel it becomes 0xD1; with the kernel's own instruction pointer it becomes 0xD3
//!    where the address lies in a loaded image and 0xD4 where it lies in an unloaded one.
//! 2. Below that a bad system address begins as 0x50. Freed special pool makes it 0xD5, or 0xCC where it is the kernel that
//!    touches it; a page beyond the end of a special allocation makes it 0xD6 or 0xCD; an unloaded image 0xCE. A bad user
//!    address is an access violation, which no handler takes: 0x7E in a system thread.
//! 3. Present pages that forbid the access are 0xBE (written, read-only) and 0xFC (executed, no-execute).
//! 4. Other exceptions are 0x7E in a system thread and 0x1E above it, where no thread can be blamed.

/// A stop code with its four parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BugCheck {
    /// The code, as a debugger shows it.
    pub code: u32,
    /// The parameters, in the order of the bug-check reference.
    pub parameters: [u64; 4],
}

/// The guest kernel itself went wrong. Not one of NT's codes, so that nobody takes it for the driver's fault.
pub const SQUALL_KERNEL_FAULT: u32 = 0x5351_0001;

macro_rules! codes {
    ($($value:literal $name:ident)*) => {
        $(
            #[doc = concat!("The stop code ", stringify!($value), ".")]
            pub const $name: u32 = $value;
        )*

        /// The name of a stop code, as the bug-check reference spells it.
        #[must_use]
        pub fn name(code: u32) -> Option<&'static str> {
            match code {
                $($value => Some(stringify!($name)),)*
                SQUALL_KERNEL_FAULT => Some("SQUALL_KERNEL_FAULT"),
                _ => None,
            }
        }
    };
}

codes! {
    0x01 APC_INDEX_MISMATCH
    0x09 IRQL_NOT_GREATER_OR_EQUAL
    0x0A IRQL_NOT_LESS_OR_EQUAL
    0x0C MAXIMUM_WAIT_OBJECTS_EXCEEDED
    0x18 REFERENCE_BY_POINTER
    0x19 BAD_POOL_HEADER
    0x1A MEMORY_MANAGEMENT
    0x1E KMODE_EXCEPTION_NOT_HANDLED
    0x20 KERNEL_APC_PENDING_DURING_EXIT
    0x35 NO_MORE_IRP_STACK_LOCATIONS
    0x44 MULTIPLE_IRP_COMPLETE_REQUESTS
    0x48 CANCEL_STATE_IN_COMPLETED_IRP
    0x4E PFN_LIST_CORRUPT
    0x50 PAGE_FAULT_IN_NONPAGED_AREA
    0x7E SYSTEM_THREAD_EXCEPTION_NOT_HANDLED
    0x7F UNEXPECTED_KERNEL_MODE_TRAP
    0x80 NMI_HARDWARE_FAILURE
    0x93 INVALID_KERNEL_HANDLE
    0x9C MACHINE_CHECK_EXCEPTION
    0xA0 INTERNAL_POWER_ERROR
    0xB8 ATTEMPTED_SWITCH_FROM_DPC
    0xBE ATTEMPTED_WRITE_TO_READONLY_MEMORY
    0xC1 SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION
    0xC2 BAD_POOL_CALLER
    0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION
    0xC7 TIMER_OR_DPC_INVALID
    0xC8 IRQL_UNEXPECTED_VALUE
    0xC9 DRIVER_VERIFIER_IOMANAGER_VIOLATION
    0xCB DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS
    0xCC PAGE_FAULT_IN_FREED_SPECIAL_POOL
    0xCD PAGE_FAULT_BEYOND_END_OF_ALLOCATION
    0xCE DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS
    0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL
    0xD3 DRIVER_PORTION_MUST_BE_NONPAGED
    0xD4 SYSTEM_SCAN_AT_RAISED_IRQL_CAUGHT_IMPROPER_DRIVER_UNLOAD
    0xD5 DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL
    0xD6 DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION
    0xDA SYSTEM_PTE_MISUSE
    0xE1 WORKER_THREAD_RETURNED_AT_BAD_IRQL
    0xE2 MANUALLY_INITIATED_CRASH
    0xE4 WORKER_INVALID
    0xE6 DRIVER_VERIFIER_DMA_VIOLATION
    0xFC ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY
    0x133 DPC_WATCHDOG_VIOLATION
    0x139 KERNEL_SECURITY_CHECK_FAILURE
}

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the kernel's image.
    Kernel,
    /// In the image of a driver that is loaded.
    LoadedImage,
    /// Where the image of a driver was that is loaded no more.
    UnloadedImage,
    /// Where an allocation of special pool was.
    FreedSpecialPool,
    /// In the guard behind one.
    BeyondSpecialPool,
    /// Anywhere else.
    Elsewhere,
}

const DISPATCH_LEVEL: u8 = 2;

/// Bits of a page fault's error code.
const ERROR_PRESENT: u64 = 1;
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// The lowest system address.
const SYSTEM_SPACE: u64 = 0xffff_8000_0000_0000;

/// `STATUS_ACCESS_VIOLATION`.
pub const ACCESS_VIOLATION: u32 = 0xC000_0005;

/// A page fault, and what is known of the addresses in it.
#[derive(Debug, Clone, Copy)]
pub struct PageFault {
    /// CR2.
    pub address: u64,
    /// The error code that the processor pushed.
    pub error: u64,
    /// The faulting instruction.
    pub ip: u64,
    /// IRQL of the code that faulted.
    pub irql: u8,
    /// Where `ip` lies.
    pub ip_place: Place,
    /// Where `address` lies.
    pub address_place: Place,
    /// The page table entry of `address`, 0 where there is none.
    pub entry: u64,
    /// Address of the trap frame.
    pub trap_frame: u64,
}

impl PageFault {
    /// The access as 0xA and its kin give it: 0 read, 1 write, 8 execute.
    fn access(&self) -> u64 {
        match self.error {
            error if error & ERROR_FETCH != 0 => 8,
            error if error & ERROR_WRITE != 0 => 1,
            _ => 0,
        }
    }

    /// The access as 0x50 and its kin give it on x64: 0 read, 2 write, 10h execute.
    fn access_below_dispatch(&self) -> u64 {
        match self.access() {
            8 => 0x10,
            1 => 2,
            _ => 0,
        }
    }

    /// The bug check that NT raises for this fault.
    #[must_use]
    pub fn bug_check(&self) -> BugCheck {
        let check = |code, parameters| BugCheck { code, parameters };
        if self.error & ERROR_PRESENT != 0 && self.access() == 8 {
            return check(
                ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY,
                [self.address, self.entry, self.trap_frame, 2],
            );
        }
        if self.error & ERROR_PRESENT != 0 && self.access() == 1 {
            return check(
                ATTEMPTED_WRITE_TO_READONLY_MEMORY,
                [self.address, self.entry, self.trap_frame, 0xA],
            );
        }
        if self.irql >= DISPATCH_LEVEL {
            let code = match (self.ip_place, self.address_place) {
                (Place::Kernel, Place::LoadedImage) => DRIVER_PORTION_MUST_BE_NONPAGED,
                (Place::Kernel, Place::UnloadedImage) => {
                    SYSTEM_SCAN_AT_RAISED_IRQL_CAUGHT_IMPROPER_DRIVER_UNLOAD
                }
                (Place::Kernel, _) => IRQL_NOT_LESS_OR_EQUAL,
                _ => DRIVER_IRQL_NOT_LESS_OR_EQUAL,
            };
            return check(code, [self.address, u64::from(self.irql), self.access(), self.ip]);
        }
        if self.address < SYSTEM_SPACE {
            return unhandled_exception(ACCESS_VIOLATION, self.ip, self.irql, [self.access(), self.address]);
        }
        let by_kernel = self.ip_place == Place::Kernel;
        let (code, access) = match self.address_place {
            Place::FreedSpecialPool if by_kernel => (PAGE_FAULT_IN_FREED_SPECIAL_POOL, self.access()),
            Place::FreedSpecialPool => (DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL, self.access()),
            Place::BeyondSpecialPool if by_kernel => (PAGE_FAULT_BEYOND_END_OF_ALLOCATION, self.access()),
            Place::BeyondSpecialPool => (DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION, self.access()),
            Place::UnloadedImage => {
                (DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS, self.access_below_dispatch())
            }
            _ => (PAGE_FAULT_IN_NONPAGED_AREA, self.access_below_dispatch()),
        };
        check(code, [self.address, access, self.ip, 0])
    }
}

/// The bug check of an exception that nobody handles. A system thread is to blame below DISPATCH_LEVEL
/// (inferred: NT finds its thread-startup handler there), and whoever has them puts the addresses of the exception's record and context
/// into the last two parameters; above, only the exception itself is known.
#[must_use]
pub fn unhandled_exception(status: u32, ip: u64, irql: u8, information: [u64; 2]) -> BugCheck {
    // NT passes the status sign-extended.
    let status = i64::from(status as i32) as u64;
    if irql < DISPATCH_LEVEL {
        BugCheck { code: SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, parameters: [status, ip, 0, 0] }
    } else {
        BugCheck {
            code: KMODE_EXCEPTION_NOT_HANDLED,
            parameters: [status, ip, information[0], information[1]],
        }
    }
}

/// The bug check of a processor exception that is neither a page fault nor an NMI.
#[must_use]
pub fn processor_exception(vector: u8, ip: u64, irql: u8, rcx: u64, trap_frame: u64) -> BugCheck {
    let status = match vector {
        0 => 0xC000_0094, // STATUS_INTEGER_DIVIDE_BY_ZERO
        1 => 0x8000_0004, // STATUS_SINGLE_STEP
        3 => 0x8000_0003, // STATUS_BREAKPOINT
        4 => 0xC000_0095, // STATUS_INTEGER_OVERFLOW
        5 => 0xC000_008C, // STATUS_ARRAY_BOUNDS_EXCEEDED
        6 => 0xC000_001D, // STATUS_ILLEGAL_INSTRUCTION
        13 => {
            // A non-canonical address or a privileged mistake: NT reports an access violation at address -1.
            return unhandled_exception(ACCESS_VIOLATION, ip, irql, [0, u64::MAX]);
        }
        16 | 19 => 0xC000_02B5, // STATUS_FLOAT_MULTIPLE_TRAPS
        17 => 0x8000_0002,      // STATUS_DATATYPE_MISALIGNMENT
        18 => return BugCheck { code: MACHINE_CHECK_EXCEPTION, parameters: [0, trap_frame, 0, 0] },
        // __fastfail: the code is in ECX.
        0x29 => {
            let code = rcx & 0xFFFF_FFFF;
            return BugCheck { code: KERNEL_SECURITY_CHECK_FAILURE, parameters: [code, trap_frame, 0, 0] };
        }
        0x2C => 0xC000_0420, // STATUS_ASSERTION_FAILURE
        _ => {
            return BugCheck {
                code: UNEXPECTED_KERNEL_MODE_TRAP,
                parameters: [u64::from(vector), trap_frame, 0, ip],
            };
        }
    };
    unhandled_exception(status, ip, irql, [0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: u64 = 0xffff_f800_0001_1234;
    const KERNEL: u64 = 0xffff_ffff_8020_0000;
    const POOL: u64 = 0xffff_c000_0000_5000;

    fn fault(irql: u8, ip: (u64, Place), address: (u64, Place), error: u64) -> BugCheck {
        PageFault {
            address: address.0,
            error,
            ip: ip.0,
            irql,
            ip_place: ip.1,
            address_place: address.1,
            entry: 0x1003,
            trap_frame: 0x7000,
        }
        .bug_check()
    }

    #[test]
    fn an_isr_called_after_unload_is_d1_execute_with_its_own_address_twice() {
        let gone = (DRIVER, Place::UnloadedImage);
        let check = fault(6, gone, gone, ERROR_FETCH);
        assert_eq!(check, BugCheck { code: 0xD1, parameters: [DRIVER, 6, 8, DRIVER] });
    }

    #[test]
    fn a_driver_at_raised_irql_is_d1_with_its_access() {
        let driver = (DRIVER, Place::LoadedImage);
        let pool = (POOL, Place::Elsewhere);
        assert_eq!(fault(2, driver, pool, 0), BugCheck { code: 0xD1, parameters: [POOL, 2, 0, DRIVER] });
        assert_eq!(fault(2, driver, pool, ERROR_WRITE).parameters[2], 1);
        let null = (8, Place::Elsewhere);
        assert_eq!(fault(9, driver, null, 0), BugCheck { code: 0xD1, parameters: [8, 9, 0, DRIVER] });
    }

    #[test]
    fn the_kernel_at_raised_irql_is_told_apart_by_what_it_touched() {
        let kernel = (KERNEL, Place::Kernel);
        assert_eq!(fault(2, kernel, (POOL, Place::Elsewhere), 0).code, 0xA);
        assert_eq!(fault(2, kernel, (DRIVER, Place::LoadedImage), 0).code, 0xD3);
        let check = fault(2, kernel, (DRIVER, Place::UnloadedImage), ERROR_WRITE);
        assert_eq!(check, BugCheck { code: 0xD4, parameters: [DRIVER, 2, 1, KERNEL] });
    }

    #[test]
    fn below_dispatch_an_unloaded_driver_is_ce_and_anything_else_50() {
        let gone = (DRIVER, Place::UnloadedImage);
        assert_eq!(
            fault(0, gone, gone, ERROR_FETCH),
            BugCheck { code: 0xCE, parameters: [DRIVER, 0x10, DRIVER, 0] }
        );
        let kernel = (KERNEL, Place::Kernel);
        assert_eq!(
            fault(1, kernel, gone, ERROR_WRITE),
            BugCheck { code: 0xCE, parameters: [DRIVER, 2, KERNEL, 0] }
        );
        let driver = (DRIVER, Place::LoadedImage);
        assert_eq!(fault(0, driver, (POOL, Place::Elsewhere), 0).code, 0x50);
    }

    #[test]
    fn special_pool_tells_freed_from_overrun_and_the_driver_from_the_kernel() {
        let (driver, kernel) = ((DRIVER, Place::LoadedImage), (KERNEL, Place::Kernel));
        let (freed, beyond) = ((POOL, Place::FreedSpecialPool), (POOL, Place::BeyondSpecialPool));
        let check = fault(0, driver, freed, ERROR_WRITE);
        assert_eq!(check, BugCheck { code: 0xD5, parameters: [POOL, 1, DRIVER, 0] });
        assert_eq!(fault(1, kernel, freed, 0), BugCheck { code: 0xCC, parameters: [POOL, 0, KERNEL, 0] });
        assert_eq!(fault(0, driver, beyond, 0).code, 0xD6);
        assert_eq!(fault(0, kernel, beyond, 0).code, 0xCD);
        // At raised IRQL nothing of that is asked.
        assert_eq!(fault(2, driver, freed, 0).code, 0xD1);
        assert_eq!(fault(2, kernel, freed, 0).code, 0xA);
    }

    #[test]
    fn a_null_pointer_below_dispatch_is_an_access_violation_of_the_thread() {
        let check = fault(0, (DRIVER, Place::LoadedImage), (0, Place::Elsewhere), ERROR_WRITE);
        assert_eq!(check.code, 0x7E);
        assert_eq!(check.parameters[..2], [0xFFFF_FFFF_C000_0005, DRIVER]);
    }

    #[test]
    fn pages_that_forbid_the_access_have_codes_of_their_own_at_every_irql() {
        for irql in [0, 2, 11] {
            let driver = (DRIVER, Place::LoadedImage);
            assert_eq!(fault(irql, driver, driver, ERROR_PRESENT | ERROR_WRITE).code, 0xBE);
            assert_eq!(fault(irql, driver, (POOL, Place::Elsewhere), ERROR_PRESENT | ERROR_FETCH).code, 0xFC);
        }
    }

    #[test]
    fn other_exceptions_blame_the_thread_only_below_dispatch() {
        assert_eq!(processor_exception(0, DRIVER, 0, 0, 0).code, 0x7E);
        let check = processor_exception(0, DRIVER, 5, 0, 0);
        assert_eq!(check, BugCheck { code: 0x1E, parameters: [0xFFFF_FFFF_C000_0094, DRIVER, 0, 0] });
        assert_eq!(processor_exception(13, DRIVER, 2, 0, 0).parameters[3], u64::MAX);
        assert_eq!(processor_exception(8, DRIVER, 2, 0, 0).code, 0x7F);
        assert_eq!(processor_exception(8, DRIVER, 2, 0, 0).parameters[0], 8);
        assert_eq!(processor_exception(0x29, DRIVER, 0, 0xABCD_0000_0003, 0).parameters[0], 3);
    }

    #[test]
    fn codes_have_their_documented_names() {
        assert_eq!(name(0xD1), Some("DRIVER_IRQL_NOT_LESS_OR_EQUAL"));
        assert_eq!(name(SQUALL_KERNEL_FAULT), Some("SQUALL_KERNEL_FAULT"));
        assert_eq!(name(0xDEAD), None);
    }
}
