//! Interrupts that a device writes instead of raising a line: MSI and MSI-X.
//!
//! A message is a value that the device writes to an address; the address names a processor, the value a vector
//! (*Introduction to Message-Signaled Interrupts*). A function is given its vectors once, all of them silent. Each
//! begins to come when its vector is connected, to the processor that was asked for, and ends when it is disconnected:
//! [`begin`] and [`end`] are to a message what routing and masking a pin of the I/O APIC are to a line.

use alloc::vec::Vec;

use squall_testkernel_pure::pci::{Address, Config, Function, Msi, MsiX, Width, command, register};
use squall_testkernel_pure::vectors::MessageVectors;

use super::pci::ConfigSpace;
use crate::ke::lock::InterruptLock;
use crate::mm;
use crate::selftest::{check, kernel_test};

/// Where a write is an interrupt message, to the processor whose APIC number is in bits 12 to 19.
const ADDRESS: u64 = 0xFEE0_0000;
const DESTINATION_SHIFT: u32 = 12;

/// In the message control word of either capability.
const MSI_ENABLE: u32 = 1;
const MSI_COUNT_SHIFT: u32 = 4;
const MSIX_ENABLE: u32 = 1 << 15;
const MSIX_MASK_ALL: u32 = 1 << 14;
/// In an MSI-X entry's fourth word.
const ENTRY_MASKED: u32 = 1;
const ENTRY_BYTES: usize = 16;

/// The most messages that one function gets.
pub const MAX_MESSAGES: u16 = 32;
/// Messages of one MSI capability share a level of vectors.
const MAX_MSI: u8 = 8;

/// Where the message of a vector is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the capability, which holds the first of the function's messages.
    Msi { function: Address, msi: Msi, index: u8, first: u8 },
    /// In an entry of the table at this address, and in those between the other two numbers: a function that was given
    /// fewer messages than it has entries sends the first one from all that are left over.
    MsiX { function: Address, table: usize, entry: u16, also_from: u16, also_to: u16 },
}

#[derive(Clone, Copy, Debug)]
struct Wired {
    vector: u8,
    place: Place,
    comes: bool,
}

struct Messages {
    taken: MessageVectors,
    /// Vectors that a function was given; each at most once.
    wired: [Option<Wired>; 64],
}

static MESSAGES: InterruptLock<Messages> =
    InterruptLock::new(Messages { taken: MessageVectors::new(), wired: [None; 64] });

/// What has to be written, and where, to interrupt a processor at `vector`: edge-triggered, to that processor alone.
pub fn message(vector: u8, apic_id: u32) -> (u64, u32) {
    (ADDRESS | u64::from(apic_id) << DESTINATION_SHIFT, u32::from(vector))
}

/// Whether `vector` was given to somebody for a message.
pub fn is_message(vector: u8) -> bool {
    MESSAGES.lock().taken.is_taken(vector)
}

/// Lets the message of `vector` come to the processor with this APIC number.
pub fn begin(vector: u8, apic_id: u32) {
    let mut messages = MESSAGES.lock();
    let Some(wired) = messages.wired.iter_mut().flatten().find(|wired| wired.vector == vector) else {
        return;
    };
    wired.comes = true;
    let (address, data) = message(vector, apic_id);
    match wired.place {
        Place::Msi { function, msi, index, first } => {
            let data_at = msi.at + if msi.wide { 12 } else { 8 };
            ConfigSpace.write(function, msi.at + 4, Width::Long, address as u32);
            if msi.wide {
                ConfigSpace.write(function, msi.at + 8, Width::Long, 0);
            }
            // The function adds the message's number.
            ConfigSpace.write(function, data_at, Width::Word, first.into());
            set_msi_mask(function, msi, index, false);
            let control = ConfigSpace.read(function, msi.at + 2, Width::Word);
            ConfigSpace.write(function, msi.at + 2, Width::Word, control | MSI_ENABLE);
        }
        Place::MsiX { table, entry, also_from, also_to, .. } => {
            for entry in core::iter::once(entry).chain(also_from..also_to) {
                write_entry(table, entry, [address as u32, (address >> 32) as u32, data, 0]);
            }
        }
    }
}

/// Ends the message of `vector`. A device that has something to say remembers it, where it can.
pub fn end(vector: u8) {
    let mut messages = MESSAGES.lock();
    let Some(wired) = messages.wired.iter_mut().flatten().find(|wired| wired.vector == vector) else {
        return;
    };
    wired.comes = false;
    let place = wired.place;
    match place {
        Place::Msi { function, msi, index, .. } => {
            set_msi_mask(function, msi, index, true);
            let same =
                |place: Place| matches!(place, Place::Msi { function: other, .. } if other == function);
            let any = messages.wired.iter().flatten().any(|wired| wired.comes && same(wired.place));
            if !any {
                let control = ConfigSpace.read(function, msi.at + 2, Width::Word);
                ConfigSpace.write(function, msi.at + 2, Width::Word, control & !MSI_ENABLE);
            }
        }
        Place::MsiX { table, entry, also_from, also_to, .. } => {
            core::iter::once(entry).chain(also_from..also_to).for_each(|entry| mask_entry(table, entry));
        }
    }
}

fn set_msi_mask(function: Address, msi: Msi, index: u8, masked: bool) {
    if msi.maskable {
        let at = msi.at + if msi.wide { 16 } else { 12 };
        let before = ConfigSpace.read(function, at, Width::Long);
        let bit = 1 << index;
        ConfigSpace.write(function, at, Width::Long, if masked { before | bit } else { before & !bit });
    }
}

fn word_of(table: usize, entry: u16, word: usize) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut(table + usize::from(entry) * ENTRY_BYTES + word * 4)
}

fn mask_entry(table: usize, entry: u16) {
    // SAFETY: `give_table` mapped the whole table, for ever; each word is aligned.
    unsafe { word_of(table, entry, 3).write_volatile(ENTRY_MASKED) };
}

/// Writes an entry while it is masked; the last word decides whether it stays so.
fn write_entry(table: usize, entry: u16, words: [u32; 4]) {
    mask_entry(table, entry);
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { word_of(table, entry, index).write_volatile(word) };
    }
}

impl Messages {
    fn wire(&mut self, vector: u8, place: Place) {
        if let Some(free) = self.wired.iter_mut().find(|wired| wired.is_none()) {
            *free = Some(Wired { vector, place, comes: false });
        }
    }
}

/// Gives a function the vectors of its MSI capability, all silent, and takes its pin from it. As many as it can send,
/// or one where there are not as many left (*Using Interrupt Resource Descriptors*); none where there is none.
pub fn give(function: &Function, msi: Msi) -> Vec<u8> {
    let wanted = msi.messages.min(MAX_MSI);
    let mut messages = MESSAGES.lock();
    let block = |messages: &mut Messages, count| Some((messages.taken.allocate_block(count)?, count));
    let Some((first, count)) = block(&mut messages, wanted).or_else(|| block(&mut messages, 1)) else {
        return Vec::new();
    };
    for index in 0..count {
        messages.wire(first + index, Place::Msi { function: function.address, msi, index, first });
        set_msi_mask(function.address, msi, index, true);
    }
    let chosen = u32::from(count.trailing_zeros() as u8) << MSI_COUNT_SHIFT;
    ConfigSpace.write(function.address, msi.at + 2, Width::Word, chosen);
    drop(messages);
    without_pin(function.address);
    (first..first + count).collect()
}

/// The same for MSI-X, whose entries have vectors that need not be neighbours.
pub fn give_table(function: &Function, msix: MsiX) -> Vec<u8> {
    let wanted = msix.entries.min(MAX_MESSAGES);
    let bytes = usize::from(msix.entries) * ENTRY_BYTES;
    let inside = |&(_, length): &(u64, u64)| u64::from(msix.offset) + bytes as u64 <= length;
    let Some((start, _)) = function.range(msix.bar).filter(inside) else { return Vec::new() };
    let table = mm::io::map(start + u64::from(msix.offset), bytes, false);
    if table.is_null() {
        return Vec::new();
    }
    let table = table.expose_provenance();
    (0..msix.entries).for_each(|entry| mask_entry(table, entry));
    // The heap is not to be used with interrupts off.
    let mut vectors = Vec::with_capacity(usize::from(wanted));
    {
        let mut messages = MESSAGES.lock();
        let all: [Option<u8>; MAX_MESSAGES as usize] =
            core::array::from_fn(
                |index| {
                    if index < usize::from(wanted) { messages.taken.allocate() } else { None }
                },
            );
        let mut got = all.iter().flatten().count();
        if got < usize::from(wanted) {
            // Not all: then one.
            all.iter().flatten().skip(1).for_each(|&vector| _ = messages.taken.free(vector));
            got = got.min(1);
        }
        for (entry, &vector) in (0..).zip(all.iter().flatten().take(got)) {
            let (also_from, also_to) = if entry == 0 { (got as u16, msix.entries) } else { (0, 0) };
            let function = function.address;
            messages.wire(vector, Place::MsiX { function, table, entry, also_from, also_to });
            vectors.push(vector);
        }
    }
    if !vectors.is_empty() {
        without_pin(function.address);
        let control = ConfigSpace.read(function.address, msix.at + 2, Width::Word);
        let on = control & !MSIX_MASK_ALL | MSIX_ENABLE;
        ConfigSpace.write(function.address, msix.at + 2, Width::Word, on);
    }
    vectors
}

/// A function that sends messages does not raise its line as well.
fn without_pin(function: Address) {
    let before = ConfigSpace.read(function, register::COMMAND, Width::Word);
    ConfigSpace.write(function, register::COMMAND, Width::Word, before | command::NO_PIN | command::MASTER);
}

/// Takes a function's messages back, none of which is connected any more: it interrupts with its pin again.
pub fn withdraw(function: &Function) {
    let mut messages = MESSAGES.lock();
    let is_its = |wired: &Wired| match wired.place {
        Place::Msi { function: owner, .. } | Place::MsiX { function: owner, .. } => owner == function.address,
    };
    for index in 0..messages.wired.len() {
        if let Some(wired) = messages.wired[index].take_if(|wired| is_its(wired)) {
            messages.taken.free(wired.vector);
        }
    }
    drop(messages);
    for at in [function.msi.map(|msi| msi.at), function.msix.map(|msix| msix.at)].into_iter().flatten() {
        let control = ConfigSpace.read(function.address, at + 2, Width::Word);
        ConfigSpace.write(function.address, at + 2, Width::Word, control & !(MSI_ENABLE | MSIX_ENABLE));
    }
    let before = ConfigSpace.read(function.address, register::COMMAND, Width::Word);
    ConfigSpace.write(function.address, register::COMMAND, Width::Word, before & !command::NO_PIN);
}

/// A vector that no function has, for tests that send the message themselves; given back with [`take_back`].
pub fn lend() -> Option<u8> {
    MESSAGES.lock().taken.allocate()
}

/// Ends [`lend`]; false where the vector was not lent.
pub fn take_back(vector: u8) -> bool {
    let mut messages = MESSAGES.lock();
    let is_wired = messages.wired.iter().flatten().any(|wired| wired.vector == vector);
    !is_wired && messages.taken.free(vector)
}

mod probe {
    //! An ISR that counts, and quietens the card.
    use crate::nt::{BOOLEAN, KINTERRUPT};
    use crate::selftest::cards::{Registers, e1000e, edu};
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicU32, Ordering};

    pub static TAKEN: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

    pub struct Context<'a> {
        pub registers: &'a Registers,
        pub index: usize,
    }

    pub unsafe extern "win64" fn edu(_: *mut KINTERRUPT, context: *mut c_void) -> BOOLEAN {
        // SAFETY: the test's context outlives the connection.
        let Context { registers, index } = unsafe { &*context.cast::<Context<'_>>() };
        let status = registers.read(edu::STATUS);
        registers.write(edu::LOWER, status);
        TAKEN[*index].fetch_add(BOOLEAN::from(status != 0).into(), Ordering::SeqCst);
        BOOLEAN::from(status != 0)
    }

    pub unsafe extern "win64" fn e1000e(_: *mut KINTERRUPT, context: *mut c_void) -> BOOLEAN {
        // SAFETY: as above.
        let Context { registers, index } = unsafe { &*context.cast::<Context<'_>>() };
        registers.write(e1000e::CAUSES, e1000e::cause(*index as u32));
        TAKEN[*index].fetch_add(1, Ordering::SeqCst);
        1
    }
}

/// Waits until a counter has come to `value`; a device's interrupt takes a moment.
fn reaches(counter: &core::sync::atomic::AtomicU32, value: u32) -> bool {
    let end = super::clock::now_ns() + 1_000_000_000;
    while counter.load(core::sync::atomic::Ordering::SeqCst) < value {
        if super::clock::now_ns() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

kernel_test! {
    /// *Introduction to Message-Signaled Interrupts*: a message is a write of a value to an address.
    fn every_processor_can_be_sent_messages() {
        use crate::ke::irql::Irql;
        use crate::ke::processor;
        for processor in processor::all() {
            let Some(vector) = lend() else { check!(false); return Ok(()) };
            let (address, data) = message(vector, processor.apic_id);
            check!(address == 0xFEE0_0000 | u64::from(processor.apic_id) << 12 && data == u32::from(vector));
            check!(Irql::of_vector(vector) > Irql::DISPATCH && is_message(vector));
            check!(take_back(vector) && !take_back(vector) && !is_message(vector));
        }
    }

    /// *Using Message-Signaled Interrupts*: the line, and then the message instead of it, each taken once for each time
    /// that the card has raised it, on the processor that was asked for.
    fn a_card_interrupts_by_its_line_and_then_by_its_message() {
        use crate::ke::interrupt::{Connection, Service, Trigger, connect, disconnect};
        use crate::ke::irql::Irql;
        use crate::ke::processor;
        use crate::selftest::cards::{Card, edu};
        use core::sync::atomic::Ordering;
        use squall_testkernel_pure::vectors::vector_of_pin;
        let Some(card) = Card::edu() else { return Ok(()) };
        let context = probe::Context { registers: &card.registers, index: 0 };
        let taken = &probe::TAKEN[0];
        let line = super::pci::line_of(card.function).and_then(vector_of_pin);
        let Some(msi) = card.function.msi else { check!(false); return Ok(()) };
        check!(line.is_some());
        let message = give(card.function, msi);
        withdraw(card.function);
        check!(message.len() == 1 && !is_message(message[0]));
        for (vector, trigger) in [(line, Trigger::Level), (None, Trigger::Edge)] {
            let vector = vector.unwrap_or_else(|| give(card.function, msi).first().copied().unwrap_or(0));
            for target in processor::all() {
                taken.store(0, Ordering::SeqCst);
                let object = connect(Connection {
                    routine: Service::Routine(probe::edu),
                    context: (&raw const context).cast_mut().cast(),
                    lock: core::ptr::null_mut(),
                    vector,
                    synchronize_irql: Irql::of_vector(vector),
                    trigger,
                    // Its own, or the line would stay open for others when it goes.
                    shared: false,
                    affinity: target.bit(),
                });
                check!(object.is_ok());
                for times in 1..=100 {
                    card.registers.write(edu::RAISE, 1);
                    check!(reaches(taken, times) && taken.load(Ordering::SeqCst) == times);
                }
                check!(object.is_ok_and(disconnect));
                // Nobody is connected: nothing comes, and nothing hangs.
                card.registers.write(edu::RAISE, 1);
                crate::hal::clock::stall_ns(20_000);
                check!(taken.load(Ordering::SeqCst) == 100);
                card.registers.write(edu::LOWER, 1);
            }
        }
        withdraw(card.function);
    }

    /// *Introduction to Message-Signaled Interrupts*: each MSI-X message has its own vector, and each can be ended alone.
    fn a_card_sends_each_of_its_messages_to_its_own_vector() {
        use crate::ke::interrupt::{Connection, Service, Trigger, connect, disconnect};
        use crate::ke::irql::Irql;
        use crate::selftest::cards::{Card, e1000e};
        use core::sync::atomic::Ordering;
        let Some(card) = Card::e1000e() else { return Ok(()) };
        let Some(msix) = card.function.msix else { check!(false); return Ok(()) };
        let vectors = give_table(card.function, msix);
        check!(vectors.len() == 5);
        let contexts: [_; 5] =
            core::array::from_fn(|index| probe::Context { registers: &card.registers, index });
        let objects: [_; 5] = core::array::from_fn(|index| connect(Connection {
            routine: Service::Routine(probe::e1000e),
            context: (&raw const contexts[index]).cast_mut().cast(),
            lock: core::ptr::null_mut(),
            vector: vectors[index],
            synchronize_irql: Irql::of_vector(vectors[index]),
            trigger: Trigger::Edge,
            shared: false,
            affinity: u64::MAX,
        }));
        check!(objects.iter().all(Result::is_ok));
        probe::TAKEN.iter().for_each(|taken| taken.store(0, Ordering::SeqCst));
        let registers = &card.registers;
        registers.write(e1000e::CAUSES, u32::MAX);
        // Cause n as message n, each with its bit that says so.
        registers.write(e1000e::MESSAGES, (0..5).fold(0, |word, n| word | (8 | n) << (4 * n)));
        registers.write(e1000e::ENABLE, (0..5).fold(0, |word, n| word | e1000e::cause(n)));
        for (index, taken) in probe::TAKEN.iter().enumerate().take(5) {
            registers.write(e1000e::SET, e1000e::cause(index as u32));
            check!(reaches(taken, 1));
        }
        // (The card repeats one now and then, when its own timer has run out: no test of how many.)
        check!(objects[2].is_ok_and(disconnect));
        let before = probe::TAKEN.each_ref().map(|taken| taken.load(Ordering::SeqCst));
        registers.write(e1000e::SET, e1000e::cause(2));
        registers.write(e1000e::SET, e1000e::cause(3));
        check!(reaches(&probe::TAKEN[3], before[3] + 1));
        check!(probe::TAKEN[2].load(Ordering::SeqCst) == before[2]);
        registers.write(e1000e::DISABLE, u32::MAX);
        registers.write(e1000e::CAUSES, u32::MAX);
        check!([0, 1, 3, 4].iter().all(|&index| objects[index].is_ok_and(disconnect)));
        withdraw(card.function);
    }
}
