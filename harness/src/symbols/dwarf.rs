//! Symbols in the image itself: the DWARF sections that gcc and clang write for mingw-w64.
//!
//! Their addresses are those that the image prefers, so an offset is looked up at the preferred base plus itself. An image
//! without line numbers may still have a COFF symbol table, which names its functions.

use std::borrow::Cow;

use addr2line::{
    Context,
    gimli::{self, Dwarf, EndianSlice, LittleEndian, SectionId},
};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::{Frame, SymbolError, careful};

/// The frames of each offset, innermost (inlined) first; `None` where the image has no symbols of its own.
///
/// # Errors
///
/// What is there cannot be read.
pub fn resolve(image: &[u8], offsets: &[u32]) -> Result<Option<Vec<Vec<Frame>>>, SymbolError> {
    careful(|| read(image, offsets))
}

fn read(image: &[u8], offsets: &[u32]) -> Result<Option<Vec<Vec<Frame>>>, SymbolError> {
    let damaged = |error: &dyn std::fmt::Display| SymbolError::Damaged(format!("in the image: {error}"));
    let file = object::File::parse(image).map_err(|error| damaged(&error))?;
    let functions = functions(&file);
    let lines = file.section_by_name(".debug_info").is_some();
    if !lines && functions.is_empty() {
        return Ok(None);
    }
    let section = |id: SectionId| -> Result<_, gimli::Error> {
        let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok(EndianSlice::new(data.unwrap_or(&[]), LittleEndian))
    };
    let dwarf = Dwarf::load(section).map_err(|error| damaged(&error))?;
    let context = Context::from_dwarf(dwarf).map_err(|error| damaged(&error))?;
    let base = file.relative_address_base();
    let of_one = |&offset: &u32| {
        let address = base + u64::from(offset);
        let mut found = Vec::new();
        let mut frames = context.find_frames(address).skip_all_loads().map_err(|error| damaged(&error))?;
        while let Some(frame) = frames.next().map_err(|error| damaged(&error))? {
            let function = frame.function.and_then(|name| Some(name.raw_name().ok()?.into_owned()));
            let source = frame.location.and_then(|place| {
                let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
                Some(format!("{}{line}", place.file?))
            });
            found.push(Frame { function, source });
        }
        // Neither a name nor a line is no more than the symbol table says.
        if found.iter().all(|frame| frame.function.is_none()) {
            let function = nearest(&functions, address).map(Cow::into_owned);
            match found.first_mut() {
                Some(innermost) => innermost.function = function,
                None => found.extend(function.map(|name| Frame { function: Some(name), source: None })),
            }
        }
        Ok(found)
    };
    offsets.iter().map(of_one).collect::<Result<Vec<_>, _>>().map(Some)
}

/// The functions of the symbol table by address.
fn functions(file: &object::File<'_>) -> Vec<(u64, String)> {
    let text = |symbol: &object::Symbol<'_, '_>| symbol.kind() == SymbolKind::Text;
    let symbols = file.symbols().filter(text).filter_map(|symbol| {
        let name = symbol.name().ok().filter(|name| !name.is_empty() && !name.starts_with('.'))?;
        Some((symbol.address(), name.to_owned()))
    });
    let mut functions: Vec<_> = symbols.collect();
    functions.sort();
    functions
}

/// The function that begins last before an address.
fn nearest(functions: &[(u64, String)], address: u64) -> Option<Cow<'_, str>> {
    let after = functions.partition_point(|(start, _)| *start <= address);
    functions.get(after.checked_sub(1)?).map(|(_, name)| Cow::Borrowed(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_an_error_in_words() {
        for content in [&b""[..], b"MZ", b"hello", &[0xFF; 4096]] {
            assert!(matches!(resolve(content, &[0, u32::MAX]), Err(SymbolError::Damaged(_))), "{content:?}");
        }
    }

    #[test]
    fn an_address_belongs_to_the_function_that_begins_last_before_it() {
        let functions = [(16, "one".to_owned()), (32, "other".to_owned())];
        let found = [0, 15, 16, 31, 32, u64::MAX].map(|address| nearest(&functions, address));
        let found = found.each_ref().map(Option::as_deref);
        assert_eq!(found, [None, None, Some("one"), Some("one"), Some("other"), Some("other")]);
    }
}
