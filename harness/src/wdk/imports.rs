//! The names a driver may import (`driver/imports.txt`), and the import libraries made from them.
//!
//! An import library tells the linker which names a module exports. It takes them on trust: a library that lists a name Windows
//! does not export links just as well, and the driver then fails to load on the machine that matters. So the list is short,
//! written by hand and looked up once, and the libraries hold exactly that list: a name outside it is an undefined symbol.
//! [`ImportList::check`] asks the finished image the same question again, for the ways around an import library.

use std::{io::Cursor, path::Path};

use ar_archive_writer::{COFFShortExport, MachineTypes, write_import_library};
use object::{LittleEndian, pe, read::pe::PeFile64};

use super::{error::WdkError, files};

/// The modules of [`imports.txt`](self), in its order, each with the names it may be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImportList {
    modules: Vec<(String, Vec<String>)>,
}

impl ImportList {
    /// Reads the list: `[module]` lines, then a name a line; `#` starts a comment.
    pub(super) fn read(path: &Path) -> Result<Self, WdkError> {
        let mut modules: Vec<(String, Vec<String>)> = Vec::new();
        for (number, line) in files::read(path)?.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if let Some(module) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                modules.push((module.to_owned(), Vec::new()));
            } else if !line.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(WdkError::unexpected(path, format!("line {}: not a name: {line}", number + 1)));
            } else if let Some((_, names)) = modules.last_mut() {
                names.push(line.to_owned());
            } else {
                return Err(WdkError::unexpected(path, format!("line {}: no [module] yet", number + 1)));
            }
        }
        Ok(Self { modules })
    }

    /// The import library of one module, as `LIB.EXE` would write it. A module that is not listed has an empty one.
    pub(super) fn library(&self, module: &str) -> std::io::Result<Vec<u8>> {
        let exports: Vec<_> = self.names(module).map(function).collect();
        let mut bytes = Cursor::new(Vec::new());
        write_import_library(&mut bytes, module, &exports, MachineTypes::AMD64, false, false, &[])?;
        Ok(bytes.into_inner())
    }

    /// Fails with the first import of the image that the list does not name.
    pub(super) fn check(&self, image: &Path, list: &Path) -> Result<(), WdkError> {
        let bytes = std::fs::read(image).map_err(WdkError::io("read", image))?;
        let imports = imports(&bytes).map_err(|problem| WdkError::unexpected(image, problem))?;
        match imports.iter().find(|(module, name)| !self.names(module).any(|listed| listed == name)) {
            None => Ok(()),
            Some((module, name)) => Err(WdkError::Stranger {
                image: image.to_owned(),
                stranger: format!("{module}!{name}"),
                list: list.to_owned(),
            }),
        }
    }

    /// The names of one module.
    pub(super) fn names(&self, module: &str) -> impl Iterator<Item = &str> {
        let of_module = self.modules.iter().filter(move |(listed, _)| listed.eq_ignore_ascii_case(module));
        of_module.flat_map(|(_, names)| names).map(String::as_str)
    }
}

/// The entry of a function that is imported by its name.
fn function(name: &str) -> COFFShortExport {
    COFFShortExport {
        name: name.to_owned(),
        ext_name: None,
        symbol_name: None,
        import_name: None,
        export_as: None,
        ordinal: 0,
        noname: false,
        data: false,
        private: false,
        constant: false,
    }
}

/// Every import of a driver image: module and name.
fn imports(image: &[u8]) -> Result<Vec<(String, String)>, String> {
    let parse = |error: object::read::Error| error.to_string();
    let file = PeFile64::parse(image).map_err(parse)?;
    let Some(table) = file.import_table().map_err(parse)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut descriptors = table.descriptors().map_err(parse)?;
    while let Some(descriptor) = descriptors.next().map_err(parse)? {
        let module = table.name(descriptor.name.get(LittleEndian)).map_err(parse)?;
        let module = String::from_utf8_lossy(module).into_owned();
        let mut thunks = table.thunks(descriptor.original_first_thunk.get(LittleEndian)).map_err(parse)?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>().map_err(parse)? {
            use object::read::pe::ImageThunkData as _;
            let name = if thunk.is_ordinal() {
                format!("#{}", thunk.ordinal())
            } else {
                let (_, name) = table.hint_name(thunk.address()).map_err(parse)?;
                String::from_utf8_lossy(name).into_owned()
            };
            found.push((module.clone(), name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<ImportList, WdkError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ImportList::read(file.path())
    }

    #[test]
    fn names_belong_to_the_module_above_them() {
        let list = list("# why\n[ntoskrnl.exe]\nZwClose # who\n\nKeBugCheckEx\n[HAL.dll]\nHalFoo\n").unwrap();
        assert_eq!(list.names("NTOSKRNL.EXE").collect::<Vec<_>>(), ["ZwClose", "KeBugCheckEx"]);
        assert_eq!(list.names("hal.dll").collect::<Vec<_>>(), ["HalFoo"]);
        assert_eq!(list.names("wmilib.sys").count(), 0);
    }

    #[test]
    fn a_line_that_is_no_name_is_refused_with_its_number() {
        let error = list("[HAL.dll]\nHalFoo\nHal Bar\n").unwrap_err().to_string();
        assert!(error.ends_with("line 3: not a name: Hal Bar"), "{error}");
        let error = list("HalFoo\n").unwrap_err().to_string();
        assert!(error.ends_with("line 1: no [module] yet"), "{error}");
    }

    #[test]
    fn a_library_offers_each_name_and_its_pointer() {
        let list = list("[HAL.dll]\nHalFoo\n").unwrap();
        let library = list.library("HAL.dll").unwrap();
        assert!(library.starts_with(b"!<arch>\n"));
        let holds = |symbol: &[u8]| library.windows(symbol.len()).any(|window| window == symbol);
        assert!(holds(b"\0HalFoo\0"));
        assert!(holds(b"\0__imp_HalFoo\0"));
    }

    #[test]
    fn hostile_images_are_errors() {
        for bytes in [&b""[..], b"MZ", &[0x4d; 4096]] {
            assert!(imports(bytes).is_err());
        }
    }
}
