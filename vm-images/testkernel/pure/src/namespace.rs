//! The object manager's name space: directories, symbolic links, and what they lead to.
//!
//! A driver names its device `\Device\Card0` and adds a symbolic link `\DosDevices\Card0`, so that programs find it
//! under `\\.\Card0`. `\DosDevices` and `\??` are themselves links to `\GLOBAL??`. A walk goes component by
//! component, starts over at the target of each link, and stops at the first object: what is left of the path is
//! for that object's driver to parse.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::utf16;

/// The most entries of a name space.
const MAX_ENTRIES: usize = 4096;
/// How many links a walk follows.
const MAX_LINKS: usize = 16;
/// The longest path, in code units.
const MAX_PATH: usize = 1024;

const BACKSLASH: u16 = b'\\' as u16;

/// The directories that every system has; the root has no name.
const DIRECTORIES: [&str; 8] = [
    "",
    r"\Device",
    r"\Driver",
    r"\GLOBAL??",
    r"\BaseNamedObjects",
    r"\Callback",
    r"\FileSystem",
    r"\KernelObjects",
];

/// Why a name leads nowhere, or cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Does not begin with a backslash, or has an empty component.
    #[error("the name is malformed")]
    Malformed,
    /// The directory part does not exist.
    #[error("the directory does not exist")]
    PathNotFound,
    /// The last component does not exist.
    #[error("the name does not exist")]
    NotFound,
    /// The name is taken.
    #[error("the name is taken")]
    Collision,
    /// What the name leads to is of another kind.
    #[error("the name is of another kind of object")]
    WrongKind,
    /// A bound was reached, or links go in a circle.
    #[error("the name space is full, or links go in a circle")]
    Full,
}

enum Entry<T> {
    Directory,
    Link { target: Vec<u16>, owner: usize },
    Object(T),
}

/// A name space whose objects are `T`.
pub struct Namespace<T> {
    /// By upper-case path; the root has the empty path.
    entries: BTreeMap<Vec<u16>, Entry<T>>,
    /// The last component as it was given, with its backslash, by the same path.
    spellings: BTreeMap<Vec<u16>, Vec<u16>>,
}

impl<T: Copy> Default for Namespace<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Namespace<T> {
    /// The directories that every system has.
    pub fn new() -> Self {
        let mut entries = BTreeMap::new();
        let mut spellings = BTreeMap::new();
        for directory in DIRECTORIES.map(utf16::encode) {
            let place = utf16::upcased(&directory);
            entries.insert(place.clone(), Entry::Directory);
            spellings.insert(place, directory);
        }
        for alias in [r"\??", r"\DOSDEVICES"] {
            let target = utf16::encode(r"\GLOBAL??");
            entries.insert(utf16::encode(alias), Entry::Link { target, owner: 0 });
        }
        Self { entries, spellings }
    }

    /// Gives `object` the name `path`.
    pub fn insert(&mut self, path: &[u16], object: T) -> Result<(), NameError> {
        self.add(path, Entry::Object(object))
    }

    /// Makes `path` a symbolic link to `target`, which need not exist; `owner` is remembered for [`Self::links_of`].
    pub fn link(&mut self, path: &[u16], target: &[u16], owner: usize) -> Result<(), NameError> {
        if target.first() != Some(&BACKSLASH) || target.len() > MAX_PATH {
            return Err(NameError::Malformed);
        }
        self.add(path, Entry::Link { target: target.to_vec(), owner })
    }

    fn add(&mut self, path: &[u16], entry: Entry<T>) -> Result<(), NameError> {
        let place = self.place(path)?;
        if self.entries.contains_key(&place) {
            return Err(NameError::Collision);
        }
        if self.entries.len() == MAX_ENTRIES {
            return Err(NameError::Full);
        }
        let last = path.iter().rposition(|&unit| unit == BACKSLASH).map_or(&[][..], |at| &path[at..]);
        self.spellings.insert(place.clone(), last.to_vec());
        self.entries.insert(place, entry);
        Ok(())
    }

    /// The object that `path` leads to, and what of the path it left unused (empty, or beginning with a backslash).
    pub fn resolve(&self, path: &[u16]) -> Result<(T, Vec<u16>), NameError> {
        let (place, rest) = self.walk(path)?;
        match self.entries.get(&place) {
            Some(Entry::Object(object)) => Ok((*object, rest)),
            Some(_) => Err(NameError::WrongKind),
            None if rest.is_empty() => Err(NameError::NotFound),
            None => Err(NameError::PathNotFound),
        }
    }

    /// Makes a directory.
    pub fn make_directory(&mut self, path: &[u16]) -> Result<(), NameError> {
        self.add(path, Entry::Directory)
    }

    /// Where the directory `path` lies, links followed.
    pub fn directory(&self, path: &[u16]) -> Result<Vec<u16>, NameError> {
        if path == [BACKSLASH] {
            return Ok(Vec::new());
        }
        let (place, rest) = self.walk(path)?;
        match self.entries.get(&place) {
            Some(Entry::Directory) => Ok(place),
            Some(_) => Err(NameError::WrongKind),
            None if rest.is_empty() => Err(NameError::NotFound),
            None => Err(NameError::PathNotFound),
        }
    }

    /// Takes the directory at `place` away, where nothing is in it.
    pub fn remove_directory(&mut self, place: &[u16]) -> Result<(), NameError> {
        if !matches!(self.entries.get(place), Some(Entry::Directory)) {
            return Err(NameError::WrongKind);
        }
        let is_inside =
            |path: &Vec<u16>| path.strip_prefix(place).is_some_and(|rest| rest.first() == Some(&BACKSLASH));
        if self.entries.keys().any(is_inside) {
            return Err(NameError::Collision);
        }
        self.entries.remove(place);
        self.spellings.remove(place);
        Ok(())
    }

    /// Where the symbolic link `path` leads.
    pub fn target(&self, path: &[u16]) -> Result<&[u16], NameError> {
        match self.entries.get(&self.place(path)?) {
            Some(Entry::Link { target, .. }) => Ok(target),
            Some(_) => Err(NameError::WrongKind),
            None => Err(NameError::NotFound),
        }
    }

    /// Takes the symbolic link `path` away.
    pub fn unlink(&mut self, path: &[u16]) -> Result<(), NameError> {
        let place = self.place(path)?;
        match self.entries.get(&place) {
            Some(Entry::Link { .. }) => {
                self.entries.remove(&place);
                self.spellings.remove(&place);
                Ok(())
            }
            Some(_) => Err(NameError::WrongKind),
            None => Err(NameError::NotFound),
        }
    }

    /// Takes away every name for which `is_it` says yes.
    pub fn remove(&mut self, is_it: impl Fn(T) -> bool) {
        self.entries.retain(|_, entry| !matches!(entry, Entry::Object(object) if is_it(*object)));
        let Self { entries, spellings } = self;
        spellings.retain(|place, _| entries.contains_key(place));
    }

    /// The names of an object, upper-case.
    pub fn names_of(&self, is_it: impl Fn(T) -> bool) -> impl Iterator<Item = &[u16]> {
        let mine = move |entry: &Entry<T>| matches!(entry, Entry::Object(object) if is_it(*object));
        self.entries.iter().filter(move |(_, entry)| mine(entry)).map(|(path, _)| &path[..])
    }

    /// The name of an object as it and the directories above it were given theirs.
    pub fn spelled(&self, is_it: impl Fn(T) -> bool) -> Option<Vec<u16>> {
        let path = self.names_of(is_it).next()?;
        let ends = path.iter().enumerate().skip(1).filter(|(_, unit)| **unit == BACKSLASH).map(|(at, _)| at);
        let mut name = Vec::new();
        for end in ends.chain([path.len()]) {
            name.extend_from_slice(self.spellings.get(&path[..end])?);
        }
        Some(name)
    }

    /// The links whose owner `is_it` accepts, with their targets.
    pub fn links_of(&self, is_it: impl Fn(usize) -> bool) -> impl Iterator<Item = (&[u16], &[u16])> {
        self.entries.iter().filter_map(move |(path, entry)| match entry {
            Entry::Link { target, owner } if is_it(*owner) => Some((&path[..], &target[..])),
            _ => None,
        })
    }

    /// Where `path` lies once the links in its directory part are followed.
    fn place(&self, path: &[u16]) -> Result<Vec<u16>, NameError> {
        let split = path.iter().rposition(|&unit| unit == BACKSLASH).ok_or(NameError::Malformed)?;
        let (directory, last) = path.split_at(split);
        if last.len() < 2 || path.len() > MAX_PATH {
            return Err(NameError::Malformed);
        }
        let mut place = Vec::new();
        if !directory.is_empty() {
            let (found, rest) = self.walk(directory)?;
            if !rest.is_empty() || !matches!(self.entries.get(&found), Some(Entry::Directory)) {
                return Err(NameError::PathNotFound);
            }
            place = found;
        }
        place.extend(last.iter().copied().map(utf16::upcase));
        Ok(place)
    }

    /// Follows `path` to the first thing that is neither directory nor link, or that does not exist.
    fn walk(&self, path: &[u16]) -> Result<(Vec<u16>, Vec<u16>), NameError> {
        let mut left: Vec<u16> = path.to_vec();
        'links: for _ in 0..=MAX_LINKS {
            if left.first() != Some(&BACKSLASH) || left.len() > MAX_PATH {
                return Err(NameError::Malformed);
            }
            let mut place = Vec::new();
            let mut at = 0;
            while at < left.len() {
                let length = left[at + 1..].iter().position(|&unit| unit == BACKSLASH);
                let end = length.map_or(left.len(), |length| at + 1 + length);
                if end == at + 1 {
                    return Err(NameError::Malformed);
                }
                place.extend(left[at..end].iter().copied().map(utf16::upcase));
                match self.entries.get(&place) {
                    Some(Entry::Directory) => at = end,
                    Some(Entry::Link { target, .. }) => {
                        left = [&target[..], &left[end..]].concat();
                        continue 'links;
                    }
                    Some(Entry::Object(_)) | None => return Ok((place, left[end..].to_vec())),
                }
            }
            return Ok((place, Vec::new()));
        }
        Err(NameError::Full)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::utf16::encode;

    fn names() -> Namespace<u32> {
        let mut names = Namespace::new();
        names.insert(&encode(r"\Device\Card0"), 7).unwrap();
        names.link(&encode(r"\DosDevices\Card"), &encode(r"\Device\Card0"), 0x1000).unwrap();
        names
    }

    #[test]
    fn a_device_is_found_by_name_and_through_its_link() {
        let names = names();
        assert_eq!(names.resolve(&encode(r"\device\CARD0")), Ok((7, Vec::new())));
        assert_eq!(names.resolve(&encode(r"\??\card\sub\file")), Ok((7, encode(r"\sub\file"))));
        assert_eq!(names.resolve(&encode(r"\GLOBAL??\Card")), Ok((7, Vec::new())));
    }

    #[test]
    fn what_does_not_exist_says_which_part() {
        let names = names();
        assert_eq!(names.resolve(&encode(r"\Device\Other")), Err(NameError::NotFound));
        assert_eq!(names.resolve(&encode(r"\Nowhere\Other")), Err(NameError::PathNotFound));
        assert_eq!(names.resolve(&encode(r"\Device")), Err(NameError::WrongKind));
        for malformed in ["", "Device", r"\", r"\Device\\Card0"] {
            assert_eq!(names.resolve(&encode(malformed)), Err(NameError::Malformed), "{malformed}");
        }
    }

    #[test]
    fn names_are_given_once() {
        let mut names = names();
        assert_eq!(names.insert(&encode(r"\Device\CARD0"), 8), Err(NameError::Collision));
        let link = names.link(&encode(r"\??\card"), &encode(r"\Device\Card0"), 0);
        assert_eq!(link, Err(NameError::Collision));
        assert_eq!(names.insert(&encode(r"\Elsewhere\Card0"), 8), Err(NameError::PathNotFound));
    }

    #[test]
    fn links_know_their_owner_and_go_away_by_name() {
        let mut names = names();
        let left: Vec<_> =
            names.links_of(|owner| owner == 0x1000).map(|(path, _)| utf16::display(path)).collect();
        assert_eq!(left, [r"\GLOBAL??\CARD"]);
        names.unlink(&encode(r"\DosDevices\card")).unwrap();
        assert_eq!(names.unlink(&encode(r"\DosDevices\card")), Err(NameError::NotFound));
        assert_eq!(names.unlink(&encode(r"\Device\Card0")), Err(NameError::WrongKind));
    }

    #[test]
    fn a_name_is_told_as_it_was_given() {
        let mut names = names();
        names.make_directory(&encode(r"\device\Ours")).unwrap();
        names.insert(&encode(r"\DEVICE\OURS\One"), 8).unwrap();
        assert_eq!(names.spelled(|object| object == 8), Some(encode(r"\Device\Ours\One")));
        assert_eq!(names.spelled(|object| object == 7), Some(encode(r"\Device\Card0")));
        names.remove(|object| object == 8);
        assert_eq!(names.spelled(|object| object == 8), None);
    }

    #[test]
    fn a_removed_object_has_no_name() {
        let mut names = names();
        assert_eq!(names.names_of(|object| object == 7).count(), 1);
        names.remove(|object| object == 7);
        assert_eq!(names.resolve(&encode(r"\??\Card")), Err(NameError::NotFound));
    }

    #[test]
    fn a_directory_goes_when_it_is_empty() {
        let mut names = names();
        names.make_directory(&encode(r"\Device\Ours")).unwrap();
        names.insert(&encode(r"\Device\Ours\One"), 8).unwrap();
        let place = names.directory(&encode(r"\device\ours")).unwrap();
        assert_eq!(names.remove_directory(&place), Err(NameError::Collision));
        names.remove(|object| object == 8);
        assert_eq!(names.remove_directory(&place), Ok(()));
        assert_eq!(names.directory(&place), Err(NameError::NotFound));
        assert_eq!(names.directory(&encode(r"\??")), Ok(encode(r"\GLOBAL??")));
        assert_eq!(names.directory(&encode(r"\Device\Card0")), Err(NameError::WrongKind));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let mut names = names();
        names.link(&encode(r"\Device\A"), &encode(r"\Device\B"), 0).unwrap();
        names.link(&encode(r"\Device\B"), &encode(r"\Device\A\longer"), 0).unwrap();
        assert_eq!(names.resolve(&encode(r"\Device\A")), Err(NameError::Full));
    }

    proptest! {
        #[test]
        fn any_path_is_answered(path in r"(\\|[A-Za-z?]|\\\\|Device|Card0|\?\?){0,24}") {
            let mut names = names();
            let path = encode(&path);
            let _ = names.link(&path, &path, 1);
            let _ = names.resolve(&path);
            let _ = names.unlink(&path);
            let _ = names.insert(&path, 9);
        }
    }
}
