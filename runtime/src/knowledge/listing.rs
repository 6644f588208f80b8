//! Which files of a directory are knowledge, and whether a list of them still holds without listing again.
//!
//! A directory's time of change tells every file that came or went, but clocks of file systems stand still for milliseconds:
//! what came right after a listing may leave the time as it was. *Invariant:* a list [`holds`](Listing::holds) only when
//! all its directories had been left alone for long when it was made, and what they list is not decided elsewhere, as
//! the target of a link is.

use std::ffi::OsStr;
use std::fs::{DirEntry, read_dir};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How deep directories are followed.
const MAX_DEPTH: usize = 4;

/// How long a directory has been left alone when its time of change can be trusted; coarse clocks count in two seconds.
const SETTLED: Duration = Duration::from_secs(5);

/// The files below a directory, in any order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub files: Vec<PathBuf>,
    pub problems: Vec<String>,
    /// The directories and when they changed last, as it was before they were listed.
    directories: Vec<(PathBuf, Option<SystemTime>)>,
    has_links: bool,
    settled: bool,
}

impl Listing {
    /// Lists `*.md`, `*.markdown` and `*.txt` files below a directory; hidden ones and what cannot be listed are left out.
    pub fn of(directory: &Path) -> Self {
        let mut listing = Self::default();
        let now = SystemTime::now();
        listing.collect(directory, MAX_DEPTH);
        let long_ago = |changed: &Option<SystemTime>| {
            changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age > SETTLED)
        };
        listing.settled = !listing.has_links
            && listing.problems.is_empty()
            && listing.directories.iter().all(|(_, changed)| long_ago(changed));
        listing
    }

    /// Whether listing again would give the same files.
    pub fn holds(&self) -> bool {
        self.settled && self.directories.iter().all(|(path, changed)| changed_at(path) == *changed)
    }

    fn collect(&mut self, directory: &Path, depth: usize) {
        self.directories.push((directory.to_owned(), changed_at(directory)));
        let entries = match read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.problems.push(format!("cannot read {}: {error}", directory.display())),
        };
        for entry in entries.filter_map(Result::ok).filter(|entry| !is_hidden(&entry.file_name())) {
            self.has_links |= is_link(&entry);
            let path = entry.path();
            match () {
                () if path.is_dir() && depth > 0 => self.collect(&path, depth - 1),
                () if is_text(&path) && path.is_file() => self.files.push(path),
                () => {}
            }
        }
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Also what cannot be told.
fn is_link(entry: &DirEntry) -> bool {
    entry.file_type().map_or(true, |kind| kind.is_symlink())
}

fn is_text(path: &Path) -> bool {
    let known = |ending: &OsStr| ["md", "markdown", "txt"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A directory with a file in each of two levels, left alone for an hour.
    fn old() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("below");
        std::fs::create_dir(&below).expect("made");
        for path in [directory.path().join("a.md"), below.join("b.TXT"), below.join(".hidden.md"), below.join("c.rs")] {
            std::fs::write(path, "text").expect("written");
        }
        age(directory.path());
        age(&below);
        directory
    }

    fn age(directory: &Path) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::open(directory).and_then(|directory| directory.set_modified(hour_ago)).expect("its time set");
    }

    fn names(listing: &Listing) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut names: Vec<String> = listing.files.iter().filter_map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_list_holds_until_a_file_comes_or_goes_on_any_level() {
        let directory = old();
        let listing = Listing::of(directory.path());
        assert_eq!(names(&listing), ["a.md", "b.TXT"]);
        assert!(listing.holds());
        std::fs::write(directory.path().join("below/new.md"), "text").expect("written");
        assert!(!listing.holds());
        assert_eq!(names(&Listing::of(directory.path())), ["a.md", "b.TXT", "new.md"]);

        age(&directory.path().join("below"));
        let listing = Listing::of(directory.path());
        assert!(listing.holds());
        std::fs::remove_file(directory.path().join("a.md")).expect("removed");
        assert!(!listing.holds());
    }

    #[test]
    fn a_list_of_a_directory_that_changed_just_now_is_not_trusted() {
        let directory = old();
        std::fs::write(directory.path().join("new.md"), "text").expect("written");
        assert!(!Listing::of(directory.path()).holds());
        assert!(!Listing::of(&directory.path().join("missing")).holds());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_looked_at_again_every_time() {
        let directory = old();
        let elsewhere = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(elsewhere.path().join("later.md"), directory.path().join("link.md"))
            .expect("linked");
        age(directory.path());
        let listing = Listing::of(directory.path());
        assert_eq!(names(&listing), ["a.md", "b.TXT"]);
        std::fs::write(elsewhere.path().join("later.md"), "text").expect("written");
        assert!(!listing.holds(), "its target may have come meanwhile");
        assert_eq!(names(&Listing::of(directory.path())), ["a.md", "b.TXT", "link.md"]);
    }
}
