//! The driver's manifest and lock file with the edited `wdk-build` in the published one's place.
//!
//! A `[patch]` on cargo's command line would rewrite the lock file that is in git on every build. So a build off Windows has a
//! workspace of its own, below `driver/target`: the same package, whose sources are where they always are, with a patched
//! manifest and a lock file that differs in that one entry.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{error::WdkError, files};

/// Writes the staged workspace and returns its manifest.
pub(super) fn stage(driver: &Path, place: &Path, wdk_build: &Path) -> Result<PathBuf, WdkError> {
    files::make_folder(place)?;
    let manifest = driver.join("Cargo.toml");
    let staged = staged_manifest(&files::read(&manifest)?, driver, wdk_build)
        .map_err(|problem| WdkError::unexpected(&manifest, problem))?;
    let lock = driver.join("Cargo.lock");
    let staged_lock =
        staged_lock(&files::read(&lock)?).map_err(|problem| WdkError::unexpected(&lock, problem))?;
    let path = place.join("Cargo.toml");
    files::write_if_changed(&path, staged.as_bytes())?;
    files::write_if_changed(&place.join("Cargo.lock"), staged_lock.as_bytes())?;
    Ok(path)
}

fn staged_manifest(text: &str, driver: &Path, wdk_build: &Path) -> Result<String, String> {
    let mut manifest: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    manifest.insert("workspace".into(), Value::Table(Table::new()));
    let absolute = |path: &str| Value::String(driver.join(path).display().to_string());
    let mut section = |name: &str, entry: &str, default: &str| {
        let table = manifest.get_mut(name).and_then(Value::as_table_mut);
        let table = table.ok_or_else(|| format!("no [{name}] section"))?;
        let path = table.get(entry).and_then(Value::as_str).unwrap_or(default);
        let path = absolute(path);
        table.insert(entry.into(), path);
        Ok::<(), String>(())
    };
    section("package", "build", "build.rs")?;
    section("lib", "path", "src/lib.rs")?;
    let dependencies = manifest.get_mut("dependencies").and_then(Value::as_table_mut);
    for (_, dependency) in dependencies.ok_or("no [dependencies] section")? {
        if let Some(path) = dependency.get_mut("path") {
            *path = absolute(path.as_str().ok_or("a dependency's path is no string")?);
        }
    }
    let mut replacement = Table::new();
    replacement.insert("path".into(), Value::String(wdk_build.display().to_string()));
    let mut registry = Table::new();
    registry.insert("wdk-build".into(), Value::Table(replacement));
    let mut patch = Table::new();
    patch.insert("crates-io".into(), Value::Table(registry));
    manifest.insert("patch".into(), Value::Table(patch));
    Ok(manifest.to_string())
}

/// A patched package has neither source nor checksum; every other entry stays pinned as it is.
fn staged_lock(text: &str) -> Result<String, String> {
    let text = text.replace("\r\n", "\n");
    let mark = "\nname = \"wdk-build\"\n";
    let mut around = text.splitn(2, mark);
    let (Some(before), Some(after)) = (around.next(), around.next()) else {
        return Err("no wdk-build in it".into());
    };
    let end = after.find("\n[[package]]").unwrap_or(after.len());
    let (entry, rest) = after.split_at(end);
    let from_registry = |line: &&str| line.starts_with("source = ") || line.starts_with("checksum = ");
    let kept: Vec<&str> = entry.lines().filter(|line| !from_registry(line)).collect();
    Ok(format!("{before}{mark}{}\n{rest}", kept.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_leads_back_to_the_sources() {
        let text = "[workspace]\nmembers = [\"samples\"]\n[package]\nname = \"d\"\n[lib]\nname = \"l\"\n\
                    [dependencies]\na = \"=1\"\nb = { path = \"../b\" }\n";
        let staged = staged_manifest(text, Path::new("/r/driver"), Path::new("/k/wdk-build")).unwrap();
        let staged: Table = staged.parse().unwrap();
        assert_eq!(staged["workspace"], Value::Table(Table::new()));
        assert_eq!(staged["package"]["build"].as_str(), Some("/r/driver/build.rs"));
        assert_eq!(staged["lib"]["path"].as_str(), Some("/r/driver/src/lib.rs"));
        assert_eq!(staged["dependencies"]["a"].as_str(), Some("=1"));
        assert_eq!(staged["dependencies"]["b"]["path"].as_str(), Some("/r/driver/../b"));
        assert_eq!(staged["patch"]["crates-io"]["wdk-build"]["path"].as_str(), Some("/k/wdk-build"));
    }

    #[test]
    fn the_lock_loses_one_source_and_nothing_else() {
        let entry = |name: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"1\"\nsource = \"r\"\nchecksum = \"c\"\n")
        };
        let (before, after) = (entry("wdk"), entry("wdk-sys"));
        let lock =
            format!("version = 4\n\n{before}\n{}dependencies = [\n \"x\",\n]\n\n{after}", entry("wdk-build"));
        let staged = staged_lock(&lock).unwrap();
        let patched = "[[package]]\nname = \"wdk-build\"\nversion = \"1\"\ndependencies = [\n \"x\",\n]\n";
        assert_eq!(staged, format!("version = 4\n\n{before}\n{patched}\n{after}"));
        assert!(staged_lock("version = 4\n").is_err());
    }
}
