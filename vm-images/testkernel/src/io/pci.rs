//! The PCI bus as the plug and play manager's tree has it: a physical device object for each function, with its
//! resources.
//!
//! A function that nobody has claimed has its ports, its memory and its line. What it interrupts with is chosen when
//! it is claimed ([`super::claim`]): as on Windows, messages are for those who ask for them.

use alloc::format;
use alloc::vec::Vec;

use squall_testkernel_pure::pci::{Function, Space};
use squall_testkernel_pure::resources::{Claim, Resource};
use squall_testkernel_pure::vectors::{irql_of_vector, vector_of_pin};

use super::pnp::{self, Description};
use super::resource;
use crate::console::println;
use crate::hal::{message, pci};
use crate::ke::processor;
use crate::nt::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR as Descriptor, CM_RESOURCE_MEMORY_READ_WRITE,
    CM_RESOURCE_PORT_16_BIT_DECODE, CM_RESOURCE_PORT_IO, CM_RESOURCE_TYPE_MEMORY, CM_RESOURCE_TYPE_PORT,
    CM_SHARE_DEVICE_EXCLUSIVE, CM_SHARE_SHARED, DEVICE_OBJECT, INTERFACE_TYPE_PCI_BUS, NTSTATUS,
};

/// The bus driver's name, as on Windows.
const DRIVER: &str = "pci";

/// What a function is to interrupt with, at best; what it lacks is replaced by the next below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupts {
    /// Its pin.
    Line,
    /// MSI.
    Message,
    /// MSI-X.
    MessageTable,
}

/// Raw and translated resources side by side.
#[derive(Default)]
struct Resources {
    raw: Vec<Descriptor>,
    translated: Vec<Descriptor>,
    claims: Vec<Claim>,
}

impl Resources {
    /// A range means the same on the bus and to the processor.
    fn range(&mut self, space: Space, start: u64, length: u64) {
        let Ok(length) = u32::try_from(length) else { return };
        let (kind, flags, resource) = match space {
            Space::Ports => (
                CM_RESOURCE_TYPE_PORT,
                CM_RESOURCE_PORT_IO | CM_RESOURCE_PORT_16_BIT_DECODE,
                Resource::Ports { start, length },
            ),
            Space::Memory | Space::WideMemory => {
                (CM_RESOURCE_TYPE_MEMORY, CM_RESOURCE_MEMORY_READ_WRITE, Resource::Memory { start, length })
            }
        };
        let range = Descriptor::range(kind, CM_SHARE_DEVICE_EXCLUSIVE, flags, start, length);
        self.raw.push(range);
        self.translated.push(range);
        self.claims.push(Claim { resource, shared: false });
    }

    /// A level, which devices share.
    fn line(&mut self, pin: u8) {
        let Some(vector) = vector_of_pin(pin) else { return };
        let (line, mask) = (u32::from(pin), processor::all_mask());
        let (irql, vector) = (irql_of_vector(vector).into(), vector.into());
        self.raw.push(Descriptor::interrupt(CM_SHARE_SHARED, 0, line, line, mask));
        self.translated.push(Descriptor::interrupt(CM_SHARE_SHARED, 0, irql, vector, mask));
        self.claims.push(Claim { resource: Resource::Line(line), shared: true });
    }

    /// *Using Interrupt Resource Descriptors*: one descriptor for all messages of an MSI capability, which share an
    /// address, and one for each of MSI-X.
    fn messages(&mut self, vectors: &[u8], of_one_capability: bool) {
        let mask = processor::all_mask();
        let step = if of_one_capability { vectors.len().max(1) } else { 1 };
        for &vector in vectors.iter().step_by(step) {
            let irql = irql_of_vector(vector).into();
            self.raw.push(Descriptor::raw_message(step as u16, vector.into(), mask));
            self.translated.push(Descriptor::translated_message(irql, vector.into(), mask));
        }
    }

    /// Lets the function interrupt with the best of what it has and `at_best` allows.
    fn interrupts(&mut self, function: &Function, at_best: Interrupts) {
        if let Some(msix) = function.msix.filter(|_| at_best >= Interrupts::MessageTable) {
            let vectors = message::give_table(function, msix);
            if !vectors.is_empty() {
                return self.messages(&vectors, false);
            }
        }
        if let Some(msi) = function.msi.filter(|_| at_best >= Interrupts::Message) {
            let vectors = message::give(function, msi);
            if !vectors.is_empty() {
                return self.messages(&vectors, true);
            }
        }
        if let Some(pin) = pci::line_of(function) {
            self.line(pin);
        }
    }
}

/// *Identifiers for PCI Devices*: from the most exact name to the least.
fn hardware_ids(function: &Function) -> [alloc::string::String; 4] {
    let id = format!("PCI\\VEN_{:04X}&DEV_{:04X}", function.vendor, function.device);
    let (subsystem_vendor, subsystem) = function.subsystem;
    let subsystem = format!("{id}&SUBSYS_{subsystem:04X}{subsystem_vendor:04X}");
    let revision = function.revision;
    [format!("{subsystem}&REV_{revision:02X}"), subsystem, format!("{id}&REV_{revision:02X}"), id]
}

fn compatible_ids(function: &Function) -> [alloc::string::String; 3] {
    let (vendor, class) = (function.vendor, function.class);
    let exact = format!("{:06X}", class);
    [
        format!("PCI\\VEN_{vendor:04X}&CC_{exact}"),
        format!("PCI\\CC_{exact}"),
        format!("PCI\\CC_{:04X}", class >> 8),
    ]
}

/// Adds a function to the tree; gives its physical device object. Only one that is claimed keeps others from its
/// resources: any other is there for a driver that asks with HalAssignSlotResources.
fn add(function: &Function, wanted: Option<Interrupts>) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let mut resources = Resources::default();
    for bar in function.bars.iter().flatten() {
        if let Some(start) = bar.start {
            resources.range(bar.space, start, bar.length);
        }
    }
    resources.interrupts(function, wanted.unwrap_or(Interrupts::Line));
    let Resources { raw, translated, claims } = resources;
    let description = Description {
        bus_type: INTERFACE_TYPE_PCI_BUS,
        bus_number: function.address.bus.into(),
        address: Some(u32::from(function.address.device) << 16 | u32::from(function.address.function)),
        hardware_ids: hardware_ids(function).into(),
        compatible_ids: compatible_ids(function).into(),
        enumerator: "PCI",
        raw,
        translated,
    };
    let pdo = pnp::add(DRIVER, Vec::new(), claims.clone(), description)?;
    // SAFETY: the device was just made, and its driver is never unloaded.
    let driver = unsafe { (*pdo).DriverObject };
    if wanted.is_some() && !resource::claim(driver.addr(), pdo.addr(), claims, None) {
        println!("pci: {:?} has resources that the system uses", function.address);
    }
    Ok(pdo)
}

/// Adds every function to the tree. `wanted` says which a builtin driver claims, and with which interrupts; those are
/// given back with their physical device objects.
pub fn enumerate(
    wanted: impl Fn(&Function) -> Option<Interrupts>,
) -> Result<Vec<(&'static Function, *mut DEVICE_OBJECT)>, NTSTATUS> {
    let mut claimed = Vec::new();
    for function in pci::functions() {
        let at_best = wanted(function);
        let pdo = add(function, at_best)?;
        claimed.extend(at_best.map(|_| (function, pdo)));
    }
    Ok(claimed)
}
