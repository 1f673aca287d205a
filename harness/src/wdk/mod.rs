//! Builds `squall.sys` with the `wdk` crates, with or without Microsoft's kit.
//!
//! On Windows the driver builds as any driver of `windows-drivers-rs` does, against the installed WDK. Everywhere else three things
//! are missing, and this module provides them: headers and import libraries (the [kit](self::kit), of mingw-w64's open DDK headers,
//! a little of our own, and a short list of names), a `wdk-build` that runs ([portability]), and a linker, which is the one that
//! every Rust toolchain brings along. The crates `wdk`, `wdk-sys`, `wdk-panic` and `wdk-macros` are used as published.
//!
//! All of it lies below `driver/target/off-windows`, made anew where it is missing and left alone where nothing changed. The product
//! image and the image with the catalogue of defects have a target folder each, so that building one never rebuilds the other.

mod cargo;
mod error;
mod files;
mod imports;
mod kit;
mod portability;
mod staging;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

pub use error::WdkError;

use crate::toolbox::Toolbox;
use imports::ImportList;
use kit::Kit;

/// Which of the driver's two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The driver as it should be. Holds no code of any defect.
    Product,
    /// With the catalogue of wrong Unloads, of which the registry value `Parameters\Defect` chooses one.
    Defects,
}

/// What to build.
#[derive(Debug)]
pub struct DriverBuild {
    /// The repository's `driver` folder.
    pub driver: PathBuf,
    /// Which image.
    pub image: Image,
}

/// A built driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltDriver {
    /// The driver image, a PE file.
    pub sys: PathBuf,
    /// Its symbols: functions, source files and lines.
    pub pdb: PathBuf,
}

impl DriverBuild {
    /// Builds the image. Blocks until cargo is done; `on_line` hears each line that it prints.
    ///
    /// Where nothing changed since the last time that costs what cargo needs to see it, a fraction of a second.
    pub fn run(&self, toolbox: &Toolbox, on_line: &mut dyn FnMut(&str)) -> Result<BuiltDriver, WdkError> {
        let target = self.cargo(toolbox, "build", on_line)?;
        let folder = target.join(cargo::TARGET).join("release");
        let image = BuiltDriver { sys: folder.join("squall.sys"), pdb: folder.join("squall.pdb") };
        // To rustc and the linker a driver is one more library; to everybody else it ends in .sys.
        let linked = folder.join("squall.dll");
        let bytes = std::fs::read(&linked).map_err(WdkError::io("read", &linked))?;
        files::write_if_changed(&image.sys, &bytes)?;
        self.imports()?.check(&image.sys, &self.import_list())?;
        Ok(image)
    }

    /// Runs one of cargo's verbs (`build`, `clippy`, `doc`) over the driver as [`run`](Self::run) would build it.
    ///
    /// Returns the target folder.
    pub fn cargo(
        &self,
        toolbox: &Toolbox,
        verb: &str,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, WdkError> {
        toolbox.rust_target(cargo::TARGET)?;
        let place = self.driver.join("target");
        let (mut command, target) = if cfg!(windows) {
            (cargo::command(&self.driver), place.join(self.image.folder()))
        } else {
            let place = place.join("off-windows");
            (self.off_windows(toolbox, &place)?, place.join(self.image.folder()))
        };
        files::make_folder(&target)?;
        command.args([verb, "--locked", "--release", "--target", cargo::TARGET, "--target-dir"]).arg(&target);
        if self.image == Image::Defects {
            command.args(["--features", "defects"]);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", cargo::encode_flags(&self.flags()));
        cargo::run(command, &target.join(format!("{verb}.log")), on_line)?;
        Ok(target)
    }

    /// A call of cargo that finds the kit, libclang and a linker.
    fn off_windows(&self, toolbox: &Toolbox, place: &Path) -> Result<Command, WdkError> {
        let supplement = self.driver.join("wdk-supplement");
        let kit = Kit::lay_out(place, &supplement, &toolbox.mingw()?.include, |version| {
            cargo::source_of("wdk-build", version, &self.driver)
        })?;
        kit.write_libraries(&self.imports()?)?;
        staging::stage(&self.driver, place, &kit.wdk_build())?;
        let mut command = cargo::command(place);
        command
            .env("WDKContentRoot", kit.content_root())
            .env("Version_Number", kit.version())
            .envs(toolbox.libclang()?.environment())
            // Every toolchain has it; rustc finds it by this name.
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_MSVC_LINKER", "rust-lld");
        Ok(command)
    }

    /// Compiler flags. A driver links the C runtime statically, and its image tells nobody where it was built.
    fn flags(&self) -> Vec<OsString> {
        let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
        let mut remap = |from: &Path, to: &str| {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flags.push(flag);
        };
        if let Some(home) =
            env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
        {
            remap(&home.join("registry/src"), "registry");
        }
        if let Some(repository) = self.driver.parent() {
            remap(&repository.join("vdevice"), "vdevice");
        }
        remap(&self.driver, "driver");
        flags
    }

    fn import_list(&self) -> PathBuf {
        self.driver.join("imports.txt")
    }

    fn imports(&self) -> Result<ImportList, WdkError> {
        ImportList::read(&self.import_list())
    }
}

impl Image {
    /// The name of its target folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Defects => "defects",
        }
    }
}
