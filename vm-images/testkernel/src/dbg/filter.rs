//! Which messages pass: a mask for each component, by *Reading and Filtering Debugging Messages*.
//!
//! A level from 0 to 31 is the number of a bit; any greater one is a set of bits itself. A message passes where one of its
//! bits is set in the mask of its component or in the mask of all components, of which only the bit of errors is set. A message
//! without component and level, as DbgPrint's, is one of the component DEFAULT at the level of information.
//!
//! Windows begins with empty masks, until the registry or a debugger opens them. This guest exists to hear what drivers say: it
//! begins with every mask open, as if the registry's *Debug Print Filter* said so for all components.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, NTSTATUS, STATUS_INVALID_PARAMETER_1, STATUS_SUCCESS, TRUE};
use crate::selftest::{check, kernel_test};

/// `DPFLTR_DEFAULT_ID`: whose messages DbgPrint's are.
pub const DEFAULT: u32 = 101;
/// `DPFLTR_INFO_LEVEL`: and at what level.
pub const INFORMATION: u32 = 3;
/// Components of Windows 10: `DPFLTR_ENDOFTABLE_ID`.
const COMPONENTS: usize = 156;
/// Stands for no component: its messages go by the mask of all.
const NOBODY: u32 = u32::MAX;

static MASKS: [AtomicU32; COMPONENTS] = [const { AtomicU32::new(u32::MAX) }; COMPONENTS];
/// `Kd_WIN2000_Mask`: of every component.
static OF_ALL: AtomicU32 = AtomicU32::new(1);

fn bits(level: u32) -> u32 {
    if level < 32 { 1 << level } else { level }
}

fn mask(component: u32) -> Option<&'static AtomicU32> {
    if component == NOBODY { Some(&OF_ALL) } else { MASKS.get(component as usize) }
}

/// Whether a message passes; one of a component that does not exist never does.
pub fn passes(component: u32, level: u32) -> bool {
    let open =
        mask(component).map_or(0, |mask| mask.load(Ordering::Relaxed) | OF_ALL.load(Ordering::Relaxed));
    open & bits(level) != 0
}

export! {
    /// *DbgQueryDebugFilterState*: TRUE where such a message would pass, FALSE where not; STATUS_INVALID_PARAMETER_1 where there is
    /// no such component. At any IRQL.
    pub unsafe extern "win64" fn DbgQueryDebugFilterState(component: u32, level: u32) -> NTSTATUS {
        if mask(component).is_none() {
            return STATUS_INVALID_PARAMETER_1;
        }
        NTSTATUS::from_bits(u32::from(if passes(component, level) { TRUE } else { FALSE }))
    }

    /// *DbgSetDebugFilterState*: opens the component's mask for the level, or closes it; STATUS_INVALID_PARAMETER_1 where there is no
    /// such component. At any IRQL.
    pub unsafe extern "win64" fn DbgSetDebugFilterState(component: u32, level: u32, state: BOOLEAN) -> NTSTATUS {
        let Some(mask) = mask(component) else { return STATUS_INVALID_PARAMETER_1 };
        if state == FALSE {
            mask.fetch_and(!bits(level), Ordering::Relaxed);
        } else {
            mask.fetch_or(bits(level), Ordering::Relaxed);
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *Reading and Filtering Debugging Messages*: numbers up to 31 are bits, all others are masks.
    fn a_level_is_a_bit_or_a_mask() {
        const COMPONENT: u32 = 77;
        // SAFETY: at any time.
        let (set, query) = unsafe {
            (|level, state| DbgSetDebugFilterState(COMPONENT, level, state), |level| DbgQueryDebugFilterState(COMPONENT, level).bits())
        };
        check!(set(u32::MAX, FALSE) == STATUS_SUCCESS);
        check!(query(0) == 1 && query(1) == 0 && query(3) == 0 && query(u32::MAX) == 1 && query(0x8000_0000) == 0);
        check!(set(3, TRUE) == STATUS_SUCCESS && query(3) == 1 && query(2) == 0 && query(40) == 1 && query(0x8000_0008) == 1);
        check!(set(0x8000_0000, TRUE) == STATUS_SUCCESS && query(31) == 1 && query(30) == 0);
        check!(set(u32::MAX, TRUE) == STATUS_SUCCESS && query(17) == 1);
        // SAFETY: as above.
        let none = unsafe { DbgQueryDebugFilterState(COMPONENTS as u32, 0) };
        check!(none == STATUS_INVALID_PARAMETER_1 && !passes(COMPONENTS as u32, 0) && passes(NOBODY, 0));
    }
}
