//! What can go wrong between here and a remote. Reading, all of it is a miss with a warning, but for what
//! the cache here cannot do.

use std::{error::Error as _, io, path::PathBuf};

use gradus_cache::{CacheError, Digest};
use thiserror::Error;

use crate::seal;

/// Of the words of a server no more is shown.
const MOST_WORDS: usize = 160;

/// Why a remote cannot be used as `gradus.toml` says. Nothing was asked over the network yet.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(
        "`[remote]` in gradus.toml has no key to sign with, and without a signature nobody would believe what is written: name the key's file as `key` there or in `GRADUS_SIGNING_KEY`. `gradus cache key FILE` makes one"
    )]
    NoKey,
    #[error(
        "`[remote]` in gradus.toml trusts nobody, so that nothing on the remote would ever be used: list as `trusted` the public keys of those who write there. `gradus cache key FILE` makes a pair and prints its public key"
    )]
    TrustsNobody,
    #[error(
        "`{url}` cannot be written to, for a web server is only read: take `write = true` out of gradus.toml, or write to the bucket or folder behind it"
    )]
    OnlyRead { url: String },
    #[error(
        "the signing key `{}` cannot be read; `gradus cache key FILE` makes one",
        file.display()
    )]
    KeyUnread { file: PathBuf, source: io::Error },
    #[error("no key was made: `{}` cannot be written, or is there already", file.display())]
    KeyUnwritten { file: PathBuf, source: io::Error },
    #[error("`{}` is not a key that `gradus cache key` made", file.display())]
    NotAKey { file: PathBuf },
    #[error("this machine gives no random bytes to make a key of")]
    NoRandomness,
}

/// Why a result was not uploaded.
#[derive(Debug, Error)]
pub enum PushError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the cache does not have it any more")]
    Gone,
    #[error("its file {0} is damaged; `gradus cache verify` sets aside what is")]
    Damaged(Digest),
    #[error("{0}")]
    Remote(String),
}

#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server or the way to it; the next question may fare better.
    Store(object_store::Error),
    /// It answers too late or cannot be opened: too dear to try again, or useless.
    Unusable(String),
    /// What came is not what was asked for.
    Refused(String),
    /// An action that somebody else signed.
    Untrusted,
    /// The cache here.
    Local(CacheError),
    Push(PushError),
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        match error {
            // Of a manifest that came in: it is the remote's.
            CacheError::Manifest { .. } => Self::Refused(error.to_string()),
            error => Self::Local(error),
        }
    }
}

impl From<PushError> for Trouble {
    fn from(error: PushError) -> Self {
        Self::Push(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => f.write_str(&in_words(error)),
            Self::Unusable(why) | Self::Refused(why) => f.write_str(why),
            Self::Untrusted => f.write_str(seal::UNTRUSTED),
            Self::Local(error) => error.fmt(f),
            Self::Push(error) => error.fmt(f),
        }
    }
}

/// The innermost cause, for those around it repeat it at length.
fn in_words(error: &object_store::Error) -> String {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let prefix = match error {
        PermissionDenied { .. } | Unauthenticated { .. } => "it refuses these credentials",
        NotFound { .. } => "there is no such bucket or file",
        _ => "",
    };
    if !prefix.is_empty() {
        return prefix.to_owned();
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST_WORDS).collect()
}
