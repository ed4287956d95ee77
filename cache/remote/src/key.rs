//! Keys of those who write to a remote. An action is signed together with its fingerprint, so that neither
//! its bytes nor the name under which they lie can be changed by whoever keeps the server.

use std::{
    fmt,
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use gradus_cache::Fingerprint;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde::Deserialize;

use crate::OpenError;

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "gradus-signing-key:ed25519:";
/// What is signed begins with this, so that no signature means anything elsewhere.
const DOMAIN: &[u8] = b"gradus remote action 1\0";

/// Whose signatures are believed.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey([u8; 32]);

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.strip_prefix(PUBLIC).and_then(from_hex);
        hex.map(Self).ok_or_else(|| {
            let start: String = text.chars().take(80).collect();
            format!(
                "`{start}` is not a public key: write `{PUBLIC}` and 64 hexadecimal digits, as `gradus cache key` prints it"
            )
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PublicKey {
    pub(crate) fn has_signed(&self, fingerprint: &Fingerprint, action: &[u8], by: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&message(fingerprint, action), by).is_ok()
    }
}

/// What a writer signs with.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signing key of {}", self.public())
    }
}

impl SigningKey {
    /// Makes a new pair and writes its secret half to `file`, which must not be there yet.
    pub fn make(file: &Path) -> Result<Self, OpenError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| OpenError::NoRandomness)?;
        let failed = |source| OpenError::KeyUnwritten { file: file.to_owned(), source };
        let mut options = File::options();
        // Nobody else may read it, not even for an instant.
        let made = options.write(true).create_new(true).mode(0o600).open(file);
        let text = format!("{SECRET}{}\n", to_hex(&seed));
        made.and_then(|mut to| to.write_all(text.as_bytes())).map_err(failed)?;
        Self::of(&seed, file)
    }

    pub(crate) fn read(file: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::KeyUnread { file: file.to_owned(), source };
        let text = fs::read_to_string(file).map_err(failed)?;
        match text.trim().strip_prefix(SECRET).and_then(from_hex) {
            Some(seed) => Self::of(&seed, file),
            None => Err(OpenError::NotAKey { file: file.to_owned() }),
        }
    }

    fn of(seed: &[u8; 32], file: &Path) -> Result<Self, OpenError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| OpenError::NotAKey { file: file.to_owned() })
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(crate) fn sign(&self, fingerprint: &Fingerprint, action: &[u8]) -> Vec<u8> {
        self.0.sign(&message(fingerprint, action)).as_ref().to_vec()
    }
}

fn message(fingerprint: &Fingerprint, action: &[u8]) -> Vec<u8> {
    [DOMAIN, fingerprint.as_bytes(), action].concat()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    rest.is_empty().then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_for_its_owner_alone_and_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let key = SigningKey::make(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::read(&file).unwrap().public(), key.public());
        assert_eq!(PublicKey::try_from(key.public().to_string()), Ok(key.public()));
        assert!(matches!(SigningKey::make(&file), Err(OpenError::KeyUnwritten { .. })));
        assert!(!format!("{key:?}").contains(&fs::read_to_string(&file).unwrap()[30..90]));
    }

    #[test]
    fn a_signature_holds_for_one_key_one_name_and_one_content() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| SigningKey::make(&folder.path().join(name)));
        let (one, other) = (one.unwrap(), other.unwrap());
        let (a, b) = (Fingerprint::of(b"a"), Fingerprint::of(b"b"));
        let by = one.sign(&a, b"action");
        assert!(one.public().has_signed(&a, b"action", &by));
        assert!(!one.public().has_signed(&b, b"action", &by));
        assert!(!one.public().has_signed(&a, b"actioN", &by));
        assert!(!other.public().has_signed(&a, b"action", &by));
        assert!(!one.public().has_signed(&a, b"action", &by[1..]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "ed25519:", "ed25519:00", &format!("{SECRET}{}", "0g".repeat(32))] {
            assert!(PublicKey::try_from(text.to_owned()).is_err(), "{text}");
            let file = folder.path().join("key");
            fs::write(&file, text).unwrap();
            assert!(matches!(SigningKey::read(&file), Err(OpenError::NotAKey { .. })), "{text}");
        }
    }
}
