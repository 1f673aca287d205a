//! mingw-w64's C compiler, with which people build drivers for Windows on other systems.
//!
//! It is what the guest's conformance suite is written for: drivers in C, compiled against mingw-w64's own headers and linked
//! with its own import libraries. It starts programs of its own (the compiler proper, the
//! assembler, the linker), so it is a [native](super::native) program.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::advice::Tool;
use super::command::run_within;
use super::error::Error;
use super::native::{Native, NativeProgram};
use super::version::Version;
use super::{Found, Toolbox};

/// The oldest gcc that was tested.
pub(super) const OLDEST_GCC: Version = Version::new(12, 0, 0);

/// Long enough for a machine whose disk is cold.
const PATIENCE: Duration = Duration::from_secs(20);

const GCC: Native = Native {
    thing: "mingw-w64-gcc",
    title: "mingw-w64 gcc 12 or newer",
    // The flavour without POSIX threads, whose runtime a driver does not use.
    package: "gcc-mingw-w64-x86-64-win32",
    // Debian's flavours are chosen by a link that only an installation makes.
    programs: &["x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-gcc-win32"],
    tool: Tool::MingwGcc,
    version: probe,
};

/// A C compiler for Windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MingwGcc(pub NativeProgram);

impl MingwGcc {
    /// The beginning of a command line.
    pub fn command(&self) -> Command {
        self.0.command()
    }

    /// The folder of the driver kit's headers, `ddk`, which `ntddk.h` needs on the include path by name.
    pub fn driver_kit(&self) -> Result<PathBuf, Error> {
        let fail =
            |problem: String| Error::Command { program: self.0.program.display().to_string(), problem };
        let mut command = self.command();
        command.args(["-xc", "-E", "-M", "-include", "ddk/wdm.h", "/dev/null"]);
        // A rule of make: the object, a colon, and every header that was read.
        let output = run_within("gcc -M", &mut command, PATIENCE)?;
        let mut words = output.stdout.split_whitespace().filter(|word| *word != "\\");
        let header = words.find(|word| word.ends_with("ddk/wdm.h"));
        header
            .and_then(|header| Some(fs::canonicalize(header).ok()?.parent()?.to_owned()))
            .ok_or_else(|| fail("finds no ddk/wdm.h among its headers".into()))
    }
}

impl Toolbox {
    /// mingw-w64's gcc: the machine's, or fetched now.
    pub fn mingw_gcc(&self) -> Result<MingwGcc, Error> {
        self.native(&GCC).map(MingwGcc)
    }

    /// One that is already here.
    pub fn find_mingw_gcc(&self) -> Found<MingwGcc> {
        let Found { good, refused } = self.find_native(&GCC);
        Found { good: good.map(MingwGcc), refused }
    }
}

/// Asks a compiler for its version, and whether it runs at all.
fn probe(gcc: &NativeProgram) -> Result<Version, String> {
    let mut command = gcc.command();
    let output = run_within("gcc -dumpfullversion", command.arg("-dumpfullversion"), PATIENCE)
        .map_err(|error| error.to_string())?;
    let version = Version::in_text(&output.stdout).ok_or("does not say its version")?;
    if version < OLDEST_GCC {
        return Err(format!("gcc {version} is older than {}, the oldest that was tested", OLDEST_GCC.major));
    }
    Ok(version)
}
