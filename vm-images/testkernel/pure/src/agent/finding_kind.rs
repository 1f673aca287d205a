//! What a driver can have done wrong without stopping the system, by the names that the agent's answers give it.
//!
//! This is the list: the kernel finds nothing that is not in it. Windows without its Verifier notices none of them by itself, and says so
//! of the pool only with it.

use serde::Serialize;

/// A kind of finding; in the answers in lower case, with hyphens: `interrupt-left-connected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// An interrupt object: its ISR's code is about to go.
    InterruptLeftConnected,
    /// A timer whose DPC's routine is about to go.
    TimerLeftRunning,
    /// A DPC whose routine is about to go.
    DpcLeftQueued,
    /// A routine that a bug check would call in an image that is gone.
    BugcheckCallbackLeft,
    /// A routine that an NMI would call in an image that is gone.
    NmiCallbackLeft,
    /// A routine that the next message would call.
    DebugPrintCallbackLeft,
    /// A routine that the next thread or image would call.
    NotifyRoutineLeft,
    /// A routine that the next operation on the registry would call.
    RegistryCallbackLeft,
    /// Routines that the next handle for a process or thread would call.
    ObjectCallbackLeft,
    /// A thread that has not ended.
    SystemThreadLeft,
    /// A lookaside list that was not deleted.
    LookasideListLeft,
    /// A resource that was not deleted.
    EresourceLeft,
    /// Device memory that is still mapped.
    MappingLeft,
    /// Addresses of MmAllocateMappingAddress.
    MappingAddressLeft,
    /// A view of a section that is still mapped.
    ViewLeft,
    /// Contiguous or non-cached memory.
    ContiguousMemoryLeft,
    /// A value that DriverEntry wrote under the registry's DeviceMap.
    DeviceMapNameLeft,
    /// A count of IoGetConfigurationInformation that DriverEntry raised.
    ConfigurationCountKept,
    /// A device object: the driver stays as a zombie.
    DeviceObjectLeft,
    /// A link that leads nowhere now.
    SymbolicLinkLeft,
    /// A device opened with IoGetDeviceObjectPointer and never given up.
    FileReferenceLeft,
    /// A packet that the driver made.
    IrpLeft,
    /// A memory descriptor list that the driver made.
    MdlLeft,
    /// A work item that IoFreeWorkItem was not called for.
    WorkItemLeft,
    /// A controller object.
    ControllerLeft,
    /// An entry of the error log, neither written nor freed.
    ErrorLogEntryLeft,
    /// Pool that the driver allocated.
    PoolLeft,
    /// A security context that SeReleaseSubjectContext was not called for.
    SubjectContextLeft,
    /// A common buffer of a DMA adapter.
    CommonBufferLeft,
    /// A DMA transfer whose map registers were not given back.
    MapRegistersLeft,
    /// A DMA transfer whose scatter/gather list was not given back.
    ScatterGatherListLeft,
    /// A DMA adapter.
    DmaAdapterLeft,
    /// Nothing: a deleted device's object or extension was read or written.
    DeletedDeviceTouched,
    /// A registration with EtwRegister, whose callback is about to go.
    EventProviderLeft,
    /// A device interface: its symbolic link leads to a device that nobody serves.
    DeviceInterfaceLeftEnabled,
    /// A registration that keeps the driver in memory.
    PlugPlayNotificationLeft,
    /// A power request, or a registration of PoRegisterSystemState.
    PowerRequestLeft,
    /// A registration whose callback is about to go.
    PowerSettingCallbackLeft,
    /// A routine that the next notification of a callback object would call.
    CallbackRegistrationLeft,
    /// A timer that ExAllocateTimer made.
    ExecutiveTimerLeft,
    /// A routine that would be told of a processor.
    ProcessorChangeCallbackLeft,
    /// A device that is registered with IoWMIRegistrationControl: it and the driver stay.
    WmiRegistrationLeft,
    /// Memory that a connected ISR is called with was freed.
    IsrContextFreed,
    /// Memory that a running DPC was called with was freed.
    DpcContextFreed,
    /// Memory with a queued DPC was freed.
    DpcFreedWhileQueued,
    /// A device was deleted while its timer ran.
    IoTimerLeftRunning,
    /// A device was deleted while attached to another.
    DeviceLeftAttached,
    /// An ISR in a pageable section.
    PageableIsr,
    /// Ports, memory or lines that IoReportResourceForDetection claimed.
    ResourceClaimLeft,
}
