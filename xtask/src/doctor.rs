//! `cargo xtask doctor`: what is needed, what is here, and the command that gets what is not.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use squall_harness::toolbox::{Distribution, Error, Need, Survey, Toolbox, Verdict};

/// Says what Squall needs and whether this machine has it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The QEMU to look at, instead of those that would be found
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Shows how everything is installed on another distribution
    #[arg(long, value_name = "NAME")]
    distribution: Option<Distribution>,
    /// Writes the findings to a file, schema squall.doctor/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Something needed is neither here nor to be fetched.
pub(crate) const INCOMPLETE: u8 = 3;

/// Looks, prints, and answers with 0 only if everything is here or can be fetched.
pub(crate) fn run(args: Args) -> Result<ExitCode, Error> {
    let survey = Toolbox::open()?.survey(args.qemu.as_deref());
    print!("{}", report(&survey, args.distribution));
    if let Some(path) = args.json {
        let write = || fs::write(&path, serde_json::to_vec_pretty(&survey)?);
        write().map_err(|source| Error::File { action: "write", path: path.clone(), source })?;
    }
    Ok(if survey.is_good() { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// The findings as a table, with the commands that install what is not here below it.
pub(crate) fn report(survey: &Survey, distribution: Option<Distribution>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["NEED", "FOR", "VERDICT", "VERSION", "WHERE"]);
    for need in &survey.needs {
        let (verdict, version, place) = match &need.verdict {
            Verdict::Ready { version, location, .. } => {
                ("ready", version.clone().unwrap_or_default(), location.display().to_string())
            }
            Verdict::Fetchable { from } => ("fetchable", String::new(), format!("from {from}")),
            Verdict::Missing { problem } => ("MISSING", String::new(), problem.clone()),
        };
        table.add_row([need.name.as_str(), need.purpose, verdict, &version, &place]);
    }
    let mut text = format!("{}\n\n{}\n", survey.host.name, table.trim_fmt());
    for (need, why) in survey.needs.iter().flat_map(|need| need.refused.iter().map(move |why| (need, why))) {
        text += &format!("\nnot taken for {}: {why}", need.name);
    }
    text += &by_hand(survey, distribution);
    text += match survey.needs.iter().filter(|need| need.is_missing()).count() {
        0 if survey.needs.iter().all(|need| matches!(need.verdict, Verdict::Ready { .. })) => {
            "\nEverything is here.\n"
        }
        0 => "\nWhat is not here is fetched when it is first needed, or now by `cargo xtask setup`.\n",
        _ => "\nSomething is missing: install it as shown above.\n",
    };
    text
}

/// How to install by hand what is not here; with a distribution named, how to install everything there.
fn by_hand(survey: &Survey, distribution: Option<Distribution>) -> String {
    let command = |need: &Need| match distribution {
        Some(distribution) => need.install.get(distribution.name()).cloned(),
        None if matches!(need.verdict, Verdict::Ready { .. }) => None,
        // On a distribution that nothing is known of, one of the known ones may be close enough.
        None => need.install_here(&survey.host).or_else(|| {
            let all: Vec<String> =
                need.install.iter().map(|(name, command)| format!("{name}: {command}")).collect();
            Some(all.join("; "))
        }),
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for need in &survey.needs {
        if let Some(command) = command(need) {
            table.add_row([need.name.clone(), command]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let place = distribution.map_or("here", Distribution::name);
    format!("\nTo install by hand ({place}):\n{}\n", table.trim_fmt())
}
