//! Interrupts of this machine's own devices.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;

use squall_testkernel_pure::vectors::CLOCK_VECTOR;

use super::{Connection, Refused, Service, Trigger, connect, connected_in, disconnect, synchronize};
use crate::hal::{apic, message};
use crate::ke::dpc;
use crate::ke::irql::{self, Irql};
use crate::nt::KINTERRUPT;
use crate::selftest::{check, kernel_test};

mod probe {
    //! An ISR that records, and a DPC that it queues.
    use super::{Irql, KINTERRUPT, c_void, irql};
    use crate::ke::dpc;
    use crate::nt::{BOOLEAN, KDPC};
    use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    pub static TAKEN: AtomicU32 = AtomicU32::new(0);
    pub static LEVEL: AtomicU32 = AtomicU32::new(0);
    pub static DEFERRED: AtomicU32 = AtomicU32::new(0);
    pub static DPC: AtomicPtr<KDPC> = AtomicPtr::new(core::ptr::null_mut());

    pub unsafe extern "win64" fn service(_: *mut KINTERRUPT, _: *mut c_void) -> BOOLEAN {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        LEVEL.store(irql::current().0.into(), Ordering::Relaxed);
        // SAFETY: the kernel itself uses no XMM register.
        unsafe { core::arch::asm!("pcmpeqd xmm0, xmm0", "pcmpeqd xmm5, xmm5") };
        let dpc = DPC.load(Ordering::Relaxed);
        if !dpc.is_null() {
            // SAFETY: the test's DPC outlives its interrupts.
            unsafe { dpc::insert(dpc, core::ptr::null_mut(), core::ptr::null_mut()) };
        }
        1
    }

    pub unsafe extern "win64" fn deferred(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
        if irql::current() == Irql::DISPATCH {
            DEFERRED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as above.
        unsafe { core::arch::asm!("pcmpeqd xmm1, xmm1") };
    }
}

mod chain {
    //! ISRs that share a line: which of them was asked, and who claims.
    use super::{KINTERRUPT, c_void};
    use crate::nt::BOOLEAN;
    use core::sync::atomic::{AtomicU32, Ordering};

    pub static CALLS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

    pub unsafe extern "win64" fn service(_: *mut KINTERRUPT, index: *mut c_void) -> BOOLEAN {
        CALLS[index.addr() % 3].fetch_add(1, Ordering::Relaxed);
        BOOLEAN::from(index.addr() != 0)
    }
}

fn probe_on(line: u32) -> Connection {
    let vector = crate::hal::interrupt::vector_of_isa_line(line).unwrap_or(0);
    Connection {
        routine: Service::Routine(probe::service),
        context: ptr::null_mut(),
        lock: ptr::null_mut(),
        vector,
        synchronize_irql: Irql::of_vector(vector),
        trigger: Trigger::Edge,
        shared: false,
        affinity: u64::MAX,
    }
}

kernel_test! {
    fn an_isr_runs_at_its_dirql_and_its_dpc_before_the_thread_goes_on() {
        use crate::ke::thread;
        let old = thread::set_affinity(1);
        let connection = probe_on(11);
        let mut dpc = dpc::UNUSED;
        // SAFETY: the DPC is in no queue, and stays here until the test's end.
        unsafe { dpc::initialize(&raw mut dpc, Some(probe::deferred), ptr::null_mut()) };
        probe::DPC.store(&raw mut dpc, Ordering::Relaxed);
        let object = connect(connection);
        check!(object.is_ok());
        check!(connect(connection) == Err(Refused::InUse));
        check!(!connected_in(0..u64::MAX).is_empty());
        let before = probe::TAKEN.load(Ordering::Relaxed);
        let (mut kept_0, mut kept_5): (u64, u64);
        // SAFETY: the kernel itself uses no XMM register. The interrupt is requested between the two halves.
        unsafe { core::arch::asm!("movq xmm0, {0}", "movq xmm5, {0}", in(reg) 0x0123_4567_89AB_CDEF_u64) };
        apic::interrupt_self(connection.vector);
        // By now everything has happened: taking it is the next instruction's business.
        let (taken, deferred) = (probe::TAKEN.load(Ordering::SeqCst), probe::DEFERRED.load(Ordering::SeqCst));
        // SAFETY: as above.
        unsafe { core::arch::asm!("movq {}, xmm0", "movq {}, xmm5", out(reg) kept_0, out(reg) kept_5) };
        check!(taken == before + 1);
        check!(deferred > 0);
        check!(probe::LEVEL.load(Ordering::Relaxed) == u32::from(connection.vector >> 4));
        check!(kept_0 == 0x0123_4567_89AB_CDEF && kept_5 == 0x0123_4567_89AB_CDEF);
        probe::DPC.store(ptr::null_mut(), Ordering::Relaxed);
        check!(object.is_ok_and(disconnect));
        check!(object.is_ok_and(|object| !disconnect(object)));
        thread::set_affinity(old);
    }

    fn an_interrupt_waits_for_the_irql_to_fall() {
        let old_affinity = super::thread::set_affinity(1);
        let connection = probe_on(11);
        let object = connect(connection);
        check!(object.is_ok());
        let before = probe::TAKEN.load(Ordering::Relaxed);
        let old = irql::raise(connection.synchronize_irql);
        apic::interrupt_self(connection.vector);
        let held = probe::TAKEN.load(Ordering::SeqCst);
        irql::lower(old);
        let taken = probe::TAKEN.load(Ordering::SeqCst);
        check!(object.is_ok_and(disconnect));
        super::thread::set_affinity(old_affinity);
        check!(held == before && taken == before + 1);
    }

    fn synchronized_code_keeps_the_isr_out() {
        let old_affinity = super::thread::set_affinity(1);
        let connection = probe_on(11);
        let object = connect(connection);
        check!(object.is_ok());
        let object = object.unwrap_or(ptr::null_mut());
        let before = probe::TAKEN.load(Ordering::Relaxed);
        // SAFETY: connected.
        let inside = unsafe {
            synchronize(object, || {
                apic::interrupt_self(connection.vector);
                (probe::TAKEN.load(Ordering::SeqCst), irql::current())
            })
        };
        let after = probe::TAKEN.load(Ordering::SeqCst);
        check!(disconnect(object));
        super::thread::set_affinity(old_affinity);
        check!(inside == (before, connection.synchronize_irql) && after == before + 1);
    }

    /// *Using Message-Signaled Interrupts*: an ISR connected to a message is called for it.
    fn a_message_has_a_vector_of_its_own() {
        let old_affinity = super::thread::set_affinity(1);
        let Some(vector) = message::lend() else { check!(false); return Ok(()) };
        let irql = Irql::of_vector(vector);
        let connection = Connection { vector, synchronize_irql: irql, ..probe_on(11) };
        let object = connect(connection);
        check!(object.is_ok());
        let before = probe::TAKEN.load(Ordering::Relaxed);
        apic::interrupt_self(vector);
        let taken = probe::TAKEN.load(Ordering::SeqCst);
        check!(probe::LEVEL.load(Ordering::Relaxed) == u32::from(irql.0));
        check!(object.is_ok_and(disconnect) && message::take_back(vector));
        check!(connect(connection) == Err(Refused::NoSuchVector));
        super::thread::set_affinity(old_affinity);
        check!(taken == before + 1);
    }

    /// *InterruptService routine*: on a shared line each ISR is asked in turn until one claims the interrupt.
    fn a_shared_level_is_claimed_by_the_first_that_it_belongs_to() {
        let old_affinity = super::thread::set_affinity(1);
        chain::CALLS.iter().for_each(|calls| calls.store(0, Ordering::Relaxed));
        let shared = |index: usize| Connection {
            routine: Service::Routine(chain::service),
            context: index as *mut c_void,
            trigger: Trigger::Level,
            shared: true,
            ..probe_on(10)
        };
        // The first never claims, the second always does, so the third is never asked.
        let objects = [0, 1, 2].map(|index| connect(shared(index)));
        check!(objects.iter().all(Result::is_ok));
        check!(connect(Connection { shared: false, ..shared(1) }) == Err(Refused::InUse));
        check!(connect(Connection { trigger: Trigger::Edge, ..shared(1) }) == Err(Refused::InUse));
        apic::interrupt_self(shared(0).vector);
        let asked = chain::CALLS.each_ref().map(|calls| calls.load(Ordering::SeqCst));
        // Without the second, it is nobody's but the third's.
        check!(objects[1].is_ok_and(disconnect));
        apic::interrupt_self(shared(0).vector);
        let then = chain::CALLS.each_ref().map(|calls| calls.load(Ordering::SeqCst));
        check!(objects[0].is_ok_and(disconnect) && objects[2].is_ok_and(disconnect));
        super::thread::set_affinity(old_affinity);
        check!(asked == [1, 1, 0] && then == [2, 1, 1]);
    }

    /// *IoDisconnectInterrupt function (wdm.h)*: a DPC that was queued before may still synchronize with what was disconnected.
    fn a_disconnected_object_stays_a_while() {
        let connection = probe_on(11);
        let Ok(first) = connect(connection) else { check!(false); return Ok(()) };
        check!(disconnect(first) && !disconnect(first));
        let Ok(second) = connect(connection) else { check!(false); return Ok(()) };
        check!(disconnect(second) && first != second);
        // SAFETY: it was connected a moment ago.
        check!(unsafe { synchronize(first, irql::current) } == connection.synchronize_irql);
    }

    fn impossible_connections_are_refused() {
        let connection = probe_on(11);
        check!(connect(Connection { vector: CLOCK_VECTOR, ..connection }) == Err(Refused::NoSuchVector));
        let too_low = Connection { synchronize_irql: Irql::DISPATCH, ..connection };
        check!(connect(too_low) == Err(Refused::WrongIrql));
        check!(connect(Connection { affinity: 0, ..connection }) == Err(Refused::NoProcessor));
    }
}
