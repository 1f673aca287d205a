//! The list of checks.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use squall_harness::{
    artifacts::{Artifacts, VARIABLE},
    run_dir::write_json,
    toolbox::{Series, Toolbox},
    wdk::{DriverBuild, Image, RULES},
};

use super::check::Check;
use crate::{
    build::{Builder, DEVICE_LIBRARY, QEMU_COMMAND, cargo, one_program},
    failure::Failure,
    progress::Stages,
};

/// Why tests were not run.
const NOT_BUILT: &str = "not run: what they need was not built";

/// All tests but the card's in QEMU, in nextest's own language.
const REST: &str = "not (package(squall-vdevice) & binary(vm))";

/// Every check, in the order in which a newcomer wants to hear of its failure.
pub(super) fn all(root: &Path, logs: &Path, qemu: Option<&Path>) -> Vec<Check> {
    let driver = root.join("driver");
    let guest = root.join("vm-images/testkernel");
    let nextest = has_nextest();
    let host = |arguments: &[&str]| command(root, arguments);
    let in_guest = |arguments: &[&str]| command(&guest, arguments);
    let pure = ["-p", "squall-testkernel-pure", "--target", host_target()];
    let products =
        Rc::new(Products { logs: logs.to_owned(), qemu: qemu.map(Path::to_owned), built: OnceCell::new() });

    let build = {
        let products = products.clone();
        move || products.build()
    };
    let workspace = {
        let (root, products) = (root.to_owned(), products.clone());
        // The card's tests in QEMU are checks of their own, one for each QEMU.
        let arguments: &[&str] = if nextest { &["--workspace", "-E", REST] } else { &["--workspace"] };
        move || Ok(products.built()?.environment(tests(&root, nextest, arguments)))
    };
    let in_qemu = |series: Option<Series>| {
        let name =
            series.map_or("tests: card in QEMU".to_owned(), |series| format!("tests: card in QEMU {series}"));
        let (root, logs, products) = (root.to_owned(), logs.to_owned(), products.clone());
        let chosen = qemu.map(Path::to_owned);
        Check::tests(name, move || {
            let built = products.built()?;
            let toolbox = Toolbox::open().map_err(|error| error.to_string())?;
            let qemu = toolbox.qemu_to_test(series, chosen.as_deref()).map_err(|error| error.to_string())?;
            let script = one_program(&logs, &qemu).map_err(|failure| failure.message())?;
            let mut command = tests(&root, nextest, &["-p", "squall-vdevice", "--test", "vm"]);
            command.env(QEMU_COMMAND, script).env(DEVICE_LIBRARY, &built.device_library);
            Ok(command)
        })
    };
    let guest_tests = {
        let guest = guest.clone();
        move || Ok(tests(&guest, nextest, &pure))
    };
    let driver_tests = {
        let driver = driver.clone();
        move || Ok(tests(&driver, nextest, &["-p", "squall-driver-pure", "--target", host_target()]))
    };
    let tools = {
        let qemu = qemu.map(Path::to_owned);
        move || {
            let errors = Toolbox::open()?.fetch_all(qemu.as_deref());
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            if errors.is_empty() { Ok(()) } else { Err(Failure::infrastructure(errors.join("; "))) }
        }
    };
    let mut checks = vec![
        // First, because the checks that are plain cargo calls need the targets and components that it adds.
        Check::own("tools", tools),
        Check::commands(
            "formatting",
            [root, &driver, &guest, &root.join(RULES)]
                .map(|folder| command(folder, &["fmt", "--all", "--check"])),
        ),
        Check::commands(
            "clippy: host",
            [host(&["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"])],
        ),
        Check::commands(
            "clippy: guest",
            [
                in_guest(&["clippy", "--release", "--", "-Dwarnings"]),
                in_guest(&[
                    "clippy",
                    "--all-targets",
                    pure[0],
                    pure[1],
                    pure[2],
                    pure[3],
                    "--",
                    "-Dwarnings",
                ]),
            ],
        ),
        Check::commands("documentation: host", [documentation(host(&["doc", "--workspace", "--no-deps"]))]),
        Check::commands("documentation: guest", [documentation(in_guest(&["doc", "--no-deps"]))]),
        Check::own("clippy and documentation: driver", lint(root)),
        Check::own("building", build),
        Check::tests("tests: guest's logic", guest_tests),
        Check::tests("tests: driver's logic", driver_tests),
        Check::commands("examples in documentation", [host(&["test", "--workspace", "--doc", "--quiet"])]),
        Check::tests("tests", workspace),
    ];
    checks.extend(Toolbox::qemus_to_test(qemu).into_iter().map(in_qemu));
    checks
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = cargo(folder);
    command.args(arguments);
    command
}

fn documentation(mut command: Command) -> Command {
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    command
}

/// Every test of these packages, all failures reported.
fn tests(folder: &Path, nextest: bool, arguments: &[&str]) -> Command {
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--tests"] };
    let mut command = command(folder, runner);
    command.args(arguments).arg("--no-fail-fast");
    command
}

/// Lints the driver's images and the rules' driver; the wdk crates need an environment that only the harness knows.
fn lint(root: &Path) -> impl FnMut() -> Result<(), Failure> + use<> {
    let root = root.to_owned();
    move || {
        let stages = Stages::new();
        let builder = Builder::new(&stages)?;
        let images =
            [Image::Product, Image::Defects].map(|image| DriverBuild::new(&root.join("driver"), image));
        for build in images.into_iter().chain([DriverBuild::rules(&root)]) {
            build?.check(&builder.toolbox, &mut |line| eprintln!("{line}"))?;
        }
        Ok(())
    }
}

/// What this repository's programs are built into: once, and as soon as a check needs it.
struct Products {
    logs: PathBuf,
    qemu: Option<PathBuf>,
    /// Nothing inside, where the build failed.
    built: OnceCell<Option<Built>>,
}

impl Products {
    /// The check of the build itself.
    fn build(&self) -> Result<(), Failure> {
        let mut failure = None;
        self.built.get_or_init(|| {
            Built::make(&self.logs, self.qemu.as_deref()).map_err(|error| failure = Some(error)).ok()
        });
        failure.map_or(Ok(()), Err)
    }

    /// For the checks that come after it, or that are run without it (`--only`).
    fn built(&self) -> Result<&Built, String> {
        self.build().map_err(|failure| failure.message())?;
        self.built.get().and_then(Option::as_ref).ok_or_else(|| NOT_BUILT.to_owned())
    }
}

/// What the tests in guests are told.
struct Built {
    list: PathBuf,
    qemu: PathBuf,
    device_library: PathBuf,
}

impl Built {
    fn make(folder: &Path, qemu: Option<&Path>) -> Result<Self, Failure> {
        let stages = Stages::new();
        let builder = Builder::new(&stages)?;
        let artifacts = Artifacts {
            qemu: builder.qemu(qemu)?,
            device_library: builder.device_library()?,
            kernel: builder.kernel()?,
            driver: builder.driver(Image::Product)?,
            defects: builder.driver(Image::Defects)?,
            catalogue: builder.catalogue(),
            c_drivers: builder.c_drivers()?,
            rust_rules: builder.rust_rules()?,
        };
        let list = folder.join("artifacts.json");
        write_json(&list, &artifacts)?;
        let qemu = one_program(folder, &artifacts.qemu)?;
        Ok(Self { list, qemu, device_library: artifacts.device_library })
    }

    fn environment(&self, mut command: Command) -> Command {
        command
            .env(VARIABLE, &self.list)
            .env(QEMU_COMMAND, &self.qemu)
            .env(DEVICE_LIBRARY, &self.device_library);
        command
    }
}

fn has_nextest() -> bool {
    let mut nextest = cargo(Path::new("."));
    nextest.args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The host's own target, for crates that live in a workspace of another one.
fn host_target() -> &'static str {
    env!("SQUALL_HOST_TARGET")
}
