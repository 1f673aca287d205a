//! A device that masters no bus: the system's controller transfers for it, through one of its channels.
//!
//! Such a device has the same adapter as any other. MapTransfer tells the controller where the next part of the buffer is, the
//! driver tells the device to begin, and FlushAdapterBuffers ends what is under way. There is one controller: whoever has
//! allocated a channel has it, and others with adapters of the same channel wait.

use squall_testkernel_pure::dma_controller::{Channel, Mode};

use crate::hal::dma_controller;
use crate::nt::{DEVICE_DESCRIPTION, INTERFACE_TYPE_ISA};

/// `INTERFACE_TYPE::Eisa`, whose channels are ISA's here.
const EISA: u32 = 2;

/// A device's channel, and how it transfers.
#[derive(Clone, Copy, Debug)]
pub struct Slave {
    channel: Channel,
    demand: bool,
    auto_initialize: bool,
    ignore_count: bool,
}

impl Slave {
    /// What a description says; none where the machine has no such channel.
    pub fn new(description: &DEVICE_DESCRIPTION) -> Option<Self> {
        let on_isa = matches!(description.InterfaceType, INTERFACE_TYPE_ISA | EISA);
        let channel = Channel::new(description.DmaChannel, description.DmaWidth)?;
        (on_isa && dma_controller::is_there()).then_some(Self {
            channel,
            demand: description.DemandMode != 0,
            auto_initialize: description.AutoInitialize != 0,
            ignore_count: description.IgnoreCount != 0,
        })
    }

    /// The channel's number.
    pub fn number(&self) -> u8 {
        self.channel.number()
    }

    /// Bytes in a unit of the device's.
    pub fn unit(&self) -> u32 {
        self.channel.unit()
    }

    /// No transfer crosses a multiple of this.
    pub fn boundary(&self) -> u64 {
        self.channel.boundary()
    }

    /// The controller transfers these bytes when the device asks.
    pub fn start(&self, physical: u64, bytes: u64, to_device: bool) {
        let mode = Mode { to_device, demand: self.demand, auto_initialize: self.auto_initialize };
        dma_controller::start(self.channel, mode, physical, bytes);
    }

    /// The device is not heard any more.
    pub fn stop(&self) {
        dma_controller::stop(self.channel);
    }

    /// How many bytes are left.
    pub fn left(&self) -> u32 {
        dma_controller::left(self.channel)
    }

    /// How many of `bytes` were transferred, as far as the controller's count says so.
    pub fn done_of(&self, bytes: u64) -> u64 {
        let counts = !self.ignore_count && !self.auto_initialize;
        if counts { bytes.saturating_sub(self.left().into()) } else { bytes }
    }
}
