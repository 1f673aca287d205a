//! A moment of a machine to which it can be brought back.
//!
//! QEMU keeps such a moment in an image that takes snapshots. It is a file, nameless as soon as QEMU has opened it, so
//! that nothing is left of it however this process or QEMU ends. Being brought back costs some milliseconds, a boot a
//! tenth of a second.
//!
//! What is brought back is the guest, its devices and its clock, and the card with its storm. What is *not* is whatever
//! lies outside the machine: bytes under way on the serial line, the debug ports' files, the flight recorder, QEMU's
//! events. [`Session`](crate::session::Session) sees to those.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use qapi::qmp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::sleep;

use crate::qmp::{Qmp, QmpError};

/// The image's virtual size: all of the guest's memory, its devices and what the format needs.
const SIZE_MIB: u64 = 256;
const FILE_NODE: &str = "snapshot-file";
const NODE: &str = "snapshot";
const TAG: &str = "ready";
const JOB: &str = "snapshot-job";
/// Between two looks at a job: it takes some milliseconds.
const LOOK: Duration = Duration::from_micros(300);

/// A machine that cannot be brought back.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The image cannot be made.
    #[error("snapshot: cannot make {}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// QEMU refused, or is gone.
    #[error("snapshot: {what}: {source}")]
    Qmp {
        /// What was asked.
        what: &'static str,
        /// What QMP said.
        source: QmpError,
    },
    /// QEMU tried, and failed.
    #[error("snapshot: {what}: {why}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// In QEMU's words.
        why: String,
    },
    /// A command that its own schema does not take: a bug of this module.
    #[error("snapshot: {what}: {source}")]
    Command {
        /// What was to be asked.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A moment of a machine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    qmp: Qmp,
}

impl Snapshot {
    /// Keeps the moment that is now; the machine runs on. Once for each QEMU.
    pub(crate) async fn take(qmp: &Qmp, folder: &Path) -> Result<Self, SnapshotError> {
        let path = folder.join("snapshot.qcow2");
        let failed = |source| SnapshotError::File { path: path.clone(), source };
        File::create_new(&path).map_err(failed)?;
        let made = Self::image(qmp, &path).await;
        // QEMU has it open, or never will.
        std::fs::remove_file(&path).map_err(failed)?;
        made?;
        let snapshot = Self { qmp: qmp.clone() };
        let save = qmp::snapshot_save {
            devices: vec![NODE.to_owned()],
            job_id: JOB.to_owned(),
            tag: TAG.to_owned(),
            vmstate: NODE.to_owned(),
        };
        job(qmp, "snapshot-save", save).await?;
        Ok(snapshot)
    }

    async fn image(qmp: &Qmp, path: &Path) -> Result<(), SnapshotError> {
        // Nobody reads the image after a power failure: writes need not reach a disk.
        let cache = json!({"direct": false, "no-flush": true});
        let file = json!({"driver": "file", "node-name": FILE_NODE, "filename": path, "cache": cache,
            "locking": "off"});
        add(qmp, file).await?;
        let format = json!({"driver": "qcow2", "file": FILE_NODE, "size": SIZE_MIB << 20});
        let create: qmp::blockdev_create =
            command("blockdev-create", json!({"job-id": JOB, "options": format}))?;
        job(qmp, "blockdev-create", create).await?;
        add(qmp, json!({"driver": "qcow2", "node-name": NODE, "file": FILE_NODE, "cache": cache})).await
    }

    /// Brings the machine back. It must be stopped, and is left so.
    pub(crate) async fn restore(&self) -> Result<(), SnapshotError> {
        let load = qmp::snapshot_load {
            devices: vec![NODE.to_owned()],
            job_id: JOB.to_owned(),
            tag: TAG.to_owned(),
            vmstate: NODE.to_owned(),
        };
        job(&self.qmp, "snapshot-load", load).await
    }
}

/// A typed command from the text of its arguments, where its type is too deep to be written down.
fn command<C: DeserializeOwned>(what: &'static str, arguments: Value) -> Result<C, SnapshotError> {
    serde_json::from_value(arguments).map_err(|source| SnapshotError::Command { what, source })
}

async fn add(qmp: &Qmp, node: Value) -> Result<(), SnapshotError> {
    let what = "blockdev-add";
    let node: qmp::blockdev_add = command(what, node)?;
    qmp.execute(node).await.map(drop).map_err(|source| SnapshotError::Qmp { what, source })
}

/// Begins a job and sees it to its end.
async fn job<C>(qmp: &Qmp, what: &'static str, command: C) -> Result<(), SnapshotError>
where
    C: qmp::QmpCommand + 'static,
    C::Ok: Send,
{
    let failed = |source| SnapshotError::Qmp { what, source };
    qmp.execute(command).await.map_err(failed)?;
    let error = loop {
        let jobs = qmp.execute(qmp::query_jobs {}).await.map_err(failed)?;
        match jobs.into_iter().find(|job| job.id == JOB) {
            Some(job) if matches!(job.status, qmp::JobStatus::concluded) => break job.error,
            Some(_) => sleep(LOOK).await,
            None => break Some("its job is gone".to_owned()),
        }
    };
    qmp.execute(qmp::job_dismiss { id: JOB.to_owned() }).await.map_err(failed)?;
    error.map_or(Ok(()), |why| Err(SnapshotError::Failed { what, why }))
}
