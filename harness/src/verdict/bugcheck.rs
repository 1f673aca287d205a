//! What a crash record says, with the names and lines that the driver's symbols give to its addresses.

use super::{
    Access, Bugcheck, Outcome, StackFrame, Verdict,
    judge::{Case, infrastructure},
};
use crate::{
    crash::{CrashRecord, ModuleState},
    hex::Hex,
    image::{DriverImage, follows_call},
    run_dir::{DRIVER, DRIVER_PDB},
    symbols::{self, Frame},
    wdk::{LIBRARY_ROOT, SOURCE_ROOT},
};

impl Case<'_> {
    /// The frames of offsets in the driver, or why there are none.
    fn symbols(&self, offsets: &[u32]) -> Result<Vec<Vec<Frame>>, String> {
        let pdb = self.run.file(DRIVER_PDB);
        let image = DriverImage::read(&self.run.file(DRIVER)).ok();
        if pdb.exists() {
            let identity = image.and_then(|image| image.pdb);
            return symbols::resolve(&pdb, identity, offsets).map_err(|error| error.to_string());
        }
        let within = image.map_or(Ok(None), |image| symbols::resolve_within(&image.bytes, offsets));
        within
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "no symbols: no PDB was given with the driver, and none are in it".to_owned())
    }

    pub(super) fn bugcheck(&self, verdict: &mut Verdict, record: &CrashRecord, load_started: bool) {
        let name = &record.name;
        if self.profile.own_faults.contains(&record.code) {
            return infrastructure(verdict, format!("the guest's own fault: {name} ({:#x})", record.code));
        }
        if !load_started {
            let what = format!("guest stopped with {name} ({:#x}) before a driver was loaded", record.code);
            return infrastructure(verdict, what);
        }
        let image = std::fs::read(self.run.file(DRIVER)).unwrap_or_default();
        let mut offsets = Vec::new();
        let ours = |module: &str| module.eq_ignore_ascii_case(&verdict.driver.name);
        let fault = record.module.as_ref().filter(|module| ours(&module.name));
        let fault = fault.and_then(|module| u32::try_from(module.offset.0).ok());
        offsets.extend(fault);
        let stack: Vec<_> = record
            .stack
            .iter()
            .filter_map(|address| record.locate(address.0))
            .filter(|(module, _)| ours(&module.name))
            .filter_map(|(module, offset)| Some((module.name.clone(), u32::try_from(offset).ok()?)))
            .filter(|(_, offset)| follows_call(&image, *offset))
            .collect();
        // A return address is after the call; the call's line is what is wanted.
        offsets.extend(stack.iter().map(|(_, offset)| offset.saturating_sub(1)));
        let mut frames = Vec::new();
        if !offsets.is_empty() {
            match self.symbols(&offsets) {
                Ok(found) => frames = found,
                Err(why) => verdict.notes.push(why),
            }
        }
        let mut frames = frames.into_iter().map(|inlined| inlined.into_iter().map(in_repository).collect());
        let here: Vec<Frame> = if fault.is_some() { frames.next().unwrap_or_default() } else { Vec::new() };
        let stack = stack.into_iter().map(|(module, offset)| {
            let frame = drivers_own(&frames.next().unwrap_or_default());
            let (symbol, source) = (frame.function, frame.source);
            StackFrame { module, offset: Hex(offset.into()), symbol, source }
        });
        let stack = stack.collect();
        let Frame { function: symbol, source } = drivers_own(&here);
        let module = record.module.as_ref();
        verdict.summary = summary(record, symbol.as_deref());
        verdict.outcome = Outcome::Bugcheck;
        verdict.bugcheck = Some(Bugcheck {
            code: record.code,
            name: name.clone(),
            parameters: record.parameters,
            access: Access::of(record.code, &record.parameters),
            module: module.map(|module| module.name.clone()),
            module_state: module.map(|module| module.state),
            offset: module.map(|module| module.offset),
            symbol,
            source,
            inlined: here,
            stack,
            processor: record.processor,
            irql: record.irql,
            verifier: record.verifier,
        });
    }
}

/// The driver of this repository is built under a root that stands for the repository: a path below it is one that can be
/// opened from there.
fn in_repository(mut frame: Frame) -> Frame {
    if let Some(source) = &mut frame.source
        && !is_library(source)
        && let Some(path) = source.strip_prefix(SOURCE_ROOT)
    {
        *source = path.to_owned();
    }
    frame
}

/// Whether a source file is of the language's own library: at the compiler's name for its place, or at ours where the
/// toolchain has its sources.
fn is_library(source: &str) -> bool {
    ["/rustc/", LIBRARY_ROOT].iter().any(|root| source.starts_with(root))
}

/// The frame to name an address by: the innermost one, but not inside the language's own library where that was
/// inlined, since the line to look at is the driver's.
fn drivers_own(inlined: &[Frame]) -> Frame {
    let is_own = |frame: &&Frame| frame.source.as_deref().is_none_or(|source| !is_library(source));
    let own = inlined.iter().find(is_own).or_else(|| inlined.first());
    own.cloned().unwrap_or(Frame { function: None, source: None })
}

fn summary(record: &CrashRecord, symbol: Option<&str>) -> String {
    let access = match Access::of(record.code, &record.parameters) {
        Some(Access::Read) => "reading",
        Some(Access::Write) => "writing",
        Some(Access::Execute) => "executing",
        None => "in",
    };
    let mut text = format!("bugcheck {:#X} {}", record.code, record.name).replace("0X", "0x");
    if let Some(module) = &record.module {
        let state = match module.state {
            ModuleState::Loaded => "",
            ModuleState::Unloaded => ", which is unloaded",
        };
        let symbol = symbol.map(|symbol| format!(" ({symbol})")).unwrap_or_default();
        text += &format!(": {access} {}+{}{symbol}{state}", module.name, module.offset);
    }
    text + &format!(", at IRQL {}", record.irql)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, source: &str) -> Frame {
        Frame { function: Some(function.to_owned()), source: Some(source.to_owned()) }
    }

    #[test]
    fn an_address_is_named_by_the_drivers_own_line() {
        let add = |root: &str| {
            let source = format!("{root}library\\core\\src\\sync\\atomic.rs:3923");
            in_repository(frame("core::sync::atomic::atomic_add()", &source))
        };
        let isr =
            in_repository(frame("squall::service::isr()", &format!("{SOURCE_ROOT}driver/src/service.rs:23")));
        for add in ["/rustc/abc/", LIBRARY_ROOT].map(add) {
            assert_eq!(drivers_own(&[add.clone(), isr.clone()]), isr);
            assert_eq!(drivers_own(std::slice::from_ref(&add)), add);
        }
        assert_eq!(isr.source.as_deref(), Some("driver/src/service.rs:23"));
        assert!(LIBRARY_ROOT.starts_with(SOURCE_ROOT));
        assert_eq!(drivers_own(&[]), Frame { function: None, source: None });
    }
}
