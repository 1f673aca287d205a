//! What an ELF exports: its dynamic symbol table.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use object::read::elf::{ElfFile32, ElfFile64};
use object::{FileKind, Object, ObjectSymbol};

/// One of each kind of function that the device calls: a QEMU that exports these exports its internals. The device names
/// every one that it misses when it is loaded; this list only has to tell builds apart.
pub(super) const NEEDED_SYMBOLS: [&str; 11] = [
    "type_register_static",
    "object_class_property_add",
    "device_class_set_parent_realize",
    "isa_register_ioport",
    "isa_get_irq",
    "memory_region_init_io",
    "qemu_set_irq",
    "timer_init_full",
    "async_run_on_cpu",
    "cpu_loop_exit_restore",
    "qemu_plugin_register_vcpu_tb_trans_cb",
];

/// An ELF larger than this is no QEMU.
const LARGEST_BINARY: u64 = 1 << 30;

/// Those of the needed symbols that an ELF does not define in its dynamic symbol table.
pub(super) fn missing_symbols(binary: &Path) -> Result<Vec<&'static str>, String> {
    let exported = exported_symbols(binary, &NEEDED_SYMBOLS)?;
    Ok(NEEDED_SYMBOLS.into_iter().filter(|symbol| !exported.contains(*symbol)).collect())
}

pub(super) fn exported_symbols(binary: &Path, wanted: &[&str]) -> Result<HashSet<String>, String> {
    let say = |problem: &str| format!("{} {problem}", binary.display());
    let size = fs::metadata(binary).map_err(|error| say(&format!("cannot be read: {error}")))?.len();
    if size > LARGEST_BINARY {
        return Err(say("is too large for a QEMU"));
    }
    let data = fs::read(binary).map_err(|error| say(&format!("cannot be read: {error}")))?;
    let no_elf = |error| say(&format!("is no ELF that can be read: {error}"));
    match FileKind::parse(&*data).map_err(no_elf)? {
        FileKind::Elf64 => {
            Ok(defined(&ElfFile64::<object::Endianness>::parse(&*data).map_err(no_elf)?, wanted))
        }
        FileKind::Elf32 => {
            Ok(defined(&ElfFile32::<object::Endianness>::parse(&*data).map_err(no_elf)?, wanted))
        }
        _ => Err(say("is no ELF")),
    }
}

fn defined<'data>(elf: &impl Object<'data>, wanted: &[&str]) -> HashSet<String> {
    elf.dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| wanted.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shared object, as small as can be, that exports functions and asks for others: ELF header, dynamic symbols,
    /// their names, three section headers.
    pub(in super::super) fn shared_object(defined: &[&str], undefined: &[&str]) -> Vec<u8> {
        let (mut symbols, mut names) = (vec![0; 24], vec![0]);
        for (name, section) in
            defined.iter().map(|name| (name, 1_u16)).chain(undefined.iter().map(|name| (name, 0)))
        {
            symbols.extend((names.len() as u32).to_le_bytes());
            symbols.extend([0x12, 0]); // global, function
            symbols.extend(section.to_le_bytes());
            symbols.extend([0; 16]);
            names.extend(name.as_bytes());
            names.push(0);
        }
        let (at_symbols, at_names) = (64, 64 + symbols.len());
        let at_headers = at_names + names.len();
        let mut header = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 9]].concat();
        header.extend([3, 0, 62, 0, 1, 0, 0, 0]); // shared object, x86-64
        header.extend([0; 16]);
        header.extend((at_headers as u64).to_le_bytes());
        header.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        let section = |kind: u32, offset: usize, size: usize, link: u32, entry: u64| {
            let mut bytes = [0_u32.to_le_bytes(), kind.to_le_bytes()].concat();
            bytes.extend([0; 16]);
            bytes.extend([(offset as u64).to_le_bytes(), (size as u64).to_le_bytes()].concat());
            bytes.extend([link.to_le_bytes(), 1_u32.to_le_bytes()].concat());
            bytes.extend([8_u64.to_le_bytes(), entry.to_le_bytes()].concat());
            bytes
        };
        const DYNSYM: u32 = 11;
        const STRTAB: u32 = 3;
        let headers = [
            vec![0; 64],
            section(DYNSYM, at_symbols, symbols.len(), 2, 24),
            section(STRTAB, at_names, names.len(), 0, 0),
        ];
        [header, symbols, names, headers.concat()].concat()
    }

    #[test]
    fn a_symbol_that_is_only_asked_for_is_not_exported() {
        let directory = tempfile::tempdir().unwrap();
        let code = directory.path().join("code");
        fs::write(&code, shared_object(&["isa_get_irq"], &["qemu_set_irq"])).unwrap();
        let found = exported_symbols(&code, &NEEDED_SYMBOLS).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["isa_get_irq"]);
    }

    #[test]
    fn a_file_that_is_no_whole_elf_is_refused_at_every_length() {
        let directory = tempfile::tempdir().unwrap();
        let code = directory.path().join("code");
        let whole = shared_object(&NEEDED_SYMBOLS, &[]);
        for length in 0..whole.len() {
            fs::write(&code, &whole[..length]).unwrap();
            assert_ne!(missing_symbols(&code), Ok(vec![]), "{length} bytes");
        }
        fs::write(&code, &whole).unwrap();
        assert_eq!(missing_symbols(&code), Ok(vec![]));
    }

    /// The probe's list is short on purpose, but it must not ask for what the device does without.
    #[test]
    fn only_what_the_device_calls_is_asked_for() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../vdevice/qemu/src/symbols.rs");
        let device = fs::read_to_string(place).unwrap();
        for symbol in NEEDED_SYMBOLS {
            assert!(device.contains(&format!("fn {symbol}(")), "{symbol}");
        }
    }
}
