//! A cache's results on a server, for other machines.
//!
//! `cas/ab/cdef…` holds files named by their digest, `ac/ab/cdef…` actions by their fingerprint, each signed
//! by who wrote it. Blobs go up first and the action last. Reading, nothing is believed before it is checked,
//! and whatever is wrong is a miss: a remote can cost time, never a result.
//!
//! All calls wait for their answer: make them where a thread may wait.

mod fetch;
mod key;
mod link;
mod push;
mod seal;
mod settings;
mod trouble;

use std::{
    collections::HashSet,
    env,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use gradus_cache::Digest;

pub use fetch::{Fetched, Warning};
pub use key::{PublicKey, SigningKey};
pub use push::Pushed;
pub use settings::{Place, Settings};
pub use trouble::{OpenError, PushError};

use link::Link;
use settings::Kind;
use trouble::Trouble;

/// Names the file of the key to sign with; stronger than `key` in `gradus.toml`.
const KEY_VARIABLE: &str = "GRADUS_SIGNING_KEY";
/// After so many failures in a row nothing more is asked.
const MOST_FAILURES: u32 = 3;

/// A remote for one run; clones share it.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    writes: bool,
    signer: Option<SigningKey>,
    trusted: Vec<PublicKey>,
    link: OnceLock<Result<Link, String>>,
    failures: AtomicU32,
    /// A person hears once that a remote cannot be used.
    complained: AtomicBool,
    /// And once that somebody else writes there.
    distrusted: AtomicBool,
    /// Blobs that were found to be wrong there: to be written anew, though there is something.
    damaged: Mutex<HashSet<Digest>>,
}

impl Remote {
    /// Checks all that can be checked without asking anybody. Paths are relative to `root`.
    pub fn open(settings: &Settings, root: &Path) -> Result<Self, OpenError> {
        let named = env::var_os(KEY_VARIABLE).filter(|it| !it.is_empty()).map(PathBuf::from);
        let file = named.or_else(|| settings.key.as_ref().map(|file| root.join(file)));
        // A key that only the writers have may be named in a file that all have.
        let file = file.filter(|file| settings.write || file.exists());
        let signer = file.map(|file| SigningKey::read(&file)).transpose()?;
        let mut trusted = settings.trusted.clone();
        trusted.extend(signer.as_ref().map(SigningKey::public));
        let remote = Self(Arc::new(Inner {
            place: settings.url.from(root),
            writes: settings.write,
            signer,
            trusted,
            link: OnceLock::new(),
            failures: AtomicU32::new(0),
            complained: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
            damaged: Mutex::default(),
        }));
        if settings.write {
            remote.may_write()?;
        }
        if remote.0.trusted.is_empty() {
            return Err(OpenError::TrustsNobody);
        }
        Ok(remote)
    }

    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Whether runs upload what they made.
    pub fn writes(&self) -> bool {
        self.0.writes
    }

    /// An error unless what is written could be signed.
    pub fn may_write(&self) -> Result<(), OpenError> {
        let inner = &self.0;
        match (&inner.place.kind, &inner.signer) {
            (Kind::Http, _) => Err(OpenError::OnlyRead { url: inner.place.to_string() }),
            (_, None) => Err(OpenError::NoKey),
            (_, Some(_)) => Ok(()),
        }
    }

    fn link(&self) -> Result<&Link, Trouble> {
        let inner = &self.0;
        let open = || Link::open(&inner.place, inner.signer.is_some());
        inner.link.get_or_init(open).as_ref().map_err(|why| Trouble::Unusable(why.clone()))
    }

    /// Whether too much went wrong to go on asking.
    fn is_given_up(&self) -> bool {
        self.0.failures.load(Ordering::Relaxed) >= MOST_FAILURES
    }

    /// Counts what became of a question. Returns what a person should hear of it.
    fn judge<T>(&self, done: &Result<T, Trouble>) -> Option<Warning> {
        let inner = &self.0;
        match done {
            Ok(_) => {
                inner.failures.store(0, Ordering::Relaxed);
                None
            }
            Err(trouble @ (Trouble::Store(_) | Trouble::Unusable(_))) => {
                let lasting = matches!(trouble, Trouble::Unusable(_));
                let failures = if lasting { MOST_FAILURES } else { 1 };
                inner.failures.fetch_add(failures, Ordering::Relaxed);
                let first = !inner.complained.swap(true, Ordering::Relaxed);
                let place = &inner.place;
                first.then(|| {
                    Warning::Remote(format!(
                        "the remote `{place}` cannot be used: {trouble}; going on without it"
                    ))
                })
            }
            Err(Trouble::Refused(why)) => {
                let words = format!("what the remote has for it is not used: {why}");
                Some(Warning::Result(words))
            }
            Err(Trouble::Untrusted) => {
                let first = !inner.distrusted.swap(true, Ordering::Relaxed);
                let place = &inner.place;
                first.then(|| {
                    Warning::Remote(format!(
                        "the remote `{place}` has results that are signed by a key which `trusted` in gradus.toml does not list: they are not used"
                    ))
                })
            }
            Err(Trouble::Local(_) | Trouble::Push(_)) => None,
        }
    }
}
