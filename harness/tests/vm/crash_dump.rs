//! The guest's memory after a crash, opened by a reader of Windows' dumps that knows nothing of us.

use std::ops::Range;

use kdmp_parser::{
    gxa::Gva,
    parse::KernelDumpParser,
    structs::{Context, DumpType, KdDebuggerData64},
    virt::Reader,
};
use squall_harness::{
    evidence::{Event, Evidence},
    run_dir::{MEMORY, RunDir},
    scenario::{Parameter, Scenario},
    verdict::{Outcome, Verdict},
};

use crate::{bench::Bench, guest::c_driver};

/// `UNLOADED_DRIVERS`: the name, the first address, one past the last, the time.
const UNLOADED_BYTES: u64 = 0x28;

async fn crashed(bench: &Bench, processors: u8) -> (Verdict, KernelDumpParser) {
    let mut scenario = bench.scenario(processors, Some("interrupts-left-enabled-and-connected"));
    scenario.dump = true;
    dumped(bench, &scenario).await
}

async fn dumped(bench: &Bench, scenario: &Scenario) -> (Verdict, KernelDumpParser) {
    let verdict = bench.run_with(scenario, &bench.parts()).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Bugcheck, "{verdict:#?}");
    let run = RunDir::open(&verdict.run_dir);
    let dumped = Evidence::load(&run).unwrap().events().any(|event| match event {
        Event::MemoryDumped { error, .. } => error.is_none(),
        _ => false,
    });
    assert!(dumped, "no dump; qemu said: {:?}", std::fs::read_to_string(run.file("qemu.log")));
    let dump = KernelDumpParser::new(run.file(MEMORY)).unwrap();
    (verdict, dump)
}

fn debugger_data(dump: &KernelDumpParser) -> KdDebuggerData64 {
    Reader::new(dump).read_struct(dump.headers().kd_debugger_data_block.into()).unwrap()
}

fn number(reader: &Reader<'_>, address: u64) -> u64 {
    reader.read_struct(address.into()).unwrap()
}

/// Name and addresses of the image that was unloaded last.
fn last_unloaded(dump: &KernelDumpParser) -> (String, Range<u64>) {
    let (reader, data) = (Reader::new(dump), debugger_data(dump));
    let next: u32 = reader.read_struct(data.mm_last_unloaded_driver.into()).unwrap();
    assert!(next >= 1, "no image was unloaded");
    let entry = number(&reader, data.mm_unloaded_drivers) + u64::from(next - 1) * UNLOADED_BYTES;
    let length: u16 = reader.read_struct(entry.into()).unwrap();
    let text = number(&reader, entry + 8);
    let unit = |index: u64| reader.read_struct::<u16>((text + 2 * index).into()).unwrap();
    let units: Vec<_> = (0..u64::from(length / 2)).map(unit).collect();
    let range = number(&reader, entry + 16)..number(&reader, entry + 24);
    (String::from_utf16(&units).unwrap(), range)
}

async fn tells_the_crash(processors: u8) {
    let bench = Bench::new();
    let (verdict, dump) = crashed(&bench, processors).await;
    let bugcheck = verdict.bugcheck.as_ref().unwrap();
    let header = dump.headers();
    assert_eq!(dump.dump_type(), DumpType::Full);
    assert_eq!((header.bug_check_code, header.number_processors), (bugcheck.code, processors.into()));
    assert_eq!(header.bug_check_code_parameters, bugcheck.parameters.map(|parameter| parameter.0));

    // The instruction lies in the driver, which is not among the loaded images any more.
    let rip = dump.context_record().rip;
    assert_eq!(rip, bugcheck.parameters[3].0);
    let (name, range) = last_unloaded(&dump);
    assert!(name == "squall.sys" && range.contains(&rip), "{name} {range:x?} {rip:#x}");
    let mut modules = dump.kernel_modules();
    assert!(modules.any(|(_, name)| name == "ntoskrnl.exe"), "the kernel is in the list");
    let loaded = |(range, _): (&Range<Gva>, &str)| range.contains(&rip.into());
    assert!(!dump.kernel_modules().any(loaded), "an unloaded image is not loaded");

    // Each processor's registers: one stopped at the fault, the others wherever they were, in the kernel or the driver.
    let (reader, data) = (Reader::new(&dump), debugger_data(&dump));
    let mut stopped = Vec::new();
    for index in 0..u64::from(processors) {
        let prcb = number(&reader, data.ki_processor_block + 8 * index);
        let own: u32 = reader.read_struct((prcb + u64::from(data.offset_prcb_number)).into()).unwrap();
        assert_eq!(u64::from(own), index);
        assert_ne!(number(&reader, prcb + u64::from(data.offset_prcb_current_thread)), 0);
        let context = prcb + u64::from(data.offset_prcb_proc_state_context);
        let context: Context = reader.read_struct(context.into()).unwrap();
        assert!(context.rip >> 47 == (1 << 17) - 1, "{:#x} is no kernel address", context.rip);
        stopped.push(context.rip);
    }
    assert_eq!(stopped.iter().filter(|&&each| each == rip).count(), 1, "{stopped:x?} {rip:#x}");
}

#[tokio::test]
async fn a_dump_tells_the_crash_on_one_processor() {
    tells_the_crash(1).await;
}

#[tokio::test]
async fn a_dump_tells_the_crash_on_four_processors() {
    tells_the_crash(4).await;
}

/// A crash of the hostile driver's: the dump and the verdict say the same, and that its own code stopped the system.
async fn ends_oddly(deed: &str, processors: u8, code: u32) -> Verdict {
    let bench = Bench::new();
    let mut scenario = Scenario { processors, dump: true, ..Scenario::default() };
    scenario.driver.image = c_driver(&bench, "hostile");
    scenario.driver.service = "hostile".to_owned();
    scenario.driver.parameters.insert("Deed".to_owned(), Parameter::Text(deed.to_owned()));
    let (verdict, dump) = dumped(&bench, &scenario).await;
    let bugcheck = verdict.bugcheck.as_ref().unwrap();
    assert_eq!(bugcheck.code, code, "{deed}: {verdict:#?}");
    let header = dump.headers();
    assert_eq!((header.bug_check_code, header.number_processors), (code, processors.into()), "{deed}");
    assert_eq!(header.bug_check_code_parameters, bugcheck.parameters.map(|parameter| parameter.0), "{deed}");
    let rip = dump.context_record().rip;
    let mut images = dump.kernel_modules().filter(|(_, name)| *name == "hostile.sys");
    assert!(images.any(|(range, _)| range.contains(&rip.into())), "{deed}: {rip:#x}");
    assert_eq!(bugcheck.module.as_deref(), Some("hostile.sys"), "{deed}");
    verdict
}

#[tokio::test]
async fn a_dump_tells_a_crash_at_high_level() {
    const HIGH_LEVEL: u8 = 15;
    let stopped = ends_oddly("bugcheck-at-high-level", 2, 0xE2).await.bugcheck.unwrap();
    assert_eq!(stopped.irql, HIGH_LEVEL);
    let faulted = ends_oddly("fault-at-high-level", 2, 0xD1).await.bugcheck.unwrap();
    let [address, irql, operation, _] = faulted.parameters.map(|parameter| parameter.0);
    assert_eq!((address, irql, operation), (8, HIGH_LEVEL.into(), 1));
}

#[tokio::test]
async fn a_dump_tells_a_crash_on_any_processor_or_on_all_at_once() {
    let last = ends_oddly("bugcheck-on-last-processor", 4, 0xE2).await.bugcheck.unwrap();
    assert_eq!((last.processor, last.parameters[0].0), (3, 3));
    for processors in [2, 4, 8] {
        let first = ends_oddly("bugcheck-on-every-processor", processors, 0xE2).await.bugcheck.unwrap();
        assert_eq!(u64::from(first.processor), first.parameters[0].0, "on {processors}");
    }
}

#[tokio::test]
async fn a_dump_tells_an_overflowed_stack() {
    ends_oddly("overflow-stack", 4, 0x7F).await;
}
