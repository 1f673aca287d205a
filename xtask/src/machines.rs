//! The flags of every verb that runs many machines.

use std::path::PathBuf;

use squall_harness::scenario::Bus;

use crate::failure::Failure;

/// Which kinds of machine, how many of them at once, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Machines {
    /// Only this bus; may be given again
    #[arg(long, value_name = "BUS")]
    pub(crate) bus: Vec<Bus>,
    /// Only with so many processors; may be given again
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Vec<u8>,
    /// What every storm comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Machines at once; by default one for each of the host's processors
    #[arg(long, value_name = "N")]
    machines: Option<usize>,
    /// The QEMU to use instead of one that is found or fetched
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) qemu: Option<PathBuf>,
}

impl Machines {
    /// How many at once.
    pub(crate) fn at_once(&self) -> Result<usize, Failure> {
        let host_processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        match self.machines {
            Some(0) => Err(Failure::usage("--machines: at least 1")),
            Some(machines) => Ok(machines),
            None => Ok(host_processors()),
        }
    }
}
