//! Builds drivers that are written in C, the way that people build them off Windows: mingw-w64's gcc, headers and import
//! libraries, no C runtime, the native subsystem.
//!
//! Every `.c` file below a folder is one driver of its name; headers are what they share; a crate's folder is left alone. A file whose first line is
//! `// build: FLAGS` gets these beside the usual ones (`-O0`, `-shared`, `-s`, `-Wl,--disable-dynamicbase` ...), because
//! nobody builds drivers in one way only and a loader has to take them all.
//!
//! A driver is built again when its source, a header, the compiler's version or the flags changed: by content, so that a
//! checkout with new time stamps builds nothing.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use thiserror::Error;

use crate::toolbox::{Error as ToolboxError, MingwGcc, Toolbox};

/// What every driver is built with. A warning is an error: these drivers are read as models.
const FLAGS: [&str; 16] = [
    "-std=gnu11",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    // The driver kit's headers have parameters that they do not use and macros of no effect.
    "-Wno-unused-parameter",
    "-Wno-unknown-pragmas",
    // Pool tags.
    "-Wno-multichar",
    // gs:0 and its like are address 0 to gcc 12, which takes them for null pointers.
    "-Wno-array-bounds",
    // Without a C runtime there is nobody to ask how far the stack reaches.
    "-mno-stack-arg-probe",
    "-fno-stack-protector",
    "-nostdlib",
    "-Wl,--subsystem,native",
    "-Wl,--entry,DriverEntry",
    "-Wl,--exclude-all-symbols",
];

/// What every driver is linked with, after it. A program may find less in the kernel than the header promises: gcc's own
/// library has the rest.
const LIBRARIES: [&str; 3] = ["-lntoskrnl", "-lhal", "-lgcc"];

/// Why a driver was not built.
#[derive(Debug, Error)]
pub enum CDriverError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The compiler or the linker refused.
    #[error("{} does not build: {first}; everything gcc said is in {}", source_file.display(), log.display())]
    Build {
        /// The driver's source.
        source_file: PathBuf,
        /// The first error.
        first: String,
        /// All that was printed.
        log: PathBuf,
    },
    /// The toolbox has no compiler.
    #[error(transparent)]
    Toolbox(#[from] ToolboxError),
}

impl CDriverError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Builds every driver below `sources` into `images`, as `NAME.sys`. Gives their names, sorted.
pub fn build(toolbox: &Toolbox, sources: &Path, images: &Path) -> Result<Vec<String>, CDriverError> {
    let gcc = toolbox.mingw_gcc()?;
    let driver_kit = gcc.driver_kit()?;
    fs::create_dir_all(images).map_err(CDriverError::io("create", images))?;
    let mut files = Vec::new();
    collect(sources, &mut files)?;
    files.sort();
    let (headers, drivers): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.extension().is_some_and(|extension| extension == "h"));
    let mut common = DefaultHasher::new();
    (gcc.0.version.to_string(), FLAGS, LIBRARIES).hash(&mut common);
    for header in &headers {
        fs::read(header).map_err(CDriverError::io("read", header))?.hash(&mut common);
    }
    let build = Build { gcc, driver_kit, sources, images, common };
    build.all(&drivers)?;
    Ok(drivers.iter().map(|file| name_of(file)).collect())
}

struct Build<'a> {
    gcc: MingwGcc,
    driver_kit: PathBuf,
    sources: &'a Path,
    images: &'a Path,
    /// Of everything that all drivers depend on.
    common: DefaultHasher,
}

impl Build<'_> {
    /// As many at a time as there are processors; the first failure, in the files' order.
    fn all(&self, drivers: &[PathBuf]) -> Result<(), CDriverError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut failed = None;
            while let Some((index, file)) = Some(next.fetch_add(1, Ordering::Relaxed))
                .and_then(|index| Some((index, drivers.get(index)?)))
            {
                if let Err(error) = self.one(file) {
                    failed.get_or_insert((index, error));
                }
            }
            failed
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let failures = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect::<Vec<_>>()
        });
        failures.into_iter().min_by_key(|(index, _)| *index).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn one(&self, file: &Path) -> Result<(), CDriverError> {
        let source = fs::read(file).map_err(CDriverError::io("read", file))?;
        let mut hasher = self.common.clone();
        source.hash(&mut hasher);
        let key = format!("{:016x}", hasher.finish());
        let place = |extension: &str| self.images.join(name_of(file)).with_extension(extension);
        let (image, stamp, log) = (place("sys"), place("key"), place("log"));
        if image.is_file() && fs::read_to_string(&stamp).is_ok_and(|present| present == key) {
            return Ok(());
        }
        let fresh = place(&format!("{}.new", std::process::id()));
        let output = self
            .gcc
            .command()
            .args(FLAGS)
            .args(own_flags(&source))
            .arg("-I")
            .arg(&self.driver_kit)
            .arg("-I")
            .arg(self.sources.join("include"))
            .arg("-o")
            .arg(&fresh)
            .arg(file)
            .args(LIBRARIES)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(CDriverError::io("run", &self.gcc.0.program))?;
        fs::write(&log, &output.stderr).map_err(CDriverError::io("write", &log))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().find(|line| line.contains("error")).or_else(|| text.lines().next());
            let first = first.unwrap_or("no reason given").to_owned();
            return Err(CDriverError::Build { source_file: file.to_owned(), first, log });
        }
        fs::rename(&fresh, &image).map_err(CDriverError::io("write", &image))?;
        fs::write(&stamp, key).map_err(CDriverError::io("write", &stamp))
    }
}

/// The flags that a source asks for in its first line.
fn own_flags(source: &[u8]) -> Vec<String> {
    let line = source.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let flags = line.trim().strip_prefix("// build: ").unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every C source and header below a folder, without those that a crate has there for itself.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), CDriverError> {
    for entry in fs::read_dir(folder).map_err(CDriverError::io("read", folder))? {
        let path = entry.map_err(CDriverError::io("read", folder))?.path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DriverImage;

    const DRIVER: &str = "#include <ntddk.h>\n#include \"shared.h\"\n\
        NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT object, PUNICODE_STRING path) { return STATUS; }\n";

    fn modified(file: &Path) -> std::time::SystemTime {
        fs::metadata(file).unwrap().modified().unwrap()
    }

    /// Fetches the compiler where there is none.
    #[test]
    fn a_driver_is_built_once_for_each_content() {
        let folder = tempfile::tempdir().unwrap();
        let (sources, images) = (folder.path().join("c"), folder.path().join("images"));
        fs::create_dir_all(sources.join("include")).unwrap();
        fs::create_dir_all(sources.join("deeper")).unwrap();
        fs::write(sources.join("deeper/one.c"), DRIVER).unwrap();
        fs::write(sources.join("include/shared.h"), "#define STATUS STATUS_SUCCESS\n").unwrap();
        let toolbox = Toolbox::open().unwrap();
        let run = || build(&toolbox, &sources, &images).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(run(), ["one"]);
        let image = images.join("one.sys");
        DriverImage::read(&image).unwrap();
        let first = modified(&image);
        run();
        assert_eq!(modified(&image), first, "nothing changed");
        fs::write(sources.join("include/shared.h"), "#define STATUS STATUS_UNSUCCESSFUL\n").unwrap();
        run();
        assert_ne!(modified(&image), first, "a header changed");

        fs::write(sources.join("deeper/one.c"), "#include <ntddk.h>\nint x = 1 +;\n").unwrap();
        let error = build(&toolbox, &sources, &images).unwrap_err().to_string();
        assert!(error.contains("one.c does not build") && error.contains("expected expression"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn the_first_line_may_ask_for_flags() {
        assert_eq!(own_flags(b"// build: -O0 -shared\nint x;"), ["-O0", "-shared"]);
        assert!(own_flags(b"// a driver\n// build: -O0\n").is_empty());
        assert!(own_flags(b"").is_empty());
    }
}
