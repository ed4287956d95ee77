//! The file of an action on a remote: the bytes that a cache keeps, and a line with who signed them.

use gradus_cache::{Action, Fingerprint};

use crate::key::{PublicKey, SigningKey, from_hex, to_hex};

const VERSION: &str = "gradus-signature-1";
/// The one reason that is about who writes there, and not about one action.
pub(crate) const UNTRUSTED: &str = "its signature is by a key that is not trusted";
/// The last line is no longer than this.
pub(crate) const MOST_BYTES: u64 = 1024;

pub(crate) fn seal(key: &SigningKey, fingerprint: &Fingerprint, action: &[u8]) -> Vec<u8> {
    let line = format!("{VERSION} {} {}\n", key.public(), to_hex(&key.sign(fingerprint, action)));
    [action, line.as_bytes()].concat()
}

/// The action, and the bytes that a cache would keep; or why it is not believed.
pub(crate) fn open<'b>(
    bytes: &'b [u8],
    fingerprint: &Fingerprint,
    trusted: &[PublicKey],
) -> Result<(Action, &'b [u8]), &'static str> {
    const UNSIGNED: &str = "it is not signed";
    let above = bytes.strip_suffix(b"\n").ok_or(UNSIGNED)?;
    let start = above.iter().rposition(|&byte| byte == b'\n').ok_or(UNSIGNED)? + 1;
    let (action, line) = (&bytes[..start], &above[start..]);
    let line = std::str::from_utf8(line).map_err(|_| UNSIGNED)?;
    let (key, by) = line
        .strip_prefix(VERSION)
        .and_then(|rest| rest.strip_prefix(' ')?.split_once(' '))
        .ok_or(UNSIGNED)?;
    let key = PublicKey::try_from(key.to_owned()).map_err(|_| UNSIGNED)?;
    if !trusted.contains(&key) {
        return Err(UNTRUSTED);
    }
    let by = from_hex::<64>(by).ok_or(UNSIGNED)?;
    // Parsed only then: what comes before this line may be anybody's.
    if !key.has_signed(fingerprint, action, &by) {
        return Err("its signature is of something else");
    }
    Action::read(action, fingerprint).map(|it| (it, action)).ok_or("it is damaged")
}
