//! What has to be given back.

#[cfg(feature = "defects")]
use crate::defect::Misplaced;
use crate::{
    card::Card,
    clock::Heartbeat,
    nt::{
        claim::Claim,
        configuration::Counted,
        contiguous::Contiguous,
        controller::Controller,
        device::Device,
        device_map::MappedName,
        dma::{Adapter, CommonBuffer},
        interrupt::Interrupts,
        io_timer::IoTimer,
        link::Link,
        lookaside::Lookaside,
        lower::{Attached, Opened},
        mapping::Mapping,
        pool::Pooled,
        thread::Thread,
        timer::Timer,
        work_item::WorkItem,
    },
    open::Open,
    saver::KeyName,
};

/// Everything that the kernel, or the hardware, has lent to this driver.
///
/// DriverEntry fills it in as it goes, and Unload empties it, a field a [step](crate::unload::Step). What is not there has not been
/// borrowed, or was given back: so the same steps undo a DriverEntry that failed half-way, and give back exactly what it had.
#[derive(Default)]
pub(crate) struct Held {
    /// The card, since it was found: it may interrupt.
    pub(crate) card: Option<Card>,
    /// The ISR, connected.
    pub(crate) interrupts: Option<Interrupts>,
    /// The timer that looks after reads.
    pub(crate) io_timer: Option<IoTimer>,
    /// The timer that watches the card.
    pub(crate) watch: Option<Timer>,
    /// What saves the counts.
    pub(crate) saver: Option<WorkItem>,
    /// The thread that records.
    pub(crate) recorder: Option<Thread>,
    /// The name that programs open.
    pub(crate) link: Option<Link>,
    /// Blocks for who has the device open.
    pub(crate) opens: Option<Lookaside<Open>>,
    /// The service's name in the registry.
    pub(crate) key_name: Option<Pooled<KeyName>>,
    /// The memory that is recorded to.
    pub(crate) recording: Option<Contiguous>,
    /// What the card could see of the driver.
    pub(crate) heartbeat: Option<CommonBuffer<Heartbeat>>,
    /// By which it could see it.
    pub(crate) adapter: Option<Adapter>,
    /// The registers, where they are in memory.
    pub(crate) registers: Option<Mapping>,
    /// The device below.
    pub(crate) lower: Option<Attached>,
    /// The same, opened, where it has a name.
    pub(crate) opened: Option<Opened>,
    /// The ports and the line.
    pub(crate) claim: Option<Claim>,
    /// The name in the DeviceMap.
    pub(crate) mapped_name: Option<MappedName>,
    /// What a request has to itself.
    pub(crate) controller: Option<Controller>,
    /// The I/O manager's count.
    pub(crate) counted: Option<Counted>,
    /// Memory that should have been part of the extension.
    #[cfg(feature = "defects")]
    pub(crate) misplaced: Misplaced,
    /// The device, and with it the extension.
    pub(crate) device: Option<Device>,
}
