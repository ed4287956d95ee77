//! The header of a safetensors file, which may come from strangers.
//!
//! The safetensors crate refuses overlaps, holes and short files; here stands what it lets through. Without
//! tensors, so that it can be fuzzed without libtorch.

use std::{collections::BTreeSet, fmt};

use safetensors::SafeTensors;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

const LARGEST: usize = 16 << 20;
const MOST_TENSORS: usize = 100_000;
const LONGEST_NAME: usize = 256;

/// What the file holds, if its header is sound and its tensors have plain names, given once.
pub(crate) fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, String> {
    if bytes.starts_with(b"version https://git-lfs.github.com/") {
        return Err("it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`"
            .to_owned());
    }
    check(bytes)?;
    SafeTensors::deserialize(bytes).map_err(|error| error.to_string())
}

/// The parts of the header that the safetensors crate does not limit: its size, the number of tensors,
/// and names, which must be plain and given once.
fn check(bytes: &[u8]) -> Result<(), String> {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let length = usize::try_from(length.ok_or("the file is shorter than its header")?);
    let length = length.ok().filter(|length| *length <= LARGEST);
    let length = length.ok_or_else(|| format!("the header is larger than {LARGEST} bytes"))?;
    let header = bytes.get(8..8 + length).ok_or("the file is shorter than its header")?;
    let mut json = serde_json::Deserializer::from_slice(header);
    json.deserialize_map(Names).map_err(|error| format!("the header is damaged: {error}"))
}

/// Visits the keys of the header.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error;
        let mut seen = BTreeSet::new();
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
                let name: String = name.escape_debug().take(40).collect();
                return Err(A::Error::custom(format!("`{name}` is no plain name")));
            }
            if seen.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            if let Some(name) = seen.replace(name) {
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(header: &str) -> String {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        check(&bytes).unwrap_err()
    }

    #[test]
    fn a_hostile_header_is_refused_before_any_tensor_is_read() {
        assert!(problem(r#"{"a":{},"a":{}}"#).contains("`a` is there twice"));
        assert!(problem(r#"{"../a":{}}"#).contains("no plain name"));
        assert!(check(&u64::MAX.to_le_bytes()).unwrap_err().contains("larger than"));
        assert!(check(&9_u64.to_le_bytes()).unwrap_err().contains("shorter"));
        assert!(check(&[0; 7]).unwrap_err().contains("shorter"));
        assert!(problem(&" ".repeat(LARGEST + 1)).contains("larger than 16777216"));
        assert!(problem(&format!(r#"{{"{}":{{}}}}"#, "a".repeat(257))).contains("no plain name"));
        let tensors = |count: usize| {
            let tensors: Vec<String> = (0..count).map(|i| format!("\"t{i}\":{{}}")).collect();
            format!("{{{}}}", tensors.join(","))
        };
        assert!(problem(&tensors(MOST_TENSORS + 1)).contains("more than 100000 tensors"));
    }
}
