//! The files of a configuration on disk: which they are, and whether they have changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Loaded, Problems, load_file};

/// The name by which a volume of Kubernetes leads to its present generation.
const PRESENT: &str = "..data";
/// What is read of a file to see whether it has changed. The largest that is used is not larger.
const MOST: u64 = 2 << 20;

/// The folder of a configuration file, as it is written and where its files are at this moment.
///
/// The files of a `ConfigMap` or Secret are links through `..data`, which is swapped for all of them at once. Read through one
/// look at that link, the file and its neighbours are of one generation.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(super) as_written: PathBuf,
    present: Option<PathBuf>,
}

/// A configuration file that is looked at again and again.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
}

/// The content of all files of a configuration, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A reading of a configuration, and what its files held before it.
#[derive(Debug)]
pub struct Reading {
    /// What the files held when the reading began: whatever changes after that gives another one.
    pub fingerprint: Fingerprint,
    /// The files that are named beside the configuration.
    pub files: Vec<PathBuf>,
    /// What was read.
    pub loaded: Result<Loaded, Problems>,
}

impl Folder {
    pub(crate) fn of(file: &Path) -> Self {
        let as_written = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { present: fs::canonicalize(as_written.join(PRESENT)).ok(), as_written }
    }

    /// Where the file of this folder is at this moment.
    pub(super) fn file(&self, path: &Path) -> PathBuf {
        path.file_name().map_or_else(|| path.to_owned(), |name| self.find(&name.to_string_lossy()))
    }

    /// A file that is named relative to this folder.
    pub(super) fn find(&self, name: &str) -> PathBuf {
        // A path that leads out of the folder starts where it is written, not in a folder below it.
        let neighbour =
            self.present.as_ref().filter(|_| !name.contains('/')).map(|present| present.join(name));
        neighbour.filter(|neighbour| neighbour.exists()).unwrap_or_else(|| self.as_written.join(name))
    }
}

impl Watched {
    /// The file at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the configuration, of which it is known that it names these files. Blocks.
    #[must_use]
    pub fn read(&self, mut files: Vec<PathBuf>) -> Reading {
        let mut fingerprint = self.fingerprint(&files);
        let mut loaded = load_file(&self.path);
        // What else is named is looked at before it is read, so that no change of it is missed.
        if let Some(named) = loaded.as_ref().ok().filter(|loaded| loaded.files != files) {
            files.clone_from(&named.files);
            fingerprint = self.fingerprint(&files);
            loaded = load_file(&self.path);
        }
        Reading { fingerprint, files, loaded }
    }

    /// What the file and these others hold now. Blocks.
    #[must_use]
    pub fn fingerprint(&self, others: &[PathBuf]) -> Fingerprint {
        let mut hash = Sha256::new();
        let own = Folder::of(&self.path).file(&self.path);
        for path in std::iter::once(&own).chain(others) {
            let content = fs::metadata(path).and_then(|meta| {
                if meta.len() > MOST { Ok(meta.len().to_le_bytes().to_vec()) } else { fs::read(path) }
            });
            match content {
                Ok(content) => {
                    hash.update(u64::try_from(content.len()).unwrap_or(u64::MAX).to_le_bytes());
                    hash.update(&content);
                }
                Err(error) => hash.update(format!("{:?}", error.kind())),
            }
        }
        Fingerprint(hash.finalize().into())
    }

    /// True if the file is mounted by itself, as `subPath` does: then it never changes, whatever becomes of its `ConfigMap`.
    #[must_use]
    pub fn is_mounted_alone(&self) -> bool {
        let (Ok(path), Ok(mounts)) =
            (fs::canonicalize(&self.path), fs::read_to_string("/proc/self/mountinfo"))
        else {
            return false;
        };
        // The fifth field is where it is mounted (proc_pid_mountinfo(5)).
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == path)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::{Folder, Watched};

    /// A volume as the kubelet writes it.
    fn volume(folder: &Path, generation: &str, files: &[(&str, &str)]) {
        let present = folder.join(generation);
        fs::create_dir(&present).unwrap();
        for (name, text) in files {
            fs::write(present.join(name), text).unwrap();
            let _ = symlink(format!("..data/{name}"), folder.join(name));
        }
        symlink(generation, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn a_swapped_volume_has_another_fingerprint_and_the_same_content_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let watched = Watched::new(folder.path().join("proxy.yaml"));
        volume(folder.path(), "..1", &[("proxy.yaml", "version: 1")]);
        let first = watched.fingerprint(&[]);

        volume(folder.path(), "..2", &[("proxy.yaml", "version: 1")]);
        assert_eq!(watched.fingerprint(&[]), first);
        volume(folder.path(), "..3", &[("proxy.yaml", "version: 2")]);
        assert_ne!(watched.fingerprint(&[]), first);
    }

    #[test]
    fn a_file_that_is_named_changes_the_fingerprint_also_by_going_and_coming() {
        let folder = tempfile::tempdir().unwrap();
        let (path, token) = (folder.path().join("proxy.yaml"), folder.path().join("token"));
        fs::write(&path, "version: 1").unwrap();
        let watched = Watched::new(path);
        let look = || watched.fingerprint(std::slice::from_ref(&token));
        let without = look();

        fs::write(&token, "one").unwrap();
        let one = look();
        fs::write(&token, "two").unwrap();
        assert!(without != one && one != look());
        fs::remove_file(&token).unwrap();
        assert_eq!(look(), without);
    }

    #[test]
    fn what_changes_after_a_reading_has_begun_gives_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let (path, token) = (folder.path().join("proxy.yaml"), folder.path().join("token"));
        fs::write(&path, "version: 1\ncontrol: { token: { file: token } }\n").unwrap();
        fs::write(&token, "one").unwrap();
        let watched = Watched::new(path.clone());

        let first = watched.read(Vec::new());
        assert_eq!((&first.files, first.loaded.is_ok()), (&vec![token.clone()], true));
        assert_eq!(watched.fingerprint(&first.files), first.fingerprint, "nothing has changed");
        fs::write(&token, "two").unwrap();
        assert_ne!(watched.fingerprint(&first.files), first.fingerprint);

        fs::write(&path, "version: 1\n: [").unwrap();
        let refused = watched.read(first.files.clone());
        assert_eq!((refused.files, refused.loaded.is_err()), (first.files, true));
    }

    #[test]
    fn neighbours_are_read_from_the_generation_of_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        volume(folder.path(), "..1", &[("proxy.yaml", "one"), ("token", "one")]);
        let looked = Folder::of(&folder.path().join("proxy.yaml"));

        volume(folder.path(), "..2", &[("proxy.yaml", "two"), ("token", "two")]);

        assert_eq!(fs::read_to_string(looked.find("token")).unwrap(), "one");
        assert_eq!(looked.find("../secrets/key"), folder.path().join("../secrets/key"));
        assert_eq!(looked.find("/etc/key"), Path::new("/etc/key"));
    }

    #[test]
    fn a_file_in_a_folder_is_not_mounted_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.yaml");
        fs::write(&path, "version: 1").unwrap();

        assert!(!Watched::new(path).is_mounted_alone());
        assert!(Watched::new("/proc/self/mountinfo".into()).path().exists());
    }
}
