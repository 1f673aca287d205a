//! The configuration manager's tree: keys that hold values and further keys.
//!
//! Drivers know it from one path, `\Registry\Machine\System\CurrentControlSet\Services\NAME`, and its subkey
//! `Parameters`. Names keep the case they were made with and are found whatever the case. A [`KeyId`] of a key that was
//! deleted stays known as such; the tree lives in memory only and is bounded, as a driver may write to it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::utf16;

/// The most keys of a registry.
const MAX_KEYS: usize = 2048;
/// The most values of a key.
const MAX_VALUES: usize = 512;
/// The most bytes of a value.
const MAX_DATA: usize = 64 << 10;
/// The longest name of a key or value, in code units; Windows' own limit for keys.
const MAX_NAME: usize = 255;

const BACKSLASH: u16 = b'\\' as u16;

/// Why a key or value cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not a path, or a name that is empty or too long.
    #[error("the path is malformed")]
    Malformed,
    /// No such key.
    #[error("no such key")]
    NotFound,
    /// A bound was reached.
    #[error("the registry is full")]
    Full,
    /// The key was deleted.
    #[error("the key was deleted")]
    Deleted,
    /// The root, or a key with subkeys, cannot be deleted.
    #[error("the key cannot be deleted")]
    Undeletable,
}

/// A key of a [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId {
    slot: usize,
    /// How many keys the slot had before.
    generation: u32,
}

impl KeyId {
    /// A number that no other key has, or had.
    pub fn number(self) -> usize {
        (self.generation as usize) << 16 | (self.slot + 1)
    }
}

const ROOT: KeyId = KeyId { slot: 0, generation: 0 };

/// A value: its type (`REG_*`) and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The name as it was set.
    pub name: Vec<u16>,
    /// `REG_*`.
    pub kind: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

#[derive(Default)]
struct Key {
    /// As it was made.
    name: Vec<u16>,
    /// What its maker called its class.
    class: Vec<u16>,
    /// When something in it was last changed.
    written: i64,
    parent: Option<KeyId>,
    subkeys: BTreeMap<Vec<u16>, KeyId>,
    values: BTreeMap<Vec<u16>, Value>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    /// None where the key was deleted.
    key: Option<Key>,
}

/// What is told of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its own name.
    pub name: Vec<u16>,
    /// The path from the root, with a backslash before each name.
    pub path: Vec<u16>,
    /// Its class, mostly none.
    pub class: Vec<u16>,
    /// When it, its values or which keys lie in it were last changed.
    pub written: i64,
    /// How many keys lie in it.
    pub subkeys: usize,
    /// Code units of the longest of their classes.
    pub longest_class: usize,
    /// Code units of the longest subkey's name.
    pub longest_subkey: usize,
    /// How many values it has.
    pub values: usize,
    /// Code units of the longest value's name.
    pub longest_value_name: usize,
    /// Bytes of the longest value.
    pub longest_value: usize,
}

/// The tree.
pub struct Registry {
    slots: Vec<Slot>,
    free: Vec<usize>,
    now: i64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A tree with nothing but its root.
    pub fn new() -> Self {
        let root = Slot { generation: 0, key: Some(Key::default()) };
        Self { slots: alloc::vec![root], free: Vec::new(), now: 0 }
    }

    /// What time it is, in units of 100 ns since 1601: keys that are changed from now on say so.
    pub fn set_time(&mut self, now: i64) {
        self.now = now;
    }

    /// Whether a key is still there.
    pub fn check(&self, key: KeyId) -> Result<(), RegistryError> {
        self.key(key).map(|_| ())
    }

    /// Gives a key its class, as whoever makes it may.
    pub fn set_class(&mut self, key: KeyId, class: &[u16]) -> Result<(), RegistryError> {
        if class.len() > MAX_NAME {
            return Err(RegistryError::Malformed);
        }
        self.key_mut(key)?.class = class.to_vec();
        Ok(())
    }

    /// The key at `path`, which is absolute without a `root` and relative with one.
    pub fn open(&self, root: Option<KeyId>, path: &[u16]) -> Result<KeyId, RegistryError> {
        let (mut key, components) = start(root, path)?;
        for component in components {
            let subkeys = &self.key(key)?.subkeys;
            key = *subkeys.get(&utf16::upcased(component)).ok_or(RegistryError::NotFound)?;
        }
        Ok(key)
    }

    /// The key at `path`, made with every key above it where it is missing; true where it is new.
    pub fn create(&mut self, root: Option<KeyId>, path: &[u16]) -> Result<(KeyId, bool), RegistryError> {
        let (mut key, components) = start(root, path)?;
        let mut created = false;
        for component in components {
            let name = utf16::upcased(component);
            let existing = self.key(key)?.subkeys.get(&name).copied();
            created = existing.is_none();
            key = match existing {
                Some(existing) => existing,
                None => self.add(key, component)?,
            };
        }
        Ok((key, created))
    }

    /// The key at `path`, made where the key above it exists; true where it is new.
    pub fn create_in_existing(
        &mut self,
        root: Option<KeyId>,
        path: &[u16],
    ) -> Result<(KeyId, bool), RegistryError> {
        let above = path.iter().rposition(|&unit| unit == BACKSLASH).map_or(&[][..], |end| &path[..end]);
        if !above.is_empty() {
            self.open(root, above)?;
        }
        self.create(root, path)
    }

    fn add(&mut self, parent: KeyId, name: &[u16]) -> Result<KeyId, RegistryError> {
        self.key(parent)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == MAX_KEYS => return Err(RegistryError::Full),
            None => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
        };
        let id = KeyId { slot, generation: self.slots[slot].generation };
        let now = self.now;
        let key = Key { name: name.to_vec(), parent: Some(parent), written: now, ..Key::default() };
        self.slots[slot].key = Some(key);
        let parent = self.key_mut(parent)?;
        parent.subkeys.insert(utf16::upcased(name), id);
        parent.written = now;
        Ok(id)
    }

    /// Deletes a key without subkeys.
    pub fn delete(&mut self, id: KeyId) -> Result<(), RegistryError> {
        let key = self.key(id)?;
        let parent = key.parent.filter(|_| key.subkeys.is_empty()).ok_or(RegistryError::Undeletable)?;
        let name = utf16::upcased(&key.name);
        let now = self.now;
        let parent = self.key_mut(parent)?;
        parent.subkeys.remove(&name);
        parent.written = now;
        if let Some(slot) = self.slots.get_mut(id.slot) {
            slot.key = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.slot);
        }
        Ok(())
    }

    /// The keys in `key`, in the order of their names.
    pub fn subkeys(&self, key: KeyId) -> Result<impl Iterator<Item = KeyId>, RegistryError> {
        Ok(self.key(key)?.subkeys.values().copied())
    }

    /// What there is to tell of `key`.
    pub fn describe(&self, id: KeyId) -> Result<Description, RegistryError> {
        let key = self.key(id)?;
        let name_of = |id: &KeyId| self.key(*id).map_or(0, |key| key.name.len());
        let class_of = |id: &KeyId| self.key(*id).map_or(0, |key| key.class.len());
        let mut names = alloc::vec![key.name.clone()];
        let mut parent = key.parent;
        while let Some(above) = parent {
            let above = self.key(above)?;
            names.push(above.name.clone());
            parent = above.parent;
        }
        // The root has no name.
        names.pop();
        let path = names.iter().rev().flat_map(|name| [BACKSLASH].into_iter().chain(name.iter().copied()));
        Ok(Description {
            name: key.name.clone(),
            path: path.collect(),
            class: key.class.clone(),
            written: key.written,
            subkeys: key.subkeys.len(),
            longest_class: key.subkeys.values().map(class_of).max().unwrap_or(0),
            longest_subkey: key.subkeys.values().map(name_of).max().unwrap_or(0),
            values: key.values.len(),
            longest_value_name: key.values.values().map(|value| value.name.len()).max().unwrap_or(0),
            longest_value: key.values.values().map(|value| value.data.len()).max().unwrap_or(0),
        })
    }

    /// The value `name` of `key`.
    pub fn value(&self, key: KeyId, name: &[u16]) -> Option<&Value> {
        self.key(key).ok()?.values.get(&utf16::upcased(name))
    }

    /// The values of `key`, in the order of their names.
    pub fn values(&self, key: KeyId) -> impl Iterator<Item = &Value> {
        self.key(key).into_iter().flat_map(|key| key.values.values())
    }

    /// The values of `key` and of every key below it, each with its key's path from `key` on, in upper case.
    pub fn values_below(&self, key: KeyId) -> Vec<(Vec<u16>, &Value)> {
        let mut found = Vec::new();
        let mut keys = alloc::vec![(Vec::new(), key)];
        while let Some((path, id)) = keys.pop() {
            let Ok(key) = self.key(id) else { continue };
            found.extend(key.values.values().map(|value| (path.clone(), value)));
            keys.extend(key.subkeys.iter().map(|(name, id)| {
                let separator: &[u16] = if path.is_empty() { &[] } else { &[b'\\' as u16] };
                ([&path, separator, name].concat(), *id)
            }));
        }
        found
    }

    /// Sets a value; the name may be empty (the key's unnamed value).
    pub fn set_value(
        &mut self,
        key: KeyId,
        name: &[u16],
        kind: u32,
        data: &[u8],
    ) -> Result<(), RegistryError> {
        if name.len() > MAX_NAME {
            return Err(RegistryError::Malformed);
        }
        let now = self.now;
        let key = self.key_mut(key)?;
        let values = &mut key.values;
        let folded = utf16::upcased(name);
        if data.len() > MAX_DATA || (values.len() == MAX_VALUES && !values.contains_key(&folded)) {
            return Err(RegistryError::Full);
        }
        values.insert(folded, Value { name: name.to_vec(), kind, data: data.to_vec() });
        key.written = now;
        Ok(())
    }

    /// Deletes a value; false where there is none of that name.
    pub fn delete_value(&mut self, key: KeyId, name: &[u16]) -> bool {
        let now = self.now;
        self.key_mut(key).is_ok_and(|key| {
            let removed = key.values.remove(&utf16::upcased(name)).is_some();
            key.written = if removed { now } else { key.written };
            removed
        })
    }

    fn key(&self, id: KeyId) -> Result<&Key, RegistryError> {
        let slot = self.slots.get(id.slot).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.key.as_ref()).ok_or(RegistryError::Deleted)
    }

    fn key_mut(&mut self, id: KeyId) -> Result<&mut Key, RegistryError> {
        let slot = self.slots.get_mut(id.slot).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.key.as_mut()).ok_or(RegistryError::Deleted)
    }
}

/// Where a walk begins, and the components that it takes.
fn start(root: Option<KeyId>, path: &[u16]) -> Result<(KeyId, impl Iterator<Item = &[u16]>), RegistryError> {
    let (key, path) = match (root, path.strip_prefix(&[BACKSLASH])) {
        (None, Some(rest)) => (ROOT, rest),
        (Some(root), None) => (root, path),
        _ => return Err(RegistryError::Malformed),
    };
    // One trailing backslash is allowed; an empty relative path is the root key itself.
    let path = path.strip_suffix(&[BACKSLASH]).unwrap_or(path);
    let components = path.split(|&unit| unit == BACKSLASH).filter(move |_| !path.is_empty());
    if components.clone().any(|component| component.is_empty() || component.len() > MAX_NAME) {
        return Err(RegistryError::Malformed);
    }
    Ok((key, components))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utf16::encode;

    const SERVICE: &str = r"\Registry\Machine\System\CurrentControlSet\Services\squall";

    #[test]
    fn values_are_listed_with_the_keys_below() {
        let mut registry = Registry::new();
        let (map, _) =
            registry.create(None, &utf16::encode(r"\Registry\Machine\Hardware\DeviceMap")).unwrap();
        let (ports, _) = registry.create(Some(map), &utf16::encode(r"Lab\Ports")).unwrap();
        registry.set_value(map, &utf16::encode("a"), 1, b"x").unwrap();
        registry.set_value(ports, &utf16::encode("b"), 1, b"y").unwrap();
        let mut listed: Vec<_> = registry
            .values_below(map)
            .iter()
            .map(|(path, value)| (utf16::display(path), value.data[0]))
            .collect();
        listed.sort();
        assert_eq!(listed, [(alloc::string::String::new(), b'x'), (r"LAB\PORTS".into(), b'y')]);
    }

    #[test]
    fn keys_and_values_are_found_whatever_their_case() {
        let mut registry = Registry::new();
        let (service, created) = registry.create(None, &encode(SERVICE)).unwrap();
        assert!(created);
        let (parameters, _) = registry.create(Some(service), &encode("Parameters")).unwrap();
        registry.set_value(parameters, &encode("IoBase"), 4, &0x300u32.to_le_bytes()).unwrap();
        let again = registry
            .open(None, &encode(r"\REGISTRY\machine\SYSTEM\currentcontrolset\services\SQUALL\parameters\"))
            .unwrap();
        assert_eq!(again, parameters);
        let value = registry.value(again, &encode("IOBASE")).unwrap();
        assert_eq!((value.kind, &value.data[..]), (4, &[0, 3, 0, 0][..]));
        assert_eq!(value.name, encode("IoBase"));
        assert!(!registry.create(None, &encode(SERVICE)).unwrap().1, "the second time it is there");
    }

    #[test]
    fn an_empty_relative_path_is_the_key_itself() {
        let mut registry = Registry::new();
        let (service, _) = registry.create(None, &encode(SERVICE)).unwrap();
        assert_eq!(registry.open(Some(service), &[]), Ok(service));
    }

    #[test]
    fn malformed_paths_are_refused() {
        let mut registry = Registry::new();
        for path in ["Registry", r"\Registry\\Machine", ""] {
            assert_eq!(registry.open(None, &encode(path)), Err(RegistryError::Malformed), "{path}");
            assert_eq!(registry.create(None, &encode(path)), Err(RegistryError::Malformed), "{path}");
        }
        assert_eq!(registry.open(None, &encode(r"\Registry")), Err(RegistryError::NotFound));
    }

    #[test]
    fn a_deleted_value_is_gone() {
        let mut registry = Registry::new();
        let (key, _) = registry.create(None, &encode(SERVICE)).unwrap();
        registry.set_value(key, &encode("Once"), 1, &[]).unwrap();
        assert!(registry.delete_value(key, &encode("once")));
        assert!(!registry.delete_value(key, &encode("once")));
        assert_eq!(registry.values(key).count(), 0);
    }

    #[test]
    fn a_deleted_key_is_gone_and_its_number_is_not_taken_for_the_next() {
        let mut registry = Registry::new();
        let (parent, _) = registry.create(None, &encode(r"\a")).unwrap();
        let (key, _) = registry.create(Some(parent), &encode("Old")).unwrap();
        assert_eq!(registry.delete(parent), Err(RegistryError::Undeletable));
        assert_eq!(registry.delete(key), Ok(()));
        assert_eq!(registry.delete(key), Err(RegistryError::Deleted));
        let (next, created) = registry.create(Some(parent), &encode("old")).unwrap();
        assert!(created && next != key);
        assert_eq!(registry.set_value(key, &[], 1, &[]), Err(RegistryError::Deleted));
        assert_eq!(registry.delete(ROOT), Err(RegistryError::Undeletable));
        for _ in 0..2 * MAX_KEYS {
            let (key, _) = registry.create(None, &encode(r"\a\b")).unwrap();
            registry.delete(key).unwrap();
        }
    }

    #[test]
    fn a_key_is_described() {
        let mut registry = Registry::new();
        let (key, _) = registry.create(None, &encode(r"\One\Two")).unwrap();
        for name in ["b", "Long"] {
            registry.create(Some(key), &encode(name)).unwrap();
        }
        registry.set_value(key, &encode("value"), 3, &[1, 2, 3]).unwrap();
        let description = registry.describe(key).unwrap();
        assert_eq!((description.name, description.path), (encode("Two"), encode(r"\One\Two")));
        assert_eq!((description.subkeys, description.longest_subkey), (2, 4));
        let values = (description.values, description.longest_value_name, description.longest_value);
        assert_eq!(values, (1, 5, 3));
        let names: Vec<_> =
            registry.subkeys(key).unwrap().map(|key| registry.describe(key).unwrap().name).collect();
        assert_eq!(names, [encode("b"), encode("Long")]);
    }

    #[test]
    fn bounds_hold() {
        let mut registry = Registry::new();
        let (key, _) = registry.create(None, &encode(r"\k")).unwrap();
        assert_eq!(
            registry.set_value(key, &encode("big"), 3, &alloc::vec![0; MAX_DATA + 1]),
            Err(RegistryError::Full)
        );
        for index in 0..MAX_VALUES {
            registry.set_value(key, &encode(&alloc::format!("v{index}")), 4, &[]).unwrap();
        }
        assert_eq!(registry.set_value(key, &encode("one more"), 4, &[]), Err(RegistryError::Full));
        registry.set_value(key, &encode("V7"), 4, &[1]).unwrap();
    }
}
