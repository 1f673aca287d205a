//! The functions of QEMU's that this library calls, found by name when it is loaded.
//!
//! None is linked: the loader binds every name of a library at once, so that one missing name would make the
//! whole library unloadable, with the loader's words instead of ours.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use thiserror::Error;

use crate::abi::{
    CpuState, Error, IrqState, MemoryRegionOps, Object, ObjectClass, PluginInsn, PluginTb, Room, StateEntry,
    TypeImpl, TypeInfo, Visitor,
};

/// A property's getter or setter.
pub(crate) type Accessor =
    unsafe extern "C" fn(*mut Object, *mut Visitor, *const c_char, *mut c_void, *mut *mut Error);

/// Runs when a device is realized.
pub(crate) type Realize = unsafe extern "C" fn(*mut Object, *mut *mut Error);

/// Runs when a device is unrealized.
pub(crate) type Unrealize = unsafe extern "C" fn(*mut Object);

/// Runs when a guest writes to a PCI device's configuration space: offset, value and size.
pub(crate) type WriteConfig = unsafe extern "C" fn(*mut Object, u32, u32, c_int);

/// Runs when the machine starts or stops: whether it runs now, and why.
pub(crate) type StateHandler = unsafe extern "C" fn(*mut c_void, bool, c_int);

/// Work for a virtual processor's thread. The second argument is `run_on_cpu_data`, a union of 64 bits.
pub(crate) type Work = unsafe extern "C" fn(*mut CpuState, u64);

/// Names that a QEMU lacks.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "this QEMU does not export {} of the functions that the device needs ({}): use a distribution's build \
     with loadable modules, 10.0 or later",
    .0.len(), .0.join(", ")
)]
pub(crate) struct Missing(pub(crate) Vec<&'static str>);

macro_rules! symbols {
    ($(fn $name:ident($($argument:ty),* $(; $dots:tt)?) $(-> $result:ty)?;)* $(static $variable:ident;)*) => {
        /// QEMU's functions, by their own names.
        pub(crate) struct Symbols {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),* $(, $dots)?) $(-> $result)?,)*
        }

        impl Symbols {
            /// Looks every name up with `find`.
            pub(crate) fn resolve(find: impl Fn(&CStr) -> *mut c_void) -> Result<Self, Missing> {
                let mut missing = Vec::new();
                $(
                    let $name = find(c_name(concat!(stringify!($name), "\0")));
                    if $name.is_null() {
                        missing.push(stringify!($name));
                    }
                )*
                $(
                    if find(c_name(concat!(stringify!($variable), "\0"))).is_null() {
                        missing.push(stringify!($variable));
                    }
                )*
                if !missing.is_empty() {
                    return Err(Missing(missing));
                }
                Ok(Self {
                    $(
                        $name: {
                            // SAFETY: not null, and the function that QEMU exports under this name; its C
                            // prototype is the one declared here in every version of the tested range.
                            unsafe {
                                std::mem::transmute::<
                                    *mut c_void,
                                    unsafe extern "C" fn($($argument),* $(, $dots)?) $(-> $result)?,
                                >($name)
                            }
                        },
                    )*
                })
            }
        }
    };
}

symbols! {
    // The object model.
    fn type_register_static(*const TypeInfo) -> *mut TypeImpl;
    fn object_class_property_add(*mut ObjectClass, *const c_char, *const c_char, Option<Accessor>,
        Option<Accessor>, *const c_void, *mut c_void) -> *mut c_void;
    fn object_class_property_set_description(*mut ObjectClass, *const c_char, *const c_char);
    fn device_class_set_parent_realize(*mut ObjectClass, Realize, *mut Option<Realize>);
    fn device_class_set_parent_unrealize(*mut ObjectClass, Unrealize, *mut Option<Unrealize>);
    fn device_class_set_legacy_reset(*mut ObjectClass, unsafe extern "C" fn(*mut Object));
    // Values of properties.
    fn visit_type_bool(*mut Visitor, *const c_char, *mut bool, *mut *mut Error) -> bool;
    fn visit_type_uint32(*mut Visitor, *const c_char, *mut u32, *mut *mut Error) -> bool;
    fn visit_type_uint64(*mut Visitor, *const c_char, *mut u64, *mut *mut Error) -> bool;
    fn visit_type_str(*mut Visitor, *const c_char, *mut *mut c_char, *mut *mut Error) -> bool;
    fn error_setg_internal(*mut *mut Error, *const c_char, c_int, *const c_char, *const c_char; ...);
    fn error_propagate(*mut *mut Error, *mut Error);
    fn g_free(*mut c_void);
    // Ports and interrupts.
    fn memory_region_init_io(*mut Room, *mut Object, *const MemoryRegionOps, *mut c_void, *const c_char, u64);
    fn isa_register_ioport(*mut Object, *mut Room, u16);
    fn isa_get_irq(*mut Object, c_int) -> *mut IrqState;
    fn qemu_set_irq(*mut IrqState, c_int);
    // Snapshots.
    fn memory_region_init_ram(*mut Room, *mut Object, *const c_char, u64, *mut *mut Error) -> bool;
    fn memory_region_get_ram_ptr(*mut Room) -> *mut c_void;
    fn memory_region_set_dirty(*mut Room, u64, u64);
    fn vmstate_register_with_alias_id(*mut Object, u32, *const c_void, *mut Object, c_int, c_int,
        *mut *mut Error) -> c_int;
    fn vmstate_unregister_ram(*mut Room, *mut Object);
    fn vmstate_unregister(*mut Object, *const c_void, *mut Object);
    fn bql_locked() -> bool;
    fn runstate_is_running() -> bool;
    fn qemu_add_vm_change_state_handler(StateHandler, *mut c_void) -> *mut StateEntry;
    fn qemu_del_vm_change_state_handler(*mut StateEntry);
    // PCI.
    fn pci_default_read_config(*mut Object, u32, c_int) -> u32;
    fn pci_default_write_config(*mut Object, u32, u32, c_int);
    fn pci_register_bar(*mut Object, c_int, u8, *mut Room);
    fn pci_set_irq(*mut Object, c_int);
    fn pcie_endpoint_cap_init(*mut Object, u8) -> c_int;
    fn msi_init(*mut Object, u8, u32, bool, bool, *mut *mut Error) -> c_int;
    fn msi_uninit(*mut Object);
    fn msi_notify(*mut Object, u32);
    fn msix_init_exclusive_bar(*mut Object, u32, u8, *mut *mut Error) -> c_int;
    fn msix_uninit_exclusive_bar(*mut Object);
    fn msix_vector_use(*mut Object, u32);
    fn msix_notify(*mut Object, u32);
    // Time.
    fn qemu_clock_get_ns(c_int) -> i64;
    fn timer_init_full(*mut Room, *mut c_void, c_int, c_int, c_int, unsafe extern "C" fn(*mut c_void),
        *mut c_void);
    fn timer_mod_ns(*mut Room, i64);
    fn timer_del(*mut Room);
    // Processors and their translated code.
    fn qemu_get_cpu(c_int) -> *mut CpuState;
    fn run_on_cpu(*mut CpuState, Work, u64);
    fn async_run_on_cpu(*mut CpuState, Work, u64);
    fn cpu_loop_exit_restore(*mut CpuState, usize);
    fn qemu_plugin_reset(u64, *const c_void, *mut c_void);
    fn qemu_plugin_register_vcpu_tb_trans_cb(u64, *const c_void, *mut c_void);
    fn qemu_plugin_tb_n_insns(*const PluginTb) -> usize;
    fn qemu_plugin_tb_get_insn(*const PluginTb, usize) -> *mut PluginInsn;
    fn qemu_plugin_insn_vaddr(*const PluginInsn) -> u64;
    fn qemu_plugin_register_vcpu_insn_exec_cb(*mut PluginInsn, unsafe extern "C" fn(), c_int, u64);
    static vmstate_pci_device;
    static vmstate_msix;
    static current_cpu;
    static tcg_allowed;
}

static QEMU: OnceLock<Symbols> = OnceLock::new();

/// Looks QEMU's functions up; [`qemu`] works from then on.
pub(crate) fn load() -> Result<(), Missing> {
    let symbols = Symbols::resolve(find)?;
    let _ = QEMU.set(symbols);
    Ok(())
}

/// QEMU's functions.
///
/// Nothing of this library is known to QEMU before [`load`] has succeeded, so nothing can ask earlier.
pub(crate) fn qemu() -> &'static Symbols {
    QEMU.get().unwrap_or_else(|| std::process::abort())
}

/// The address of a function or variable of the process, or null. For a thread-local variable: this thread's.
pub(crate) fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends in a NUL.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

const fn c_name(with_nul: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(with_nul.as_bytes()) {
        Ok(name) => name,
        Err(_) => c"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_qemu_lacks_everything_by_name() {
        let missing = Symbols::resolve(find).err().unwrap();
        assert!(missing.0.contains(&"cpu_loop_exit_restore"), "{missing:?}");
        assert!(missing.0.contains(&"current_cpu"), "{missing:?}");
        let text = missing.to_string();
        assert!(!text.contains('\n') && text.contains("isa_get_irq, "), "{text}");
    }

    /// A QEMU that lacks any one of them is refused, in one line that names it.
    #[test]
    fn every_name_is_needed_and_named() {
        let asked = std::cell::RefCell::new(Vec::new());
        let somewhere = std::ptr::dangling_mut::<c_void>();
        let note = |name: &CStr| {
            asked.borrow_mut().push(name.to_owned());
            somewhere
        };
        assert!(Symbols::resolve(note).is_ok());
        let names = asked.into_inner();
        assert!(names.len() > 50, "{}", names.len());
        for lacking in &names {
            let find =
                |name: &CStr| if name == lacking.as_c_str() { std::ptr::null_mut() } else { somewhere };
            let missing = Symbols::resolve(find).err().unwrap();
            let text = missing.to_string();
            assert!(
                text.contains(&format!(
                    "1 of the functions that the device needs ({})",
                    lacking.to_str().unwrap()
                )),
                "{text}"
            );
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn one_missing_name_is_enough_and_is_the_one_named() {
        let somewhere = std::ptr::dangling_mut::<c_void>();
        let all_but_one = |name: &CStr| if name == c"timer_del" { std::ptr::null_mut() } else { somewhere };
        assert_eq!(Symbols::resolve(all_but_one).err(), Some(Missing(vec!["timer_del"])));
        assert!(Symbols::resolve(|_| somewhere).is_ok());
    }
}
