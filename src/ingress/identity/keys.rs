//! The keys of issuers: what a file of them held last, and the task that reads it anew.
//!
//! The file is read whole each time, as it is small: a key set that is put in its place by a link, as Kubernetes does,
//! may have the size and the time of the old one. What cannot be used keeps the last good keys in force, and is told
//! once for each change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::{
    config::{Jwks, KeysFile, ValueError},
    ingress::Ingress,
    net::drain::{Drain, Phase},
};

/// How often the files are looked at. A withdrawn key counts for so long after its file was replaced.
const LOOK: Duration = Duration::from_secs(2);

/// The keys of one file.
pub(in crate::ingress) struct KeyRing {
    path: PathBuf,
    current: ArcSwap<Keys>,
    seen: Mutex<Seen>,
}

/// Keys in force.
pub(super) struct Keys {
    pub(super) jwks: Jwks,
    /// Grows with every change.
    pub(super) generation: u64,
}

/// What the file was when it was last looked at.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Content([u8; 32]),
    /// It could not be read, for this reason.
    Failed(String),
}

/// What a look at the file led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is as it was.
    Same,
    /// Its keys are in force.
    Renewed,
    /// It cannot be used; the last good keys stay in force.
    Refused,
}

impl KeyRing {
    /// The keys that a file held when the configuration was read.
    pub(super) fn new(file: &KeysFile) -> Result<Self, ValueError> {
        let jwks = Jwks::parse(file.content())?;
        Ok(Self {
            path: file.path().to_owned(),
            current: ArcSwap::from_pointee(Keys { jwks, generation: 0 }),
            seen: Mutex::new(Seen::Content(Sha256::digest(file.content()).into())),
        })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in force.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.current.load_full()
    }

    /// Reads the file again. Blocks for as long as a small file takes, so it is not for the way of a request.
    pub(super) fn look(&self) -> Look {
        let read = KeysFile::read(&self.path);
        let now = match &read {
            Ok(content) => Seen::Content(Sha256::digest(content).into()),
            Err(error) => Seen::Failed(error.message.clone()),
        };
        let mut seen = self.seen.lock();
        if *seen == now {
            return Look::Same;
        }
        *seen = now;
        let path = self.path.display();
        match read.and_then(|content| Jwks::parse(&content)) {
            Ok(jwks) => {
                let keys = jwks.keys().len();
                let generation = self.current.load().generation.saturating_add(1);
                self.current.store(Arc::new(Keys { jwks, generation }));
                info!(%path, keys, "the keys of identities have been read anew");
                Look::Renewed
            }
            Err(error) => {
                warn!(%path, %error, hint = error.hint.as_deref(), "the file of keys cannot be used; its last good keys stay in force");
                Look::Refused
            }
        }
    }
}

/// Looks at the files of keys from time to time, until shutdown. Not on a thread that serves clients.
pub fn spawn(ingress: Arc<Ingress>, drain: &Drain) {
    if ingress.table.rings().is_empty() {
        return;
    }
    let mut closing = drain.reached(Phase::Closing);
    drain.spawn(async move {
        loop {
            tokio::select! {
                () = &mut closing => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            for ring in ingress.table.rings() {
                ring.look();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{KeyRing, Look};
    use crate::config::KeysFile;

    fn key(id: &str) -> String {
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{id}","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}]}}"#
        )
    }

    #[test]
    fn a_changed_file_is_taken_and_a_bad_one_keeps_the_last_good_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        fs::write(&path, key("a")).unwrap();
        let mut file: KeysFile = serde_json::from_value(path.to_str().unwrap().into()).unwrap();
        file.resolve(folder.path()).unwrap();
        let ring = KeyRing::new(&file).unwrap();
        let in_force = || (ring.keys().jwks.keys()[0].id.clone().unwrap(), ring.keys().generation);

        assert_eq!((ring.look(), in_force()), (Look::Same, ("a".to_owned(), 0)));
        fs::write(&path, key("b")).unwrap();
        assert_eq!((ring.look(), in_force()), (Look::Renewed, ("b".to_owned(), 1)));
        for bad in ["", "{\"keys\":[]}"] {
            fs::write(&path, bad).unwrap();
            assert_eq!((ring.look(), ring.look()), (Look::Refused, Look::Same), "told once");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!((ring.look(), ring.look()), (Look::Refused, Look::Same));
        assert_eq!(in_force(), ("b".to_owned(), 1));
        fs::write(&path, key("b")).unwrap();
        assert_eq!((ring.look(), in_force()), (Look::Renewed, ("b".to_owned(), 2)));
    }
}
