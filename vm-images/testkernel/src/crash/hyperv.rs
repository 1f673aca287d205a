//! Hyper-V's crash registers: how Windows tells a hypervisor its stop code.
//!
//! Five model-specific registers take the code and the four parameters, a sixth says that they are there; QEMU then
//! raises GUEST_PANICKED with all five, the same event as for Windows (`-cpu ...,hv-crash`, KVM only).
//! Source: *Hypervisor Top-Level Functional Specification*, "Guest Crash Enlightenment" and "Feature and Interface
//! Discovery".

use core::arch::x86_64::__cpuid;

use squall_testkernel_pure::bugcheck::BugCheck;
use x86_64::registers::model_specific::Msr;

/// The leaf that names the hypervisor, and how far its leaves go.
const VENDOR_LEAF: u32 = 0x4000_0000;
const INTERFACE_LEAF: u32 = 0x4000_0001;
const FEATURE_LEAF: u32 = 0x4000_0003;
/// `Hv#1`: the interface that these registers belong to.
const INTERFACE: u32 = u32::from_le_bytes(*b"Hv#1");
/// In the feature leaf's EDX: the crash registers exist.
const HAS_CRASH_REGISTERS: u32 = 1 << 10;
/// In leaf 1's ECX: there is a hypervisor at all.
const HAS_HYPERVISOR: u32 = 1 << 31;

const CRASH_P0: u32 = 0x4000_0100;
const CRASH_CONTROL: u32 = 0x4000_0105;
/// `CrashNotify`.
const NOTIFY: u64 = 1 << 63;

/// Whether the hypervisor has the registers.
fn are_present() -> bool {
    __cpuid(1).ecx & HAS_HYPERVISOR != 0
        && __cpuid(VENDOR_LEAF).eax >= FEATURE_LEAF
        && __cpuid(INTERFACE_LEAF).eax == INTERFACE
        && __cpuid(FEATURE_LEAF).edx & HAS_CRASH_REGISTERS != 0
}

/// Tells the hypervisor, where it wants to hear it.
pub fn tell(check: BugCheck) {
    if !are_present() {
        return;
    }
    let values = core::iter::once(u64::from(check.code)).chain(check.parameters);
    for (register, value) in (CRASH_P0..).zip(values) {
        // SAFETY: the hypervisor says that the register exists, and it does nothing but keep the value.
        unsafe { Msr::new(register).write(value) };
    }
    // SAFETY: as above; the hypervisor reads the five and may stop this processor here, which is the point.
    unsafe { Msr::new(CRASH_CONTROL).write(NOTIFY) };
}
