//! Building what a run is made of. Where nothing changed, each step costs one call of cargo that sees so.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use squall_harness::{
    artifacts::Driver,
    c_drivers,
    toolbox::{Qemu, Toolbox},
    wdk::{DriverBuild, Image},
};

use crate::{failure::Failure, progress::Stages};

/// What tests and measurements in QEMU are told: a program that is a QEMU.
pub(crate) const QEMU_COMMAND: &str = "SQUALL_QEMU_COMMAND";
/// And the device's library.
pub(crate) const DEVICE_LIBRARY: &str = "SQUALL_DEVICE_LIBRARY";

/// The target of the embedded guest's kernel.
const GUEST_TARGET: &str = "x86_64-unknown-none";

/// Builds, and fetches what building needs.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Where tools come from.
    pub(crate) toolbox: Toolbox,
    /// What is shown meanwhile.
    pub(crate) stages: &'a Stages,
}

impl<'a> Builder<'a> {
    /// For this repository and this user's tools.
    pub(crate) fn new(stages: &'a Stages) -> Result<Self, Failure> {
        Ok(Self { root: root()?, toolbox: Toolbox::open()?, stages })
    }

    /// A QEMU that takes the card; fetched where there is none.
    pub(crate) fn qemu(&self, chosen: Option<&Path>) -> Result<Qemu, Failure> {
        // The toolbox shows its own progress while it fetches.
        self.stages.end();
        Ok(self.toolbox.qemu(chosen)?)
    }

    /// The library that makes the card.
    pub(crate) fn device_library(&self) -> Result<PathBuf, Failure> {
        self.stages.begin("building the device");
        let arguments = ["build", "--release", "-p", "squall-vdevice"];
        self.cargo(&self.root, &arguments, "libsquall_vdevice.so")
    }

    /// One of the device's measurements, a program.
    pub(crate) fn measurement(&self, name: &str) -> Result<PathBuf, Failure> {
        self.stages.begin("building the measurement");
        let arguments = ["bench", "-p", "squall-vdevice", "--bench", name, "--no-run"];
        self.cargo(&self.root, &arguments, name)
    }

    /// The embedded guest's kernel.
    pub(crate) fn kernel(&self) -> Result<PathBuf, Failure> {
        self.stages.begin("building the embedded guest");
        self.toolbox.rust_target(GUEST_TARGET)?;
        self.cargo(&self.root.join("vm-images/testkernel"), &["build", "--release"], "testkernel")
    }

    /// One of the driver's two images.
    pub(crate) fn driver(&self, image: Image) -> Result<Driver, Failure> {
        self.stages.begin(match image {
            Image::Product => "building the driver",
            Image::Defects => "building the driver with the catalogue of defects",
        });
        let build = DriverBuild::new(&self.root.join("driver"), image)?;
        let built = build.run(&self.toolbox, &mut |line| self.stages.detail(line))?;
        Ok(Driver { image: built.sys, symbols: built.pdb })
    }

    /// The catalogue of the driver's defects.
    pub(crate) fn catalogue(&self) -> PathBuf {
        catalogue(&self.root)
    }

    /// The folder of the drivers that are written in C: the guest's conformance suite.
    pub(crate) fn c_drivers(&self) -> Result<PathBuf, Failure> {
        // The toolbox shows its own progress while it fetches.
        self.stages.end();
        self.toolbox.mingw_gcc()?;
        self.stages.begin("building the drivers in C");
        let images = self.root.join("target/squall/c-drivers");
        c_drivers::build(&self.toolbox, &self.root.join("vm-images/testkernel/conformance"), &images)?;
        Ok(images)
    }

    /// The guest's conformance suite has rules in Rust too, in one driver.
    pub(crate) fn rust_rules(&self) -> Result<Driver, Failure> {
        self.stages.begin("building the rules in Rust");
        let built =
            DriverBuild::rules(&self.root)?.run(&self.toolbox, &mut |line| self.stages.detail(line))?;
        Ok(Driver { image: built.sys, symbols: built.pdb })
    }

    /// Runs cargo and gives one of the files that it built. What the compiler says against it is shown.
    fn cargo(&self, folder: &Path, arguments: &[&str], wanted: &str) -> Result<PathBuf, Failure> {
        let output = cargo(folder)
            .args(arguments)
            .args(["--quiet", "--message-format=json-render-diagnostics"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::infrastructure(format!("cannot run cargo: {error}")))?;
        let what = || format!("cargo {} in {}", arguments.join(" "), folder.display());
        if !output.status.success() {
            self.stages.end();
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            return Err(Failure::infrastructure(format!("{} failed: {}", what(), output.status)));
        }
        let messages = output.stdout.split(|&byte| byte == b'\n');
        messages
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact")
            .find_map(|message| built_file(&message, wanted))
            .ok_or_else(|| Failure::infrastructure(format!("{} named no {wanted}", what())))
    }
}

/// A file of that name among those that one of cargo's messages lists; or a measurement's program, in whose file name
/// cargo puts a number.
fn built_file(message: &Value, wanted: &str) -> Option<PathBuf> {
    let executable = message["executable"].as_str();
    if message["target"]["kind"][0] == "bench" && message["target"]["name"] == wanted {
        return executable.map(PathBuf::from);
    }
    let names = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut files = names.chain(executable).map(PathBuf::from);
    files.find(|file| file.file_name().is_some_and(|name| name == wanted))
}

/// A script that is a QEMU: a fetched one is started through its own dynamic linker, with arguments before ours.
pub(crate) fn one_program(folder: &Path, qemu: &Qemu) -> Result<PathBuf, Failure> {
    let script = folder.join(format!("qemu-{}", qemu.version));
    let words = qemu.argv::<&str>([]);
    let quoted = words.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.collect::<Vec<_>>().join(" "));
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&script, text))
        .and_then(|()| std::fs::set_permissions(&script, executable))
        .map_err(|error| Failure::infrastructure(format!("cannot write {}: {error}", script.display())))?;
    Ok(script)
}

/// The cargo that runs us, in a folder.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    command
}

/// The catalogue of the driver's defects, below the repository.
pub(crate) fn catalogue(root: &Path) -> PathBuf {
    root.join("driver/defects.toml")
}

/// The repository's root: the folder above this crate's.
pub(crate) fn root() -> Result<PathBuf, Failure> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .ok_or_else(|| Failure::usage("CARGO_MANIFEST_DIR is not set: run it as `cargo xtask`"))
}
