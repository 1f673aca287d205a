//! Where fetched tools live, and why one of them is never half there.
//!
//! ```text
//! ~/.cache/squall/            (or $XDG_CACHE_HOME/squall)
//!   qemu/                     a thing
//!     .lock                   held while an entry is built or removed
//!     .building-4711/         an entry in the making
//!     1_10.0.2+ds-2/          an entry: a version of the thing
//!       root/                 what was fetched
//!       entry.json            written last: what `root` holds when it is whole
//! ```
//!
//! An entry is made in a directory beside its place and renamed into it when everything is there, marker included. A
//! process that is killed before the rename leaves a `.building-*` directory, which nobody reads and which the next one
//! to hold the thing's lock removes. The lock belongs to the open file, so the kernel releases it however its holder dies.
//!
//! Readers take no lock: they look for entries whose marker agrees with what is on the disk (number of files, number of
//! bytes), which catches an entry that was thinned out later by a cleaner or a full disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, io};

use serde::{Deserialize, Serialize};

use super::error::Error;

/// The directory of everything that was fetched.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

/// A whole, verified entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The directory that holds what was fetched.
    pub(super) root: PathBuf,
    built_at: u64,
}

/// What an entry is asked to be. Two recipes that differ never share an entry, so that a newer Squall that needs one
/// more package does not take an older one's entry for its own.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The thing: a directory name, `qemu`.
    pub(super) thing: String,
    /// What makes it: package names, a revision.
    pub(super) ingredients: Vec<String>,
}

/// `entry.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    schema: String,
    version: String,
    ingredients: Vec<String>,
    census: Census,
    built_at: u64,
}

const SCHEMA: &str = "squall.cache-entry/1";
const MARKER: &str = "entry.json";
const CONTENT: &str = "root";
const LOCK: &str = ".lock";
const BUILDING: &str = ".building-";

impl Cache {
    /// The user's: under `XDG_CACHE_HOME`, or `.cache` in the home directory.
    pub(super) fn of_user() -> Result<Self, Error> {
        // The base directory specification says that a relative path is to be ignored.
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".cache")))
            .ok_or(Error::NoCacheDirectory)?;
        Ok(Self::at(base.join("squall")))
    }

    /// In a directory of the caller's.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// A place for one thing.
    pub(super) fn directory(&self, thing: &str) -> PathBuf {
        self.root.join(thing)
    }

    /// The entry of a recipe, if a whole one is there. The youngest, where there are several.
    pub(super) fn find(&self, recipe: &Recipe) -> Option<Entry> {
        let thing = self.directory(&recipe.thing);
        let mut interrupted = false;
        let mut found: Option<Entry> = None;
        for directory in subdirectories(&thing) {
            if is_building(&directory) {
                interrupted = true;
            } else if let Some(entry) = verify(&directory, recipe)
                && found.as_ref().is_none_or(|best| entry.built_at >= best.built_at)
            {
                found = Some(entry);
            }
        }
        if interrupted
            && found.is_some()
            && let Ok(Some(_lock)) = Lock::try_take(&thing)
        {
            sweep(&thing);
        }
        found
    }

    /// The entry of a recipe; made by `build` where there is none.
    ///
    /// `build` fills the directory that it is given and answers with the version of what it put there. Of several
    /// processes that want the same thing one builds, while the others wait (`waiting` is called first) and then find it.
    pub(super) fn find_or_build(
        &self,
        recipe: &Recipe,
        waiting: impl FnOnce(),
        build: impl FnOnce(&Path) -> Result<String, Error>,
    ) -> Result<Entry, Error> {
        if let Some(entry) = self.find(recipe) {
            return Ok(entry);
        }
        let thing = self.directory(&recipe.thing);
        fs::create_dir_all(&thing).map_err(Error::file("create", &thing))?;
        let _lock = match Lock::try_take(&thing)? {
            Some(lock) => lock,
            None => {
                waiting();
                Lock::take(&thing)?
            }
        };
        // Whoever held the lock may have built it meanwhile.
        if let Some(entry) = self.find(recipe) {
            return Ok(entry);
        }
        sweep(&thing);

        let building = thing.join(format!("{BUILDING}{}", process::id()));
        let content = building.join(CONTENT);
        fs::create_dir_all(&content).map_err(Error::file("create", &content))?;
        let made = build(&content).and_then(|version| seal(&building, recipe, version));
        let version = made.inspect_err(|_| remove(&building))?;

        let place = thing.join(file_name(&version));
        if place.exists() {
            // The same version after another recipe, or a damaged one: out of the way under a name that nobody reads.
            let old = thing.join(format!("{BUILDING}{}-old", process::id()));
            fs::rename(&place, &old).map_err(Error::file("replace", &place))?;
            remove(&old);
        }
        fs::rename(&building, &place).map_err(Error::file("rename into", &place))?;
        verify(&place, recipe).ok_or_else(|| Error::File {
            action: "verify",
            path: place,
            source: io::Error::other("what was just written is not what is there"),
        })
    }
}

/// Writes the marker, last of all.
fn seal(building: &Path, recipe: &Recipe, version: String) -> Result<String, Error> {
    let marker = Marker {
        schema: SCHEMA.to_owned(),
        version: version.clone(),
        ingredients: recipe.ingredients.clone(),
        census: Census::of(&building.join(CONTENT)),
        built_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
    };
    let path = building.join(MARKER);
    let write = || {
        let file = File::create(&path)?;
        serde_json::to_writer(&file, &marker)?;
        file.sync_all()
    };
    write().map_err(Error::file("write", &path))?;
    Ok(version)
}

/// The entry in a directory, if it is whole and what the recipe asks for.
fn verify(directory: &Path, recipe: &Recipe) -> Option<Entry> {
    let marker: Marker = serde_json::from_slice(&fs::read(directory.join(MARKER)).ok()?).ok()?;
    let root = directory.join(CONTENT);
    let agrees = marker.schema == SCHEMA
        && marker.ingredients == recipe.ingredients
        && marker.census == Census::of(&root);
    agrees.then_some(Entry { root, built_at: marker.built_at })
}

/// How much there is in a directory: enough to notice that some of it is gone, in a few milliseconds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Census {
    files: u64,
    bytes: u64,
}

impl Census {
    fn of(directory: &Path) -> Self {
        let mut census = Self::default();
        let mut rest = vec![directory.to_owned()];
        while let Some(directory) = rest.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                // Of a link, its own size: links inside an unpacked package may point anywhere.
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => rest.push(entry.path()),
                    Ok(meta) => {
                        census.files += 1;
                        census.bytes += meta.len();
                    }
                    Err(_) => {}
                }
            }
        }
        census
    }
}

/// A directory that one process at a time may change.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for it.
    pub(super) fn take(directory: &Path) -> Result<Self, Error> {
        let (file, path) = Self::open(directory)?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(Self { _file: file })
    }

    /// Takes it, unless somebody holds it.
    pub(super) fn try_take(directory: &Path) -> Result<Option<Self>, Error> {
        let (file, path) = Self::open(directory)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::File { action: "lock", path, source }),
        }
    }

    fn open(directory: &Path) -> Result<(File, PathBuf), Error> {
        let path = directory.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        Ok((file, path))
    }
}

/// Removes what interrupted builds left. Only with the thing's lock in hand: builds happen under it, so whatever is in
/// the making now is in nobody's hands.
fn sweep(thing: &Path) {
    subdirectories(thing).filter(|directory| is_building(directory)).for_each(|directory| remove(&directory));
}

/// As much as can be removed; the rest is in nobody's way and goes with the next sweep.
fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::debug!(directory = %directory.display(), %error, "left in the cache");
    }
}

fn subdirectories(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

fn is_building(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(BUILDING))
}

/// A version as a directory name: no separator, no leading dot; no colon either, which separates the directories of a
/// library path.
fn file_name(version: &str) -> String {
    let clean: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "+.~_-".contains(c) { c } else { '_' })
        .collect();
    format!("{}{}", if clean.starts_with('.') || clean.is_empty() { "_" } else { "" }, clean)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn recipe(ingredients: &[&str]) -> Recipe {
        Recipe {
            thing: "thing".into(),
            ingredients: ingredients.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("squall"));
        (directory, cache)
    }

    fn put(content: &Path, version: &str) -> Result<String, Error> {
        fs::create_dir_all(content.join("bin")).unwrap();
        fs::write(content.join("bin/tool"), format!("tool {version}")).unwrap();
        Ok(version.to_owned())
    }

    fn never(_: &Path) -> Result<String, Error> {
        panic!("built although it was there")
    }

    #[test]
    fn what_was_built_is_found_again() {
        let (_guard, cache) = cache();
        assert!(cache.find(&recipe(&["a"])).is_none());
        let built = cache.find_or_build(&recipe(&["a"]), || (), |content| put(content, "1:2.3~x")).unwrap();
        assert_eq!(fs::read_to_string(built.root.join("bin/tool")).unwrap(), "tool 1:2.3~x");
        let found = cache.find_or_build(&recipe(&["a"]), || (), never).unwrap();
        assert_eq!(found.root, built.root);
    }

    #[test]
    fn another_recipe_never_takes_it() {
        let (_guard, cache) = cache();
        cache.find_or_build(&recipe(&["a"]), || (), |content| put(content, "1")).unwrap();
        assert!(cache.find(&recipe(&["a", "b"])).is_none());
        cache.find_or_build(&recipe(&["a", "b"]), || (), |content| put(content, "1")).unwrap();
        assert!(cache.find(&recipe(&["a", "b"])).is_some());
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let (_guard, cache) = cache();
        let result = cache.find_or_build(
            &recipe(&[]),
            || (),
            |content| {
                put(content, "1")?;
                Err(Error::NoCacheDirectory)
            },
        );
        assert!(matches!(result, Err(Error::NoCacheDirectory)));
        assert_eq!(subdirectories(&cache.directory("thing")).count(), 0);
    }

    /// What a process leaves that is killed at some moment of a build: everything up to that moment.
    #[test]
    fn an_interrupted_build_is_never_taken_for_whole() {
        let (_guard, cache) = cache();
        let thing = cache.directory("thing");
        let left = thing.join(format!("{BUILDING}1"));
        fs::create_dir_all(left.join(CONTENT)).unwrap();
        put(&left.join(CONTENT), "1").unwrap();
        assert!(cache.find(&recipe(&[])).is_none(), "no marker yet");
        seal(&left, &recipe(&[]), "1".into()).unwrap();
        assert!(cache.find(&recipe(&[])).is_none(), "not renamed yet");
        cache.find_or_build(&recipe(&[]), || (), |content| put(content, "2")).unwrap();
        assert!(!left.exists(), "stale build swept");
    }

    #[test]
    fn an_entry_that_lost_a_file_is_built_again() {
        let (_guard, cache) = cache();
        let entry = cache.find_or_build(&recipe(&[]), || (), |content| put(content, "1")).unwrap();
        fs::write(entry.root.join("bin/tool"), "").unwrap();
        assert!(cache.find(&recipe(&[])).is_none(), "truncated");
        fs::remove_file(entry.root.join("bin/tool")).unwrap();
        assert!(cache.find(&recipe(&[])).is_none(), "missing");
        let again = cache.find_or_build(&recipe(&[]), || (), |content| put(content, "1")).unwrap();
        assert_eq!(fs::read_to_string(again.root.join("bin/tool")).unwrap(), "tool 1");
        assert_eq!(subdirectories(&cache.directory("thing")).count(), 1);
    }

    #[test]
    fn a_marker_of_garbage_is_no_marker() {
        let (_guard, cache) = cache();
        let entry = cache.find_or_build(&recipe(&[]), || (), |content| put(content, "1")).unwrap();
        let marker = entry.root.with_file_name(MARKER);
        for text in ["", "{", "[]", "{\"schema\":\"squall.cache-entry/9\"}"] {
            fs::write(&marker, text).unwrap();
            assert!(cache.find(&recipe(&[])).is_none(), "{text:?}");
        }
    }

    #[test]
    fn of_many_at_once_one_builds() {
        let (_guard, cache) = cache();
        let builds = AtomicUsize::new(0);
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let build = |content: &Path| {
                        builds.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(50));
                        put(content, "1")
                    };
                    let entry = cache.find_or_build(&recipe(&[]), || (), build).unwrap();
                    assert_eq!(fs::read_to_string(entry.root.join("bin/tool")).unwrap(), "tool 1");
                });
            }
        });
        assert_eq!(builds.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn who_waits_says_so_and_a_sweep_spares_the_builder() {
        let (_guard, cache) = cache();
        let (entered, has_entered) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let waited = AtomicUsize::new(0);
        thread::scope(|scope| {
            let cache = &cache;
            scope.spawn(move || {
                let build = |content: &Path| {
                    entered.send(content.to_owned()).unwrap();
                    may_go_on.recv().unwrap();
                    put(content, "1")
                };
                cache.find_or_build(&recipe(&["slow"]), || (), build).unwrap();
            });
            let content = has_entered.recv().unwrap();
            let waited = &waited;
            scope.spawn(move || {
                let waiting = || {
                    waited.fetch_add(1, Ordering::SeqCst);
                    go_on.send(()).unwrap();
                };
                cache.find_or_build(&recipe(&["slow"]), waiting, never).unwrap();
            });
            assert!(cache.find(&recipe(&["slow"])).is_none());
            assert!(content.exists() || cache.find(&recipe(&["slow"])).is_some());
        });
        assert_eq!(waited.load(Ordering::SeqCst), 1);
    }

    /// Tells the process of [`a_builder_that_is_killed_holds_nobody_up`] which cache to build in.
    const ROLE: &str = "SQUALL_TEST_SLOW_BUILDER";

    #[test]
    #[ignore = "the other process of a_builder_that_is_killed_holds_nobody_up"]
    fn slow_builder() {
        let Some(directory) = env::var_os(ROLE) else { return };
        let cache = Cache::at(directory.into());
        let build = |content: &Path| {
            put(content, "1")?;
            println!("building");
            thread::sleep(Duration::from_secs(600));
            Ok("1".to_owned())
        };
        cache.find_or_build(&recipe(&[]), || (), build).unwrap();
    }

    #[test]
    fn a_builder_that_is_killed_holds_nobody_up() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};

        let (_guard, cache) = cache();
        let mut builder = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "toolbox::cache::tests::slow_builder"])
            .env(ROLE, cache.directory(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(builder.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("building")), "the other process never began");

        let thing = cache.directory("thing");
        assert!(Lock::try_take(&thing).unwrap().is_none(), "another process holds the lock");
        assert!(cache.find(&recipe(&[])).is_none());
        builder.kill().unwrap();
        builder.wait().unwrap();
        assert_eq!(subdirectories(&thing).count(), 1, "its half-made entry is left");

        let entry =
            cache.find_or_build(&recipe(&[]), || panic!("nobody to wait for"), |content| put(content, "2"));
        assert_eq!(fs::read_to_string(entry.unwrap().root.join("bin/tool")).unwrap(), "tool 2");
        assert_eq!(subdirectories(&thing).count(), 1, "and was swept");
    }

    #[test]
    fn a_version_is_a_plain_directory_name() {
        assert_eq!(file_name("1:10.0.2+ds-2~bpo12+1"), "1_10.0.2+ds-2~bpo12+1");
        assert_eq!(file_name("../../etc"), "_.._.._etc");
        assert_eq!(file_name(""), "_");
    }
}
