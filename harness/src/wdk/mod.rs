//! Builds `squall.sys` with the `wdk` crates, with or without Microsoft's kit.
//!
//! On Windows the driver builds as any driver of `windows-drivers-rs` does, against the installed WDK. Everywhere else three things
//! are missing, and this module provides them: headers and import libraries (the *kit*, of mingw-w64's open DDK headers, a little of
//! our own, and a short list of names), a `wdk-build` that runs (edits, as data), and a linker, which is the one that every Rust
//! toolchain brings along. The crates `wdk`, `wdk-sys`, `wdk-panic` and `wdk-macros` are used as published.
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

/// Where the sources lie as far as the driver's symbols know: the repository, and beside it the crates and the library. A path that
/// is not absolute would be joined with the folder of the build.
pub const SOURCE_ROOT: &str = "/squall/";

/// The folder of what the kit has of our own, in the driver's.
const SUPPLEMENT: &str = "wdk-supplement";

/// Where the language's own library lies below [`SOURCE_ROOT`], on a toolchain that has its sources.
pub const LIBRARY_ROOT: &str = "/squall/rust/";

/// Which of the driver's two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The driver as it should be. Holds no code of any defect.
    Product,
    /// With the catalogue of wrong Unloads, of which the registry value `Parameters\Defect` chooses one.
    Defects,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct DriverBuild {
    /// The folder of the driver's crate, without links or dots: it is what compiler flags compare paths with.
    driver: PathBuf,
    /// The folder of what the kit has of our own.
    supplement: PathBuf,
    /// What its library is called, and so its image.
    name: &'static str,
    /// What the folder is called below [`SOURCE_ROOT`].
    sources: &'static str,
    image: Image,
}

/// Where, in the repository, the embedded guest's conformance suite has its rules that are written in Rust.
pub const RULES: &str = "vm-images/testkernel/conformance/rust";

/// A built driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltDriver {
    /// The driver image, a PE file.
    pub sys: PathBuf,
    /// Its symbols: functions, source files and lines.
    pub pdb: PathBuf,
}

impl DriverBuild {
    /// A build of one image from the repository's `driver` folder.
    pub fn new(driver: &Path, image: Image) -> Result<Self, WdkError> {
        let driver = std::fs::canonicalize(driver).map_err(WdkError::io("open", driver))?;
        let supplement = driver.join(SUPPLEMENT);
        Ok(Self { driver, supplement, name: "squall", sources: "driver", image })
    }

    /// A build of the embedded guest's rules that are written in Rust, which are a driver too, from the repository's folder.
    pub fn rules(repository: &Path) -> Result<Self, WdkError> {
        let path = repository.join(RULES);
        let driver = std::fs::canonicalize(&path).map_err(WdkError::io("open", &path))?;
        let supplement = repository.join("driver").join(SUPPLEMENT);
        Ok(Self { driver, supplement, name: "rust_rules", sources: "rules", image: Image::Product })
    }

    /// Builds the image. Blocks until cargo is done; `on_line` hears each line that it prints.
    ///
    /// Where nothing changed since the last time that costs what cargo needs to see it, a fraction of a second.
    pub fn run(&self, toolbox: &Toolbox, on_line: &mut dyn FnMut(&str)) -> Result<BuiltDriver, WdkError> {
        let target = self.cargo(toolbox, "build", &[], on_line)?;
        let folder = target.join(cargo::TARGET).join("release");
        let named = |ending: &str| folder.join(self.name).with_extension(ending);
        let image = BuiltDriver { sys: named("sys"), pdb: named("pdb") };
        // To rustc and the linker a driver is one more library; to everybody else it ends in .sys.
        let linked = named("dll");
        let bytes = std::fs::read(&linked).map_err(WdkError::io("read", &linked))?;
        files::write_if_changed(&image.sys, &bytes)?;
        self.imports()?.check(&image.sys, &self.import_list())?;
        Ok(image)
    }

    /// Lints the driver and its documentation as strictly as everything else; for a moment or two where it is built already.
    pub fn check(&self, toolbox: &Toolbox, on_line: &mut dyn FnMut(&str)) -> Result<(), WdkError> {
        self.cargo(toolbox, "clippy", &["--", "-Dwarnings"], on_line)?;
        self.cargo(toolbox, "doc", &["--no-deps", "--document-private-items"], on_line)?;
        Ok(())
    }

    /// Runs one of cargo's verbs over the driver. Returns the target folder.
    fn cargo(
        &self,
        toolbox: &Toolbox,
        verb: &str,
        arguments: &[&str],
        on_line: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, WdkError> {
        let rust_target = toolbox.rust_target(cargo::TARGET)?;
        let place = self.driver.join("target");
        let (mut command, target) = if cfg!(windows) {
            (cargo::command(&self.driver), place.join(self.image.folder()))
        } else {
            let place = place.join("off-windows");
            (self.off_windows(toolbox, &place)?, place.join(self.image.folder()))
        };
        files::make_folder(&target)?;
        command
            .args([verb, "--locked", "--release", "--target", cargo::TARGET, "--target-dir"])
            .arg(&target)
            .args(self.image.features())
            .args(arguments)
            .env("CARGO_ENCODED_RUSTFLAGS", cargo::encode_flags(&self.flags(&rust_target)))
            .env("CARGO_ENCODED_RUSTDOCFLAGS", "-Dwarnings");
        cargo::run(command, &target.join(format!("{verb}.log")), on_line)?;
        Ok(target)
    }

    /// A call of cargo that finds the kit, libclang and a linker.
    fn off_windows(&self, toolbox: &Toolbox, place: &Path) -> Result<Command, WdkError> {
        let kit = Kit::lay_out(place, &self.supplement, &toolbox.mingw()?.include, |version| {
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

    /// Compiler flags. A driver links the C runtime statically, and neither image nor symbols tell where it was built: every
    /// source path begins with [`SOURCE_ROOT`].
    fn flags(&self, rust_target: &Path) -> Vec<OsString> {
        let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
        let mut remap = |from: &Path, to: &str| {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(SOURCE_ROOT);
            flag.push(to);
            flags.push(flag);
        };
        // From rustlib/TARGET/lib.
        if let Some(rustlib) = rust_target.ancestors().nth(2) {
            remap(&rustlib.join("src/rust"), "rust");
        }
        if let Some(home) =
            env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
        {
            remap(&home.join("registry/src"), "registry");
        }
        if let Some(repository) = self.driver.parent() {
            remap(&repository.join("vdevice"), "vdevice");
        }
        remap(&self.driver, self.sources);
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

    /// What cargo is told.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Product => &[],
            Self::Defects => &["--features", "defects"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image::DriverImage,
        symbols::{self, Frame},
    };

    fn driver() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver")
    }

    /// Builds for real: minutes where nothing has been built yet, a moment afterwards.
    fn built(image: Image) -> BuiltDriver {
        let build = DriverBuild::new(&driver(), image).unwrap();
        build.run(&Toolbox::open().unwrap(), &mut |_| ()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn wide(text: &str) -> String {
        text.chars().flat_map(|character| [character, '\0']).collect()
    }

    #[test]
    fn the_product_image_holds_no_defect() {
        let product = std::fs::read(built(Image::Product).sys).unwrap();
        let defects = std::fs::read(built(Image::Defects).sys).unwrap();
        for trace in ["interrupts-left-enabled-and-connected", "with the defect", &wide("Defect")] {
            assert!(holds(&defects, trace), "the test looks for the wrong thing: {trace:?}");
            assert!(!holds(&product, trace), "{trace:?} is in the product image");
        }
    }

    #[test]
    fn neither_image_tells_where_it_was_built() {
        let repository = std::fs::canonicalize(driver()).unwrap().parent().unwrap().display().to_string();
        for image in [Image::Product, Image::Defects] {
            let bytes = std::fs::read(built(image).sys).unwrap();
            assert!(holds(&bytes, "squall.pdb"), "the image names its PDB");
            assert!(!holds(&bytes, &repository));
            assert!(!holds(&bytes, &env::home_dir().unwrap().display().to_string()));
        }
    }

    #[test]
    fn an_address_becomes_a_function_and_a_line() {
        let built = built(Image::Product);
        let image = DriverImage::read(&built.sys).unwrap();
        let file = object::read::pe::PeFile64::parse(&*image.bytes).unwrap();
        let entry = file.nt_headers().optional_header.address_of_entry_point.get(object::LittleEndian);
        let frames = symbols::resolve(&built.pdb, image.pdb, &[entry]).unwrap().remove(0);
        let Some(Frame { function: Some(function), source: Some(source) }) = frames.last() else {
            panic!("{frames:?}")
        };
        assert!(function.contains("driver_entry"), "{function}");
        assert!(source.starts_with(&format!("{SOURCE_ROOT}driver/src/lib.rs:")), "{source}");
    }

    #[test]
    fn both_images_pass_the_lints() {
        for image in [Image::Product, Image::Defects] {
            let build = DriverBuild::new(&driver(), image).unwrap();
            build.check(&Toolbox::open().unwrap(), &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// The names that an import library offers, by its archive's own index.
    fn offered(library: &Path) -> std::collections::BTreeSet<String> {
        let bytes = std::fs::read(library).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
        let archive = object::read::archive::ArchiveFile::parse(&*bytes).unwrap();
        let symbols = archive.symbols().unwrap().unwrap();
        symbols.map(|symbol| String::from_utf8_lossy(symbol.unwrap().name()).into_owned()).collect()
    }

    /// mingw-w64 makes its import libraries from the export tables of Windows' own files. Two names are newer than those that Debian
    /// ships; the list says which page vouches for them.
    #[test]
    fn windows_exports_every_name_of_the_list() {
        const NEWER: [&str; 2] = ["ExAllocatePool2", "MmMapIoSpaceEx"];
        let list = driver().join("imports.txt");
        let text = files::read(&list).unwrap();
        let names = ImportList::read(&list).unwrap();
        let folder = Toolbox::open().unwrap().mingw().unwrap().lib;
        let mut checked = 0;
        for (module, library) in [("ntoskrnl.exe", "libntoskrnl.a"), ("HAL.dll", "libhal.a")] {
            let offered = offered(&folder.join(library));
            assert!(offered.len() > 100, "{library} offers {} names", offered.len());
            for name in names.names(module) {
                checked += 1;
                let vouched =
                    NEWER.contains(&name) && text.contains(&format!("\n{name} # *{name} function (wdm.h)*"));
                assert!(offered.contains(name) || vouched, "{library} does not offer {name}");
            }
        }
        assert!(checked > 70, "{checked} names");
    }

    #[test]
    fn an_import_outside_the_list_is_named() {
        let image = built(Image::Product).sys;
        let list = driver().join("imports.txt");
        let text = files::read(&list).unwrap().replace("\nKeFlushQueuedDpcs\n", "\n");
        let shorter = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(shorter.path(), text).unwrap();
        let error = ImportList::read(shorter.path()).unwrap().check(&image, shorter.path()).unwrap_err();
        assert!(error.to_string().contains(" imports ntoskrnl.exe!KeFlushQueuedDpcs, which "), "{error}");
    }
}
