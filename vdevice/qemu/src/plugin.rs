//! What QEMU looks for in a plugin: a version, and a function to install it.

use std::env;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use thiserror::Error;

use crate::abi::PluginInfo;
use crate::lifeline::{Lifeline, LifelineError};
use crate::symbols::{self, Missing, find};
use crate::{isa, pci, processor, watch};

/// The environment variable that overrides [`qemu_plugin_version`], for a QEMU that is newer than this
/// library.
const API_VARIABLE: &str = "SQUALL_PLUGIN_API";

/// The first interface whose callbacks lost the plugin's number and gained a pointer.
const FIRST_WITH_USERDATA: c_int = 7;

/// The version of the plugin interface that we are written for. QEMU reads it before it calls anything, and
/// refuses what is outside its own range; the ranges of 10.0 (2 to 4) and 11.1 (7 alone) do not overlap. So
/// it is found out, by [`choose_api`], when the library is loaded, which is before QEMU reads it.
#[allow(non_upper_case_globals, reason = "the name is QEMU's")]
#[unsafe(no_mangle)]
pub(crate) static qemu_plugin_version: AtomicI32 = AtomicI32::new(4);

/// Runs [`choose_api`] when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = choose_api;

/// Functions that came with a version of the interface, newest first.
const LANDMARKS: &[(&CStr, c_int)] = &[
    (c"qemu_plugin_set_pc", 7),
    (c"qemu_plugin_write_register", 5),
    (c"qemu_plugin_read_register", 4),
    (c"qemu_plugin_register_vcpu_tb_trans_cb", 2),
];

extern "C" fn choose_api() {
    let asked = env::var(API_VARIABLE).ok().and_then(|version| version.parse().ok());
    if let Some(version) = asked.or_else(|| api_of(find)) {
        qemu_plugin_version.store(version, Ordering::Relaxed);
    }
}

/// The version of a QEMU that has what `find` finds; `None` for one that has no plugins.
fn api_of(find: impl Fn(&CStr) -> *mut c_void) -> Option<c_int> {
    LANDMARKS.iter().find(|(name, _)| !find(name).is_null()).map(|(_, version)| *version)
}

/// Why the library is not installed.
#[derive(Debug, Error)]
enum InstallError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Lifeline(#[from] LifelineError),
    #[error("unknown argument '{0}': the only one is lifeline=FD")]
    Argument(String),
    #[error("already installed: give -plugin once")]
    Twice,
}

/// QEMU installs the plugin. Anything but 0 is a refusal; QEMU then ends with a line of its own.
///
/// # Safety
/// Called by QEMU: `info` is its description, and `argv` are `argc` strings.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const PluginInfo,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let strings = match count {
        0 => &[],
        // SAFETY: by the caller's word.
        count => unsafe { std::slice::from_raw_parts(argv, count) },
    };
    let text = |string: &*const c_char| {
        // SAFETY: by the caller's word.
        unsafe { CStr::from_ptr(*string) }.to_string_lossy().into_owned()
    };
    let arguments: Vec<String> = strings.iter().map(text).collect();
    // SAFETY: by the caller's word.
    let oldest_api = unsafe { &*info }.oldest_api;
    match install(id, oldest_api, &arguments) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error.to_string());
            1
        }
    }
}

fn install(id: u64, oldest_api: c_int, arguments: &[String]) -> Result<(), InstallError> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return Err(InstallError::Twice);
    }
    let lifeline = parse(arguments)?;
    symbols::load()?;
    // From here on something of QEMU's points to us: what can fail has to fail before.
    if let Some(lifeline) = lifeline {
        lifeline.hold()?;
    }
    processor::prepare();
    watch::prepare(id, oldest_api >= FIRST_WITH_USERDATA);
    isa::register();
    pci::register();
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Option<Lifeline>, InstallError> {
    let mut lifeline = None;
    for argument in arguments {
        match argument.split_once('=') {
            Some(("lifeline", value)) => lifeline = Some(Lifeline::parse(value)?),
            _ => return Err(InstallError::Argument(argument.clone())),
        }
    }
    Ok(lifeline)
}

/// One line on standard error, where QEMU's own complaints are. If nobody listens, so be it.
fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "squall-vdevice: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_arguments_are_named() {
        let refused = |argument: &str| parse(&[argument.to_owned()]).unwrap_err().to_string();
        assert_eq!(refused("colour=red"), "unknown argument 'colour=red': the only one is lifeline=FD");
        assert!(refused("lifeline=on").contains("lifeline=on: not a file descriptor"));
        assert!(parse(&[]).unwrap().is_none());
    }

    #[test]
    fn the_newest_landmark_is_the_version() {
        for (number, (_, version)) in LANDMARKS.iter().enumerate() {
            let has = |name: &CStr| match LANDMARKS[number..].iter().any(|(known, _)| *known == name) {
                true => std::ptr::dangling_mut(),
                false => std::ptr::null_mut(),
            };
            assert_eq!(api_of(has), Some(*version));
        }
        assert_eq!(api_of(|_| std::ptr::null_mut()), None);
    }

    #[test]
    fn a_process_that_is_not_qemu_is_refused() {
        let error = install(1, 2, &[]).unwrap_err();
        assert!(matches!(error, InstallError::Missing(_)), "{error}");
        assert!(matches!(install(1, 2, &[]), Err(InstallError::Twice)));
    }
}
