//! `cargo xtask e2e`: one run, from building to the verdict.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use squall_harness::{
    artifacts::Driver,
    catalogue::{Catalogue, Defect, Expectation, Match},
    image::DriverImage,
    misbehaviour::Misbehaviour,
    report,
    run::{self, Parts},
    run_dir::write_json,
    scenario::{Bus, Scenario, ServiceParameter},
    storm::Storm,
    verdict::Verdict,
    wdk::Image,
};

use crate::{
    build::{self, Builder},
    failure::Failure,
    progress::Stages,
};

/// Where run directories are made, below the repository.
pub(crate) const RUNS: &str = "target/squall/runs";

/// The path by which the built driver's device is opened.
pub(crate) const BUILT_DEVICE: &str = r"\\.\Squall0";

/// The exit code of what says nothing about the driver.
pub(crate) const NOT_THE_DRIVER: u8 = 3;

/// Runs a driver in a guest, unloads it in the middle of an interrupt storm, and gives the verdict
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A scenario file, such as a run directory's scenario.toml; the flags below override it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The guest: testkernel
    #[arg(long, value_name = "NAME")]
    guest: Option<String>,
    /// How the card is attached: isa, pci-intx, pci-msi or pci-msix
    #[arg(long, value_name = "BUS")]
    bus: Option<Bus>,
    /// Somebody's non-PnP driver instead of the one built here; FILE.pdb beside it, or DWARF in it, gives symbols
    #[arg(long, value_name = "FILE.sys")]
    driver: Option<PathBuf>,
    /// A deliberate mistake of the built driver's Unload, from the catalogue
    #[arg(long, value_name = "ID")]
    defect: Option<String>,
    /// Exit with 0 where the defect raised what the catalogue expects, with 1 where it did not
    #[arg(long, requires = "defect")]
    expect: bool,
    /// Driver Verifier, with its standard settings
    #[arg(long, value_name = "on|off")]
    verifier: Option<Switch>,
    /// The guest's processors, 1 to 8
    #[arg(long, value_name = "N")]
    cpus: Option<u8>,
    /// What every random choice comes from
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The interrupts: none, or ack and after it, by commas, gap=20us, jitter=0us, count=N
    #[arg(long, value_name = "SPEC")]
    storm: Option<Storm>,
    /// What the card does wrong in the storm: the fields of a scenario's table misbehave, as in 'fifo_places = 4'
    #[arg(long, value_name = "FIELDS")]
    misbehave: Option<Misbehaviour>,
    /// What it does wrong from Unload on instead, as in 'removed = true'
    #[arg(long, value_name = "FIELDS")]
    misbehave_in_unload: Option<Misbehaviour>,
    /// A value under the service's Parameters key; a number is a REG_DWORD, sz:TEXT is always text
    #[arg(long, value_name = "NAME=VALUE")]
    service_param: Vec<ServiceParameter>,
    /// Keeps the guest's memory after a crash or a hang: memory.dmp, which WinDbg opens
    #[arg(long)]
    dump: bool,
    /// How long the guest may take to answer, in seconds
    #[arg(long, value_name = "SECONDS")]
    boot_timeout: Option<u64>,
    /// A kernel for the embedded guest instead of the one built here
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The QEMU to use instead of one that is found or fetched
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Where run directories are made
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Writes the verdict to a file, schema squall.verdict/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Builds, runs, prints the verdict.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut scenario = args.scenario()?;
    let defect = match scenario.driver.defect.as_deref() {
        Some(name) => Some(Catalogue::read(&build::catalogue(&build::root()?))?.named(name)?.clone()),
        None => None,
    };
    // Everything that can be refused is refused before anything is built or fetched.
    let profile = scenario.check()?;
    let given = !scenario.driver.image.as_os_str().is_empty();
    if given {
        DriverImage::read(&scenario.driver.image)?;
    }
    if let Some(kernel) = args.kernel.as_deref().filter(|kernel| !kernel.is_file()) {
        return Err(Failure::usage(format!("kernel {}: is not a file", kernel.display())));
    }

    let stages = Stages::new();
    let builder = Builder::new(&stages)?;
    let qemu = builder.qemu(args.qemu.as_deref())?;
    let device_library = builder.device_library()?;
    let kernel = match args.kernel {
        Some(kernel) => absolute(&kernel)?,
        None if profile.boot.kernel => builder.kernel()?,
        None => PathBuf::new(),
    };
    let symbols = if given {
        Some(scenario.driver.image.with_extension("pdb")).filter(|pdb| pdb.is_file())
    } else {
        let image = if defect.is_some() { Image::Defects } else { Image::Product };
        let Driver { image, symbols } = builder.driver(image)?;
        scenario.driver.image = image;
        scenario.driver.device = Some(BUILT_DEVICE.to_owned());
        Some(symbols)
    };
    let runs = args.runs.unwrap_or_else(|| builder.root.join(RUNS));
    let parts = Parts { qemu, kernel, device_library, symbols, runs };

    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::infrastructure(format!("cannot start the runtime: {error}")))?;
    let verdict = runtime.block_on(run::run(&scenario, &parts, &|stage| stages.begin(stage)))?;
    stages.end();
    if let Some(path) = &args.json {
        write_json(path, &verdict)?;
    }
    // What is not the driver's doing is an error, and an error is one line.
    if verdict.outcome.exit_code() == NOT_THE_DRIVER {
        let place = verdict.run_dir.display();
        return Err(Failure::infrastructure(format!("{} (evidence: {place})", verdict.summary)));
    }
    print!("\n{}", report::render(&verdict, std::io::stdout().is_terminal()));
    let code = match defect {
        Some(defect) => as_expected(&defect, &scenario, &verdict, profile.stricter, args.expect),
        None => verdict.outcome.exit_code(),
    };
    println!("  more        cargo xtask trace --unload {}", verdict.run_dir.display());
    Ok(ExitCode::from(code))
}

/// Says whether the defect raised what it must, and gives the exit code.
fn as_expected(defect: &Defect, scenario: &Scenario, verdict: &Verdict, stricter: bool, expect: bool) -> u8 {
    let bus = scenario.bus;
    let matches = matches!(defect.compare(verdict, bus, stricter), Match::Shown | Match::Silent);
    let wanted: Vec<_> = defect.expected(bus, verdict.verifier).iter().map(Expectation::to_string).collect();
    let word = if matches { "as expected" } else { "NOT as expected" };
    println!("  catalogue   {word}: {} must raise {}", defect.id, wanted.join(" or "));
    if expect { u8::from(!matches) } else { verdict.outcome.exit_code() }
}

impl Args {
    /// The scenario file and the flags over it.
    fn scenario(&self) -> Result<Scenario, Failure> {
        let mut scenario = match &self.scenario {
            Some(file) => Scenario::load(file)?,
            None => Scenario::default(),
        };
        if let Some(guest) = &self.guest {
            scenario.guest.clone_from(guest);
        }
        if let Some(bus) = self.bus {
            scenario.bus = bus;
        }
        if let Some(verifier) = self.verifier {
            scenario.verifier = verifier == Switch::On;
        }
        if let Some(driver) = &self.driver {
            scenario.driver.image = absolute(driver)?;
            // A scenario of the built driver opens its device; another driver has another, or none.
            scenario.driver.device = None;
            scenario.driver.service = service_name(driver);
        }
        if let Some(defect) = &self.defect {
            scenario.driver.defect = Some(defect.clone());
        }
        if let Some(cpus) = self.cpus {
            scenario.processors = cpus;
        }
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        if let Some(storm) = &self.storm {
            scenario.storm = storm.clone();
        }
        if let Some(wrong) = &self.misbehave {
            scenario.misbehave = wrong.clone();
        }
        if let Some(wrong) = &self.misbehave_in_unload {
            scenario.unload.misbehave = Some(wrong.clone());
        }
        scenario.dump |= self.dump;
        for ServiceParameter { name, value } in self.service_param.iter().cloned() {
            scenario.driver.parameters.insert(name, value);
        }
        if let Some(seconds) = self.boot_timeout {
            scenario.deadlines.boot_ms = seconds.saturating_mul(1000);
        }
        Ok(scenario)
    }
}

/// A service is named after its driver's file, in the characters that a service's name may have.
fn service_name(driver: &Path) -> String {
    let stem = driver.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = stem.chars().take(32).map(plain).collect();
    if name.is_empty() { "driver".to_owned() } else { name }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use squall_harness::scenario::Parameter;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn scenario(flags: &[&str]) -> Result<Scenario, String> {
        let words = ["e2e"].iter().chain(flags);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.scenario().map_err(|failure| failure.message())
    }

    #[test]
    fn without_flags_it_is_the_default_scenario() {
        assert_eq!(scenario(&[]).unwrap(), Scenario::default());
    }

    #[test]
    fn every_flag_reaches_the_scenario() {
        let flags = "--guest testkernel --bus isa --cpus 4 --seed 9 --storm none --service-param Depth=16 \
                     --service-param Label=x --boot-timeout 3 --verifier on --defect d --expect --dump";
        let scenario = scenario(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((scenario.processors, scenario.seed, scenario.deadlines.boot_ms), (4, 9, 3000));
        assert!(scenario.verifier && scenario.dump && !scenario.storm.blows());
        assert_eq!(scenario.driver.parameters["Depth"], Parameter::Dword(16));
        assert_eq!(scenario.driver.parameters["Label"], Parameter::Text("x".to_owned()));
        assert_eq!(scenario.driver.defect.as_deref(), Some("d"));
    }

    #[test]
    fn what_the_card_does_wrong_reaches_the_scenario() {
        let scenario =
            scenario(&["--misbehave", "fifo_places = 4", "--misbehave-in-unload", "removed = true"]).unwrap();
        assert_eq!(scenario.misbehave, "fifo_places = 4".parse().unwrap());
        assert_eq!(scenario.unload.misbehave, Some("removed = true".parse().unwrap()));
    }

    #[test]
    fn flags_override_a_scenario_file() {
        let folder = std::env::temp_dir().join(format!("squall-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("scenario.toml");
        std::fs::write(&file, "seed = 7\nprocessors = 3\n").unwrap();
        let scenario = scenario(&["--scenario", file.to_str().unwrap(), "--seed", "8"]);
        std::fs::remove_dir_all(&folder).unwrap();
        let scenario = scenario.unwrap();
        assert_eq!((scenario.seed, scenario.processors), (8, 3));
    }

    #[test]
    fn somebody_elses_driver_is_a_service_of_its_own_and_its_device_is_unknown() {
        let scenario = scenario(&["--driver", "some/My Driver.v2.sys"]).unwrap();
        assert_eq!(scenario.driver.service, "My_Driver_v2");
        assert!(scenario.driver.image.is_absolute());
        assert_eq!(scenario.driver.device, None);
        scenario.check().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert!(scenario(&["--verifier", "perhaps"]).unwrap_err().contains("perhaps"));
        scenario(&["--bus", "pci-msi"]).unwrap().check().unwrap();
        assert!(scenario(&["--bus", "vme"]).unwrap_err().contains("pci-msix"));
        assert!(scenario(&["--expect"]).unwrap_err().contains("--defect"));
    }
}
