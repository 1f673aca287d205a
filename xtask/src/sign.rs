//! `cargo xtask sign`: the driver, signed for a Windows in test mode.

use std::{path::PathBuf, process::ExitCode};

use comfy_table::{Table, presets};
use squall_harness::{signing::Certificate, wdk::Image};

use crate::{build::Builder, failure::Failure, progress::Stages};

/// Where certificate and signed images are kept, in the repository.
const SIGNED: &str = "target/squall/signed";

/// Test-signs the driver, for a 64-bit Windows in test mode
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Another driver's image instead of the two of this repository; may be given again
    #[arg(long, value_name = "FILE")]
    driver: Vec<PathBuf>,
}

/// Signs, verifies what came of it, and says where it is.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let stages = Stages::new();
    let builder = Builder::new(&stages)?;
    let images = if args.driver.is_empty() {
        let product = (builder.driver(Image::Product)?.image, "squall.sys".to_owned());
        let defects = (builder.driver(Image::Defects)?.image, "squall-defects.sys".to_owned());
        vec![product, defects]
    } else {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        args.driver.iter().map(|path| (path.clone(), name(path))).collect()
    };
    stages.end();
    let signer = builder.toolbox.signer()?;
    let folder = builder.root.join(SIGNED);
    let certificate = Certificate::in_folder(&folder, &signer)?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["IMAGE", "SIGNED", "VERIFIED"]);
    for (image, name) in images {
        let signed = folder.join(name);
        certificate.sign(&image, &signed, &signer)?;
        certificate.verify(&signed, &signer)?;
        table.add_row([image.display().to_string(), signed.display().to_string(), "yes".to_owned()]);
    }
    println!("{table}\n");
    println!("certificate  {}", certificate.der.display());
    println!(
        "on Windows   certutil -addstore Root squall-test.cer; certutil -addstore TrustedPublisher squall-test.cer"
    );
    println!("             bcdedit /set testsigning on, and a restart");
    Ok(ExitCode::SUCCESS)
}
