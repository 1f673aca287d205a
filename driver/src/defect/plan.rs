//! Which mistake each defect makes.

use squall_driver_pure::Mistake::{self, After, Before, Forgotten, Wrongly};

use super::{Where, misplaced::Place, strike::Stand};
use crate::unload::Step::{self, *};

/// What Unload does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The hardware is forgotten: the next interrupt calls an ISR that is no longer there.
    InterruptsLeftEnabledAndConnected,
    /// What comes first is done last: the ISR runs all the while.
    SilencedLast,
    /// The line stays up, and nobody is left to serve it.
    NotSilencedButDisconnected,
    /// What the ISR is called with is freed before it is disconnected.
    IsrContextFreedBeforeDisconnect,
    /// The device object is deleted before the ISR, which uses its extension, is disconnected.
    DeviceDeletedBeforeDisconnect,
    /// With a spin lock held.
    DisconnectAbovePassive,
    /// The ISR reads registers that are not there any more.
    UnmappedRegistersBeforeDisconnect,
    /// Nobody takes the DPC out of the queue.
    DpcFreedWhileQueued,
    /// The ISR puts it back.
    DpcRemovedBeforeSilencing,
    /// It was not queued because it is running.
    DpcRemoveTakenAsFinished,
    /// The ISR queues another one.
    DpcsFlushedBeforeDisconnect,
    /// A DPC object among the image's data is still queued when the image goes.
    GlobalDpcPendingAtReturn,
    /// The DpcForIsr, in the device object, is still queued when that goes.
    DpcForIsrQueuedAtDelete,
    /// Nobody cancels the timer.
    ActiveTimerFreed,
    /// Nobody cancels the timer among the image's data.
    GlobalTimerLeft,
    /// Nobody stops the device's timer.
    IoTimerLeftRunning,
    /// Nobody waits for the work item.
    IoWorkItemLeftQueued,
    /// The work item is freed instead of waited for.
    WorkItemFreedWhileQueued,
    /// A work item of the old kind, which holds no reference on anything.
    WorkItemOutlivesImage,
    /// The thread is told to end, and not waited for.
    SystemThreadLeft,
    /// Nobody deletes the lookaside list among the image's data.
    GlobalLookasideLeft,
    /// Nobody frees the memory.
    PoolLeaked,
    /// Two people free it.
    PoolFreedTwice,
    /// Nobody deletes the lookaside list in it.
    PoolFreedWithLookaside,
    /// Nobody deletes it.
    SymbolicLinkLeft,
    /// Nobody unmaps them.
    MappedRegistersLeft,
    /// Nobody frees it.
    CommonBufferLeft,
    /// Nobody detaches from the device below.
    DeviceDeletedWithoutDetach,
    /// Nobody gives the file object up.
    FileObjectReferenceKept,
    /// Nobody gives the resources back.
    ResourceClaimLeft,
    /// Nobody removes it.
    DeviceMapNameLeft,
    /// Nobody deletes it.
    DeviceObjectLeft,
    /// Nobody deletes it.
    ControllerObjectLeft,
    /// Nobody counts it out.
    ConfigurationCountKept,
    /// The ISR is in a pageable section.
    PageableIsr,
    /// With a spin lock held.
    WaitsAtDispatchInUnload,
}

/// One row of the table.
struct Plan {
    mistakes: &'static [Mistake<Step>],
    place: Option<Place>,
    dawdles: Option<Where>,
    is_in_no_hurry: bool,
    stand: Option<Stand>,
    is_struck: bool,
    tells_to_rest: bool,
}

/// Nothing but mistakes in the order.
const fn order(mistakes: &'static [Mistake<Step>]) -> Plan {
    Plan {
        mistakes,
        place: None,
        dawdles: None,
        is_in_no_hurry: false,
        stand: None,
        is_struck: false,
        tells_to_rest: false,
    }
}

impl Plan {
    const fn with(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    const fn slow(self, dawdles: Where) -> Self {
        Self { dawdles: Some(dawdles), ..self }
    }

    const fn in_no_hurry(self) -> Self {
        Self { is_in_no_hurry: true, ..self }.on(Stand::There)
    }

    const fn on(self, stand: Stand) -> Self {
        Self { stand: Some(stand), ..self }
    }

    const fn struck(self) -> Self {
        Self { is_struck: true, ..self }
    }

    const fn told_to_rest(self) -> Self {
        Self { tells_to_rest: true, ..self }
    }
}

/// The interrupt is silenced and disconnected, in this order, right before another step instead of at first.
macro_rules! interrupts_before {
    ($step:ident) => {
        [Before(SilenceCard, $step), Before(DisconnectInterrupts, $step)]
    };
}

impl Defect {
    /// Every defect by the name it has in `defects.toml`.
    pub(super) const CATALOGUE: [(&str, Self); 36] = [
        ("interrupts-left-enabled-and-connected", Self::InterruptsLeftEnabledAndConnected),
        ("silenced-last", Self::SilencedLast),
        ("not-silenced-but-disconnected", Self::NotSilencedButDisconnected),
        ("isr-context-freed-before-disconnect", Self::IsrContextFreedBeforeDisconnect),
        ("device-deleted-before-disconnect", Self::DeviceDeletedBeforeDisconnect),
        ("disconnect-above-passive", Self::DisconnectAbovePassive),
        ("unmapped-registers-before-disconnect", Self::UnmappedRegistersBeforeDisconnect),
        ("dpc-freed-while-queued", Self::DpcFreedWhileQueued),
        ("dpc-removed-before-silencing", Self::DpcRemovedBeforeSilencing),
        ("dpc-remove-taken-as-finished", Self::DpcRemoveTakenAsFinished),
        ("dpcs-flushed-before-disconnect", Self::DpcsFlushedBeforeDisconnect),
        ("global-dpc-pending-at-return", Self::GlobalDpcPendingAtReturn),
        ("dpc-for-isr-queued-at-delete", Self::DpcForIsrQueuedAtDelete),
        ("active-timer-freed", Self::ActiveTimerFreed),
        ("global-timer-left", Self::GlobalTimerLeft),
        ("io-timer-left-running", Self::IoTimerLeftRunning),
        ("io-work-item-left-queued", Self::IoWorkItemLeftQueued),
        ("work-item-freed-while-queued", Self::WorkItemFreedWhileQueued),
        ("work-item-outlives-image", Self::WorkItemOutlivesImage),
        ("system-thread-left", Self::SystemThreadLeft),
        ("global-lookaside-left", Self::GlobalLookasideLeft),
        ("pool-leaked", Self::PoolLeaked),
        ("pool-freed-twice", Self::PoolFreedTwice),
        ("pool-freed-with-lookaside", Self::PoolFreedWithLookaside),
        ("symbolic-link-left", Self::SymbolicLinkLeft),
        ("mapped-registers-left", Self::MappedRegistersLeft),
        ("common-buffer-left", Self::CommonBufferLeft),
        ("device-deleted-without-detach", Self::DeviceDeletedWithoutDetach),
        ("file-object-reference-kept", Self::FileObjectReferenceKept),
        ("resource-claim-left", Self::ResourceClaimLeft),
        ("device-map-name-left", Self::DeviceMapNameLeft),
        ("device-object-left", Self::DeviceObjectLeft),
        ("controller-object-left", Self::ControllerObjectLeft),
        ("configuration-count-kept", Self::ConfigurationCountKept),
        ("pageable-isr", Self::PageableIsr),
        ("waits-at-dispatch-in-unload", Self::WaitsAtDispatchInUnload),
    ];

    const fn plan(self) -> Plan {
        match self {
            // Stage 0.
            Self::InterruptsLeftEnabledAndConnected => order(
                const { &[Forgotten(SilenceCard), Forgotten(DisconnectInterrupts), Forgotten(UnmapRegisters)] },
            )
            .told_to_rest(),
            Self::SilencedLast => {
                order(const { &interrupts_before!(DetachLowerDevice) }).with(Place::ContextInPool).struck()
            }
            Self::NotSilencedButDisconnected => order(const { &[Forgotten(SilenceCard)] }),

            // Stage 1.
            Self::IsrContextFreedBeforeDisconnect => {
                order(const { &[Before(FreeIsrContext, SilenceCard)] }).with(Place::ContextInPool).struck()
            }
            Self::DeviceDeletedBeforeDisconnect => {
                order(
                const {
                    &[
                        After(SilenceCard, DeleteDevice),
                        After(DisconnectInterrupts, SilenceCard),
                        After(UnmapRegisters, DisconnectInterrupts),
                    ]
                },
            )
                    .told_to_rest()
                    .struck()
            }
            Self::DisconnectAbovePassive => order(const { &[Wrongly(DisconnectInterrupts)] }),
            Self::UnmappedRegistersBeforeDisconnect => {
                order(const { &[Before(UnmapRegisters, SilenceCard)] }).struck()
            }
            Self::PageableIsr => order(&[]),

            // Stage 2: DPCs.
            Self::DpcFreedWhileQueued => order(
                const {
                    &[
                        Forgotten(RemoveCustomDpc),
                        Forgotten(FlushDpcs),
                        Before(CancelTimer, SilenceCard),
                        Before(DeleteLookasideList, SilenceCard),
                        Before(FreeObjects, DisconnectInterrupts),
                    ]
                },
            )
            .with(Place::ObjectsInPool)
            .in_no_hurry()
            .struck(),
            Self::DpcRemovedBeforeSilencing => order(
                const {
                    &[
                        Forgotten(FlushDpcs),
                        Before(SilenceCard, FreeObjects),
                        Before(DisconnectInterrupts, FreeObjects),
                    ]
                },
            )
            .with(Place::ObjectsInPool)
            .in_no_hurry()
            .struck(),
            Self::DpcRemoveTakenAsFinished => order(
                const {
                    &[
                        Forgotten(FlushDpcs),
                        Before(CancelTimer, SilenceCard),
                        After(RemoveCustomDpc, SilenceCard),
                        After(FreeIsrContext, RemoveCustomDpc),
                    ]
                },
            )
            .with(Place::ContextInPool)
            .slow(Where::Dpc)
            .on(Stand::Another)
            .struck(),
            Self::DpcsFlushedBeforeDisconnect => {
                order(const { &interrupts_before!(FreeObjects) })
                    .with(Place::ObjectsInPool)
                    .in_no_hurry()
                    .struck()
            }
            Self::GlobalDpcPendingAtReturn => order(
                const {
                    &[
                        Forgotten(RemoveCustomDpc),
                        Forgotten(FlushDpcs),
                        Before(SilenceCard, DeleteDevice),
                        Before(DisconnectInterrupts, DeleteDevice),
                        Before(UnmapRegisters, DeleteDevice),
                        Wrongly(UnmapRegisters),
                    ]
                },
            )
            .with(Place::ObjectsInImage)
            .in_no_hurry()
            .struck(),
            Self::DpcForIsrQueuedAtDelete => order(
                const {
                    &[
                        Before(SilenceCard, DeleteDevice),
                        Before(DisconnectInterrupts, DeleteDevice),
                        Before(UnmapRegisters, DeleteDevice),
                        Before(RemoveCustomDpc, DeleteDevice),
                    ]
                },
            )
            .in_no_hurry()
            .struck(),

            // Stage 2: timers, work items, threads.
            Self::ActiveTimerFreed => order(const { &[Forgotten(CancelTimer)] }).with(Place::ObjectsInPool),
            Self::GlobalTimerLeft => {
                order(const { &[Forgotten(CancelTimer)] }).with(Place::ObjectsInImage).told_to_rest()
            }
            Self::IoTimerLeftRunning => {
                order(const { &[Before(StopIoTimer, DeleteDevice), Wrongly(StopIoTimer)] })
            }
            Self::IoWorkItemLeftQueued => order(const { &[Forgotten(AwaitWorkItem)] }).slow(Where::WorkItem),
            Self::WorkItemFreedWhileQueued => order(const { &[Wrongly(AwaitWorkItem)] }),
            Self::WorkItemOutlivesImage => order(const { &[Wrongly(AwaitWorkItem)] }).slow(Where::WorkItem),
            Self::SystemThreadLeft => order(const { &[Wrongly(EndThread)] }).slow(Where::Thread),
            Self::WaitsAtDispatchInUnload => order(const { &[Wrongly(EndThread)] }).slow(Where::Thread),

            // Stage 3.
            Self::GlobalLookasideLeft => {
                order(const { &[Forgotten(DeleteLookasideList)] }).with(Place::ObjectsInImage)
            }
            Self::PoolLeaked => order(const { &[Forgotten(FreePool)] }),
            Self::PoolFreedTwice => order(const { &[Wrongly(FreePool)] }),
            Self::PoolFreedWithLookaside => {
                order(const { &[Forgotten(DeleteLookasideList)] }).with(Place::ObjectsInPool)
            }
            Self::SymbolicLinkLeft => order(const { &[Forgotten(DeleteSymbolicLink)] }),
            Self::MappedRegistersLeft => order(const { &[Forgotten(UnmapRegisters)] }),
            Self::CommonBufferLeft => order(const { &[Forgotten(FreeCommonBuffer)] }),

            // Stages 4 to 6.
            Self::DeviceDeletedWithoutDetach => order(const { &[Forgotten(DetachLowerDevice)] }),
            Self::FileObjectReferenceKept => order(const { &[Forgotten(DereferenceFileObject)] }),
            Self::ResourceClaimLeft => order(const { &[Forgotten(GiveBackClaim)] }),
            Self::DeviceMapNameLeft => order(const { &[Forgotten(RemoveDeviceMapName)] }),

            // The end.
            Self::DeviceObjectLeft => order(const { &[Forgotten(DeleteDevice)] }),
            Self::ControllerObjectLeft => order(const { &[Forgotten(DeleteController)] }),
            Self::ConfigurationCountKept => order(const { &[Forgotten(CountOut)] }),
        }
    }

    /// What is wrong with the order of Unload's steps.
    pub(super) fn mistakes(self) -> &'static [Mistake<Step>] {
        self.plan().mistakes
    }

    /// What is not in the extension.
    pub(super) fn place(self) -> Option<Place> {
        self.plan().place
    }

    /// Which routine takes its time.
    pub(super) fn dawdles(self) -> Option<Where> {
        self.plan().dawdles
    }

    /// Whether the DPCs are of low importance.
    pub(super) fn is_in_no_hurry(self) -> bool {
        self.plan().is_in_no_hurry
    }

    /// On which processor Unload runs, where that matters.
    pub(super) fn stand(self) -> Option<Stand> {
        self.plan().stand
    }

    /// Whether the mistake is about an interrupt right before the card is silenced.
    pub(super) fn is_struck(self) -> bool {
        self.plan().is_struck
    }

    /// Whether ISR and timer are told to rest, instead of being kept from running.
    pub(super) fn tells_to_rest(self) -> bool {
        self.plan().tells_to_rest
    }
}
