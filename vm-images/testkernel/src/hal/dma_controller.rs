//! The system's DMA controller: which transfer a channel is to make when its device asks for it.

use core::sync::atomic::{AtomicU8, Ordering};

use squall_testkernel_pure::dma_controller::{
    CASCADE, CASCADE_MASK_PORT, CASCADE_MODE_PORT, Channel, Mode, SECOND_FLIP_FLOP_PORT, UNUSED_COUNT_PORT,
};

use crate::arch::port;
use crate::ke::lock::InterruptLock;
use crate::selftest::{check, kernel_test};

/// The bytes of a 16-bit register belong together, hence the lock.
static PORTS: InterruptLock<()> = InterruptLock::new(());

fn write_pair(at: u16, value: u16) {
    value.to_le_bytes().into_iter().for_each(|byte| port::write_u8(at, byte));
}

fn read_pair(at: u16) -> u16 {
    u16::from_le_bytes([port::read_u8(at), port::read_u8(at)])
}

/// Whether the machine has one; it is looked for once, and made ready then.
pub fn is_there() -> bool {
    const NO: u8 = 1;
    const YES: u8 = 2;
    const PATTERN: u16 = 0xA5C3;
    static FOUND: AtomicU8 = AtomicU8::new(0);
    let _ports = PORTS.lock();
    if FOUND.load(Ordering::Relaxed) == 0 {
        port::write_u8(SECOND_FLIP_FLOP_PORT, 0);
        write_pair(UNUSED_COUNT_PORT, PATTERN);
        let found = read_pair(UNUSED_COUNT_PORT) == PATTERN;
        if found {
            let (mode, mask) = CASCADE;
            port::write_u8(CASCADE_MODE_PORT, mode);
            port::write_u8(CASCADE_MASK_PORT, mask);
        }
        FOUND.store(if found { YES } else { NO }, Ordering::Relaxed);
    }
    FOUND.load(Ordering::Relaxed) == YES
}

/// Lets the channel's device transfer so many bytes from or to `physical`, which lie below 16 MiB and cross no boundary of the
/// channel's.
pub fn start(channel: Channel, mode: Mode, physical: u64, bytes: u64) {
    let _ports = PORTS.lock();
    let (mask_port, masked) = channel.mask(true);
    let (mode_port, how) = channel.mode(mode);
    let (address, page) = channel.address(physical);
    port::write_u8(mask_port, masked);
    port::write_u8(mode_port, how);
    port::write_u8(channel.flip_flop_port(), 0);
    write_pair(channel.address_port(), address);
    port::write_u8(channel.page_port(), page);
    write_pair(channel.count_port(), channel.count(bytes));
    port::write_u8(mask_port, channel.mask(false).1);
}

/// The channel's device is not heard any more.
pub fn stop(channel: Channel) {
    let (port, masked) = channel.mask(true);
    port::write_u8(port, masked);
}

/// How many bytes of the transfer are left. (A transfer may go on meanwhile: the two bytes are read until they go together.)
pub fn left(channel: Channel) -> u32 {
    let _ports = PORTS.lock();
    let read = || {
        port::write_u8(channel.flip_flop_port(), 0);
        read_pair(channel.count_port())
    };
    let mut count = read();
    for _ in 0..8 {
        let again = read();
        if again >> 8 == count >> 8 {
            return channel.left(again);
        }
        count = again;
    }
    channel.left(count)
}

kernel_test! {
    fn a_channel_counts_from_what_it_was_told() {
        check!(is_there());
        let mode = Mode { to_device: true, demand: false, auto_initialize: false };
        for (number, width) in [(1, 0), (5, 1)] {
            let Some(channel) = Channel::new(number, width) else { check!(false); return Ok(()) };
            start(channel, mode, 0x12_3400, 0x200);
            check!(left(channel) == 0x200);
            {
                let _ports = PORTS.lock();
                port::write_u8(channel.flip_flop_port(), 0);
                check!(read_pair(channel.address_port()) == channel.address(0x12_3400).0);
                check!(port::read_u8(channel.page_port()) == 0x12);
            }
            stop(channel);
        }
    }
}
