//! Which routines can fail, and how each tells its caller.
//!
//! Most say it by an NTSTATUS, and that is what is taken for granted of whatever returns one; those that give a pointer
//! or a number say it by zero, and have to be named. What cannot fail by its documentation, what only waits, and what gives
//! something back (a driver can do nothing about that) does not count.

use super::export::{Export, Module, lookup};
use crate::selftest::{check, kernel_test};

/// How a routine tells that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// By the status that it returns. What it would have written elsewhere stays as it was.
    Status,
    /// By returning zero: a null pointer, FALSE, a vector that is none.
    Zero,
    /// By zero, unless one of these bits of an argument asks for an exception instead.
    ZeroUnless(Bits),
    /// By zero only where one of these bits of an argument asks for it, by an exception otherwise.
    ZeroIf(Bits),
    /// The driver below completes the packet with the status, and returns it.
    Request,
}

/// Bits of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Which argument, the first being 0.
    pub argument: usize,
    /// Which of its bits.
    pub mask: u64,
}

const fn bits(argument: usize, mask: u64) -> Bits {
    Bits { argument, mask }
}

/// `POOL_RAISE_IF_ALLOCATION_FAILURE` of a pool type.
const RAISE: Failure = Failure::ZeroUnless(bits(0, 16));
/// `POOL_QUOTA_FAIL_INSTEAD_OF_RAISE` of a pool type.
const QUOTA: Failure = Failure::ZeroIf(bits(0, 8));

/// Routines whose result type does not say it.
const NAMED: &[(&str, Failure)] = &[
    ("ExAllocatePool", RAISE),
    // POOL_FLAG_RAISE_ON_FAILURE
    ("ExAllocatePool2", Failure::ZeroUnless(bits(0, 0x20))),
    ("ExAllocatePool3", Failure::ZeroUnless(bits(0, 0x20))),
    ("ExAllocatePoolWithQuota", QUOTA),
    ("ExAllocatePoolWithQuotaTag", QUOTA),
    ("ExAllocatePoolWithTag", RAISE),
    ("ExAllocatePoolWithTagPriority", RAISE),
    ("ExAllocateCacheAwareRundownProtection", Failure::Zero),
    ("ExAllocateTimer", Failure::Zero),
    ("ExRegisterCallback", Failure::Zero),
    ("HalAllocateCommonBuffer", Failure::Zero),
    ("HalGetAdapter", Failure::Zero),
    ("HalGetAdapter", Failure::Zero),
    ("HalGetInterruptVector", Failure::Zero),
    ("IoAllocateErrorLogEntry", Failure::Zero),
    ("IoAllocateIrp", Failure::Zero),
    ("IoAllocateMdl", Failure::Zero),
    ("IoAllocateWorkItem", Failure::Zero),
    ("IoAttachDeviceToDeviceStack", Failure::Zero),
    ("IoBuildAsynchronousFsdRequest", Failure::Zero),
    ("IoBuildDeviceIoControlRequest", Failure::Zero),
    ("IoBuildSynchronousFsdRequest", Failure::Zero),
    ("IoCreateController", Failure::Zero),
    ("IoGetDmaAdapter", Failure::Zero),
    ("IoGetDmaAdapter", Failure::Zero),
    ("IoMakeAssociatedIrp", Failure::Zero),
    ("IofCallDriver", Failure::Request),
    ("KeRegisterBugCheckCallback", Failure::Zero),
    ("KeRegisterBugCheckReasonCallback", Failure::Zero),
    ("KeRegisterNmiCallback", Failure::Zero),
    ("KeRegisterProcessorChangeCallback", Failure::Zero),
    ("MmAllocateContiguousMemory", Failure::Zero),
    ("MmAllocateContiguousMemorySpecifyCache", Failure::Zero),
    ("MmAllocateContiguousMemorySpecifyCacheNode", Failure::Zero),
    ("MmAllocateContiguousNodeMemory", Failure::Zero),
    ("MmAllocateMappingAddress", Failure::Zero),
    ("MmAllocateNodePagesForMdlEx", Failure::Zero),
    ("MmAllocateNonCachedMemory", Failure::Zero),
    ("MmAllocatePagesForMdl", Failure::Zero),
    ("MmAllocatePagesForMdlEx", Failure::Zero),
    ("MmGetPhysicalMemoryRanges", Failure::Zero),
    ("MmGetSystemRoutineAddress", Failure::Zero),
    ("MmMapIoSpace", Failure::Zero),
    ("MmMapIoSpaceEx", Failure::Zero),
    ("MmMapVideoDisplay", Failure::Zero),
    // BugCheckOnFailure, a BOOLEAN
    ("MmMapLockedPagesSpecifyCache", Failure::ZeroUnless(bits(4, 0xFF))),
    ("PoRegisterSystemState", Failure::Zero),
];

/// Routines that return a status and do not count.
const SURE: &[&str] = &[
    // Documented to return STATUS_SUCCESS, or a status that nobody acts on.
    "DbgPrint",
    "DbgPrintEx",
    "DbgPrintReturnControlC",
    "DbgQueryDebugFilterState",
    "vDbgPrintEx",
    "vDbgPrintExWithPrefix",
    "ExInitializeResourceLite",
    "ExReinitializeResourceLite",
    "RtlGetVersion",
    // Waiting is no request that could be refused.
    "KeDelayExecutionThread",
    "KeWaitForMultipleObjects",
    "KeWaitForSingleObject",
    "NtWaitForSingleObject",
    "ZwWaitForMultipleObjects",
    "ZwWaitForSingleObject",
    "ZwYieldExecution",
    // What is, and not a request.
    "KdChangeOption",
    "MmIsVerifierEnabled",
    "PsGetProcessExitStatus",
    "PsGetThreadExitStatus",
    // Something is given back, or ends.
    "CmUnRegisterCallback",
    "ExDeleteResourceLite",
    "IoDeleteSymbolicLink",
    "KeDeregisterNmiCallback",
    "KeQueryDpcWatchdogInformation",
    "KeRestoreFloatingPointState",
    "KeSaveFloatingPointState",
    "WmiTraceMessage",
    "WmiTraceMessageVa",
    "PsRemoveCreateThreadNotifyRoutine",
    "PsRemoveLoadImageNotifyRoutine",
    "IoUnregisterPlugPlayNotification",
    "IoUnregisterPlugPlayNotificationEx",
    "PoCallDriver",
    "PoClearPowerRequest",
    "PoUnregisterPowerSettingCallback",
    "PsTerminateSystemThread",
    "SeDeassignSecurity",
    "NtClose",
    "ObCloseHandle",
    "ZwClose",
];

/// How `export` tells that it failed, where it can.
pub fn how(export: &Export) -> Option<Failure> {
    let named = NAMED.iter().find(|(name, _)| *name == export.name()).map(|(_, failure)| *failure);
    let by_type =
        || (export.result() == "NTSTATUS" && !SURE.contains(&export.name())).then_some(Failure::Status);
    named.or_else(by_type)
}

kernel_test! {
    fn every_routine_that_is_named_exists() {
        let exists = |name| lookup(Module::Hal, name).or_else(|| lookup(Module::Ntoskrnl, name)).is_some();
        check!(NAMED.iter().all(|(name, _)| exists(name)));
        check!(SURE.iter().all(|name| exists(name)));
    }

    fn a_routine_that_returns_a_status_can_fail() {
        let how_of = |name| lookup(Module::Ntoskrnl, name).and_then(how);
        check!(how_of("IoCreateDevice") == Some(Failure::Status));
        check!(how_of("IoAllocateMdl") == Some(Failure::Zero));
        check!(how_of("ZwClose").is_none() && how_of("KeSetTimer").is_none());
    }
}
