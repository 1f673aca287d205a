//! Where this machine gets its packages from.
//!
//! Squall names no mirror: the one that the machine's administrator chose is in its own apt sources, in one of two
//! formats that `sources.list(5)` describes. The one-line format, a line per archive in `*.list`:
//!
//! ```text
//! deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] MIRROR bookworm main
//! ```
//!
//! and the deb822 format, a stanza per archive in `*.sources`, a field may go on in lines that begin with a space:
//!
//! ```text
//! Types: deb
//! URIs: MIRROR
//! Suites: bookworm bookworm-updates
//! Components: main
//! Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
//! ```

use std::fs;
use std::path::{Path, PathBuf};

/// An archive of binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) uris: Vec<String>,
    pub(super) suites: Vec<String>,
    pub(super) components: Vec<String>,
    /// Keyring files. A key that is written out in the stanza itself is not among them.
    pub(super) signed_by: Vec<PathBuf>,
    /// Snapshots of an archive are older than their release files say they may be; who uses one has said so here.
    pub(super) check_valid_until: bool,
}

/// The archives that an apt configuration directory (`/etc/apt`) names, in the order in which apt reads them.
pub(super) fn read(directory: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut add = |path: &Path| {
        let Ok(text) = fs::read_to_string(path) else { return };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_one_line(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    };
    add(&directory.join("sources.list"));
    let mut parts: Vec<PathBuf> = fs::read_dir(directory.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    parts.iter().for_each(|path| add(path));
    sources
}

/// The one-line format. What is not a `deb` line is skipped, as is a line that makes no sense: apt itself will complain.
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let option = |name: &str| {
        options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    Some(Source {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by: option("signed-by").map(keyrings).unwrap_or_default(),
        check_valid_until: option("check-valid-until") != Some("no"),
    })
}

/// The deb822 format.
fn parse_deb822(text: &str) -> Vec<Source> {
    stanzas(text).iter().filter_map(parse_stanza).collect()
}

/// Fields of one stanza: name in lower case, value with its continuation lines joined by spaces.
type Stanza = Vec<(String, String)>;

fn stanzas(text: &str) -> Vec<Stanza> {
    let mut all = vec![Stanza::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(stanza) = all.last_mut() else { break };
        if line.trim().is_empty() {
            all.push(Stanza::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    all.retain(|stanza| !stanza.is_empty());
    all
}

fn parse_stanza(stanza: &Stanza) -> Option<Source> {
    let field = |name: &str| stanza.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let no = |name: &str| {
        field(name).is_some_and(|value| matches!(value, "no" | "false" | "without" | "off" | "disable"))
    };
    let source = Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(keyrings).unwrap_or_default(),
        check_valid_until: !no("check-valid-until"),
    };
    let is_archive = words("types").iter().any(|kind| kind == "deb") && !no("enabled");
    (is_archive && !source.uris.is_empty() && !source.suites.is_empty()).then_some(source)
}

/// Keyring files in a Signed-By value; not fingerprints, and not a key block (which begins with a dash line).
fn keyrings(value: &str) -> Vec<PathBuf> {
    if value.contains("-----BEGIN") {
        return Vec::new();
    }
    value.split([',', ' ']).filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn deb822_stanzas() {
        let text = "\
# written by the installer
Types: deb deb-src
# an older snapshot
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
Check-Valid-Until: no
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL0BUBEADmW5NdOOHwPIJlgPu6JDcKw/NZJPR8lsD3K87ZM18gzyQZJD+w
 -----END PGP PUBLIC KEY BLOCK-----


Types: deb-src
URIs: http://mirror.example/debian
Suites: sid

Enabled: no
Types: deb
URIs: http://mirror.example/debian
Suites: trixie
";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 2, "{sources:?}");
        assert_eq!(sources[0].uris, ["http://mirror.example/debian"]);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[0].signed_by, [PathBuf::from(KEYRING)]);
        assert!(sources[0].check_valid_until);
        assert_eq!(sources[1].suites, ["bookworm-security"]);
        assert!(sources[1].signed_by.is_empty(), "a key block is no file");
        assert!(!sources[1].check_valid_until);
    }

    #[test]
    fn one_line_entries() {
        let text = "\
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # trailing
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] http://m.example/debian trixie main
deb\thttp://tab.example/debian\tsid\tmain
deb
deb [broken http://m.example/debian trixie main
debian http://m.example/debian trixie main
deb cdrom:[Debian_12]/ bookworm main
";
        let sources = parse_one_line(text);
        let uris: Vec<&str> = sources.iter().flat_map(|source| &source.uris).map(String::as_str).collect();
        assert_eq!(
            uris,
            [
                "http://mirror.example/debian",
                "http://m.example/debian",
                "http://tab.example/debian",
                "cdrom:[Debian_12]/"
            ]
        );
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[1].signed_by, [PathBuf::from(KEYRING)]);
        assert!(!sources[1].check_valid_until);
    }

    #[test]
    fn the_directory_is_read_as_apt_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(directory.path().join("sources.list"), "deb http://a.example/ one main\n").unwrap();
        fs::write(parts.join("z.list"), "deb http://z.example/ three main\n").unwrap();
        fs::write(parts.join("b.sources"), "Types: deb\nURIs: http://b.example/\nSuites: two\n").unwrap();
        fs::write(parts.join("c.list.disabled"), "deb http://never.example/ four main\n").unwrap();
        let suites: Vec<String> =
            read(directory.path()).into_iter().flat_map(|source| source.suites).collect();
        assert_eq!(suites, ["one", "two", "three"]);
        assert!(read(&directory.path().join("missing")).is_empty());
    }

    #[test]
    fn any_bytes_are_read_without_complaint() {
        for text in [
            "",
            ":",
            "\n\n\n",
            " continuation of nothing",
            "deb [",
            "deb []",
            "Types",
            "Types:\nURIs:\n",
            "\u{0}",
        ] {
            assert!(parse_deb822(text).is_empty(), "{text:?}");
            assert!(parse_one_line(text).is_empty(), "{text:?}");
        }
    }
}
