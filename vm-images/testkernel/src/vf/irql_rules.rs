//! DDI compliance: the IRQLs at which routines may be called, rule by rule.
//!
//! Each rule is a page of *Rules for WDM drivers* (`wdm-irql...`): its name, its code in 0xC4's first parameter, the levels,
//! and the routines that it governs of those that this guest has. The second parameter leads to the text of what was
//! broken, as on Windows; the others, Windows' own state of the rule, are 0.
//!
//! Routines that break another rule too have theirs in [`super::ddi_locks`].
//!
//! Beyond the pages: IoConnectInterruptEx and IoDisconnectInterruptEx go by the rules of the routines that they stand for,
//! as their own pages ask for PASSIVE_LEVEL too; and *IrqlMmDispatch* is read as "at most DISPATCH_LEVEL", which is what
//! MmFreeContiguousMemory's page says.

use super::stops;
use super::thunk::intercept;
use crate::console::println;
use crate::ke::irql::{self, Irql};
use crate::nt::{BOOLEAN, KEVENT};
use crate::selftest::{check, kernel_test};
use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

/// Levels at which a routine may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// PASSIVE_LEVEL.
    Passive,
    /// APC_LEVEL at most.
    UpToApc,
    /// DISPATCH_LEVEL at most.
    UpToDispatch,
    /// DISPATCH_LEVEL.
    Dispatch,
}

impl Levels {
    fn include(self, irql: Irql) -> bool {
        match self {
            Self::Passive => irql == Irql::PASSIVE,
            Self::UpToApc => irql <= Irql::APC,
            Self::UpToDispatch => irql <= Irql::DISPATCH,
            Self::Dispatch => irql == Irql::DISPATCH,
        }
    }
}

/// Stops the system where a routine may not be called at this level; `text` ends in a zero.
pub fn judge(code: u64, levels: Levels, text: &'static str) {
    if !levels.include(irql::current()) {
        broken(code, text);
    }
}

/// A rule of DDI compliance was broken; `text`, which ends in a zero, says how.
pub fn broken(code: u64, text: &'static str) -> ! {
    println!("verifier: {}", text.trim_end_matches('\0'));
    stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [code, text.as_ptr().expose_provenance() as u64, 0, 0]);
}

/// `Rule code levels "levels in words": routines;`
macro_rules! rules {
    ($($rule:ident $code:literal $levels:ident $words:literal: $($export:ident)*;)*) => { $(
        intercept! {
            for Ddi;
            $(
                /// See the table.
                before fn $export(site) {
                    const TEXT: &str =
                        concat!(stringify!($rule), ": ", stringify!($export), " may be called only at IRQL ", $words, "\0");
                    judge($code, Levels::$levels, TEXT);
                    None
                }
            )*
        }
    )*
    /// Every routine that the table names: its rule's code, and its levels.
    const TABLE: &[(&str, u64, Levels)] = &[$($((stringify!($export), $code, Levels::$levels),)*)*];
    };
}

rules! {
    IrqlDispatch 0x20003 Dispatch "= DISPATCH_LEVEL":
        IoAllocateController IoFreeController IoStartNextPacket KeInsertByKeyDeviceQueue KeInsertDeviceQueue
        KeRemoveByKeyDeviceQueue KeRemoveDeviceQueue;
    IrqlExAllocatePool 0x20004 UpToDispatch "<= DISPATCH_LEVEL":
        ExAllocatePoolWithTag ExAllocatePoolWithTagPriority;
    IrqlExApcLte1 0x20005 UpToApc "<= APC_LEVEL":
        ExAcquireFastMutex ExTryToAcquireFastMutex;
    IrqlExApcLte2 0x20006 UpToApc "<= APC_LEVEL":
        ExDeletePagedLookasideList ExInitializePagedLookasideList ExRegisterCallback ExUnregisterCallback;
    IrqlExApcLte3 0x20007 UpToApc "<= APC_LEVEL":
        ExAcquireResourceExclusiveLite ExAcquireResourceSharedLite ExAcquireSharedStarveExclusive
        ExAcquireSharedWaitForExclusive ExConvertExclusiveToSharedLite ExDeleteResourceLite;
    IrqlExPassive 0x20008 Passive "= PASSIVE_LEVEL":
        ExCreateCallback ExRaiseAccessViolation ExRaiseDatatypeMisalignment ExUuidCreate;
    IrqlExPassive 0x20008 UpToApc "<= APC_LEVEL":
        ExRaiseStatus;
    IrqlIoApcLte 0x20009 UpToApc "<= APC_LEVEL":
        IoDeleteDevice;
    IrqlIoPassive1 0x2000A Passive "= PASSIVE_LEVEL":
        IoAttachDevice IoCreateDevice;
    IrqlIoPassive1 0x2000A UpToApc "<= APC_LEVEL":
        IoBuildDeviceIoControlRequest;
    IrqlIoPassive2 0x2000B Passive "= PASSIVE_LEVEL":
        IoConnectInterrupt IoConnectInterruptEx IoCreateController;
    IrqlIoPassive3 0x2000C Passive "= PASSIVE_LEVEL":
        IoDetachDevice;
    IrqlIoPassive4 0x2000D Passive "= PASSIVE_LEVEL":
        IoCreateSymbolicLink IoDeleteController IoDeleteSymbolicLink IoDisconnectInterrupt IoDisconnectInterruptEx;
    IrqlIoPassive5 0x2000E Passive "= PASSIVE_LEVEL":
        IoGetConfigurationInformation IoGetDeviceObjectPointer IoInitializeTimer IoRegisterDriverReinitialization;
    IrqlKeApcLte1 0x2000F UpToApc "<= APC_LEVEL":
        KeAcquireGuardedMutex KeAcquireGuardedMutexUnsafe KeDelayExecutionThread KeQueryActiveProcessors
        KeReleaseGuardedMutex KeReleaseGuardedMutexUnsafe KeTryToAcquireGuardedMutex;
    IrqlKeApcLte2 0x20010 UpToApc "<= APC_LEVEL":
        KeDeregisterNmiCallback KeEnterCriticalRegion KeEnterGuardedRegion KeRegisterNmiCallback;
    IrqlKeDispatchLte 0x20011 UpToDispatch "<= DISPATCH_LEVEL":
        KeCancelTimer KeClearEvent KeInitializeDeviceQueue KeInitializeSemaphore
        KeInitializeTimer KeInitializeTimerEx KeReadStateEvent KeReadStateTimer KeReleaseMutex
        KeRemoveEntryDeviceQueue KeResetEvent KeSetTimer KeSetTimerEx;
    IrqlMmApcLte 0x20019 UpToApc "<= APC_LEVEL":
        MmAllocateNonCachedMemory MmFreeNonCachedMemory MmAllocatePagesForMdl MmAllocatePagesForMdlEx
        MmFreePagesFromMdl MmLockPagableDataSection MmLockPagableSectionByHandle MmPageEntireDriver
        MmResetDriverPaging MmUnlockPagableImageSection;
    IrqlMmDispatch 0x2001A UpToDispatch "<= DISPATCH_LEVEL":
        MmFreeContiguousMemory;
    IrqlObPassive 0x2001B Passive "= PASSIVE_LEVEL":
        ObReferenceObjectByHandle;
    IrqlPsPassive 0x2001C Passive "= PASSIVE_LEVEL":
        PsCreateSystemThread PsSetLoadImageNotifyRoutine PsTerminateSystemThread;
    IrqlRtlPassive 0x2001E Passive "= PASSIVE_LEVEL":
        RtlDeleteRegistryValue;
    IrqlZwPassive 0x2001F Passive "= PASSIVE_LEVEL":
        ZwClose ZwCreateKey ZwOpenKey ZwQueryValueKey ZwSetValueKey;
}

intercept! {
    for Ddi;

    /// *IrqlKeSetEvent rule (wdm)*: lower where the caller is going to wait.
    before fn KeSetEvent(site; event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32 {
        const FREE: &str = "IrqlKeSetEvent: KeSetEvent may be called only at IRQL <= DISPATCH_LEVEL\0";
        const WAITING: &str = "IrqlKeSetEvent: KeSetEvent with Wait may be called only at IRQL <= APC_LEVEL\0";
        if wait == 0 {
            judge(0x20016, Levels::UpToDispatch, FREE);
        } else {
            judge(0x20016, Levels::UpToApc, WAITING);
        }
        None
    }
}

mod plays {
    //! A driver's mistakes.
    use core::ptr;

    use crate::ke::event::KeSetEvent;
    use crate::ke::irql::{self, Irql};
    use crate::ke::list;
    use crate::nt::{
        BOOLEAN, DISPATCHER_HEADER, KEVENT, KINTERRUPT, KTIMER, NTSTATUS, UNICODE_STRING, object_type,
    };
    use crate::vf::rehearsal::{Driver, import};

    pub fn deletes_a_link_at_dispatch(driver: Driver) {
        use crate::io::link::IoDeleteSymbolicLink;
        let delete = import!(driver, IoDeleteSymbolicLink: fn(*const UNICODE_STRING) -> NTSTATUS);
        irql::raise(Irql::DISPATCH);
        // SAFETY: the call does not come that far.
        let _ = unsafe { delete(ptr::null()) };
    }

    pub fn disconnects_at_dispatch(driver: Driver) {
        use crate::io::interrupt::IoDisconnectInterrupt;
        let disconnect = import!(driver, IoDisconnectInterrupt: fn(*mut KINTERRUPT));
        irql::raise(Irql::DISPATCH);
        // SAFETY: as above.
        unsafe { disconnect(ptr::null_mut()) };
    }

    pub fn sets_an_event_and_waits_at_dispatch(driver: Driver) {
        let set = import!(driver, KeSetEvent: fn(*mut KEVENT, i32, BOOLEAN) -> i32);
        irql::raise(Irql::DISPATCH);
        // SAFETY: as above.
        unsafe { set(ptr::null_mut(), 0, 1) };
    }

    pub fn behaves(driver: Driver) {
        use crate::ke::timer::{KeCancelTimer, initialize};
        let set = import!(driver, KeSetEvent: fn(*mut KEVENT, i32, BOOLEAN) -> i32);
        let cancel = import!(driver, KeCancelTimer: fn(*mut KTIMER) -> BOOLEAN);
        let mut timer = core::mem::MaybeUninit::<KTIMER>::zeroed();
        let header = DISPATCHER_HEADER {
            Type: object_type::EVENT_NOTIFICATION,
            Flags: 0,
            Size: 6,
            Inserted: 0,
            SignalState: 0,
            WaitListHead: list::UNLINKED,
        };
        let mut event = KEVENT { Header: header };
        // SAFETY: both objects live as long as they are used.
        unsafe {
            list::initialize(&raw mut event.Header.WaitListHead);
            initialize(timer.as_mut_ptr(), object_type::TIMER_NOTIFICATION);
            let old = irql::raise(Irql::DISPATCH);
            set(&raw mut event, 0, 0);
            cancel(timer.as_mut_ptr());
            irql::lower(old);
        }
    }
}

kernel_test! {
    fn routines_at_a_level_that_they_may_not_be_called_at_break_their_rule() {
        use super::rehearsal::stop_of;
        let ddi = super::classes::Class::Ddi as u32;
        let rule_of = |play| match stop_of(ddi, play) {
            Some((DRIVER_VERIFIER_DETECTED_VIOLATION, [rule, text, 0, 0])) if text != 0 => rule,
            _ => 0,
        };
        check!(rule_of(plays::deletes_a_link_at_dispatch) == 0x2000D);
        check!(rule_of(plays::disconnects_at_dispatch) == 0x2000D);
        check!(rule_of(plays::sets_an_event_and_waits_at_dispatch) == 0x20016);
        check!(stop_of(ddi, plays::behaves).is_none());
    }

    fn every_routine_of_the_table_stops_at_a_level_that_is_not_its_own() {
        let Some(stage) = super::rehearsal::Stage::new(super::classes::Class::Ddi as u32) else {
            check!(false);
            return Ok(());
        };
        for &(export, code, levels) in TABLE {
            let stop = stage.stop_of(move |driver| {
                // SAFETY: the Verifier looks at no argument of these, and the call does not come further.
                let routine = unsafe { core::mem::transmute::<*const _, unsafe extern "win64" fn()>(driver.import(export)) };
                irql::raise(if levels == Levels::Dispatch { Irql::APC } else { Irql(5) });
                // SAFETY: as above.
                unsafe { routine() };
            });
            check!(stop.is_some_and(|(number, parameters)| number == 0xC4 && parameters[0] == code));
        }
    }

    fn levels_include_what_they_say() {
        let at = |levels: Levels| [0, 1, 2, 5].map(|level| levels.include(Irql(level)));
        check!(at(Levels::Passive) == [true, false, false, false]);
        check!(at(Levels::UpToApc) == [true, true, false, false]);
        check!(at(Levels::UpToDispatch) == [true, true, true, false]);
        check!(at(Levels::Dispatch) == [false, false, true, false]);
    }
}
