//! Secrets: values of environment variables that a program gets and that nothing of it leaves behind.
//!
//! They are looked for as they are, as JSON writes them, and in base64 at all three alignments; line breaks
//! in between hide nothing. What stands in a log is masked; an output with one in it is refused.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::RunError,
    plan::{Facts, Stage},
};

/// A shorter word may stand anywhere by chance.
const SHORTEST: usize = 8;
/// So many line breaks in a row may stand inside a secret, or inside its base64.
const MOST_BREAKS: usize = 4;
const MASK: &[u8] = b"***";
const CHUNK: usize = 64 << 10;
const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// The secrets of one stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets {
    pub(crate) values: Vec<(String, OsString)>,
    needles: Arc<Needles>,
}

// Never says its words: whoever prints it must not learn them.
#[derive(Default)]
struct Needles {
    /// Each with the position of its secret; none holds a line break.
    all: Vec<(usize, Vec<u8>)>,
    /// By byte, whether one begins with it.
    first: Vec<bool>,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} needles", self.all.len())
    }
}

/// What stands in a text, from some place on.
enum Found {
    /// From here to there, this secret.
    Secret(usize, usize, usize),
    /// From here on perhaps one, if more follows.
    Perhaps(usize),
    Nothing,
}

/// Why the secrets of these names cannot be given, if they cannot.
pub(crate) fn unmet(names: &[String]) -> Option<String> {
    let value = |name: &String| env::var_os(name).unwrap_or_default();
    let missing: Vec<_> = names.iter().filter(|name| value(name).is_empty()).collect();
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(|name| format!("`{name}`")).collect();
        let (verb, variables) =
            if missing.len() == 1 { ("is", "variable") } else { ("are", "variables") };
        return Some(format!(
            "its secret {} {verb} not set: set the environment {variables} and run again",
            missing.join(", ")
        ));
    }
    let short = names.iter().find(|name| value(name).len() < SHORTEST)?;
    Some(format!(
        "its secret `{short}` has fewer than {SHORTEST} characters, and could not be told from other words"
    ))
}

impl Secrets {
    /// Those of `stage`, whose `facts` are kept and told to whoever asks.
    pub(crate) fn of(stage: &Stage, facts: &Facts) -> Result<Self, RunError> {
        let secrets = Self::read(&stage.conduct.secrets)?;
        if secrets.values.is_empty() {
            return Ok(secrets);
        }
        let facts = serde_json::to_vec(facts).unwrap_or_default();
        match secrets.in_bytes(&facts) {
            None => Ok(secrets),
            Some(secret) => Err(RunError::Stage(format!(
                "the secret `{secret}` stands in the stage, and would be kept: take it out of its \
                 parameters"
            ))),
        }
    }

    fn read(names: &[String]) -> Result<Self, RunError> {
        if let Some(unmet) = unmet(names) {
            return Err(RunError::Stage(unmet));
        }
        let values: Vec<_> =
            names.iter().filter_map(|name| Some((name.clone(), env::var_os(name)?))).collect();
        let mut needles = Needles { all: Vec::new(), first: vec![false; 256] };
        for (i, (_, value)) in values.iter().enumerate() {
            for needle in forms(value) {
                needles.first[usize::from(needle[0])] = true;
                needles.all.push((i, needle));
            }
        }
        Ok(Self { values, needles: Arc::new(needles) })
    }

    /// Masks one stream.
    pub(crate) fn mask(&self) -> Mask {
        Mask { needles: Arc::clone(&self.needles), held: Vec::new() }
    }

    /// The name of a secret that stands in `bytes`.
    pub(crate) fn in_bytes(&self, bytes: &[u8]) -> Option<&str> {
        match self.needles.find(bytes, 0, true) {
            Found::Secret(.., i) => Some(&self.values[i].0),
            _ => None,
        }
    }

    /// The name of a secret that stands in a file, or in anything below a folder, or in its name.
    pub(crate) fn below(&self, path: &Path) -> io::Result<Option<&str>> {
        if self.values.is_empty() {
            return Ok(None);
        }
        let mut left: Vec<PathBuf> = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            let found = match fs::symlink_metadata(&path)?.file_type() {
                _ if self.in_bytes(name).is_some() => self.in_bytes(name),
                kind if kind.is_dir() => {
                    for entry in fs::read_dir(&path)? {
                        left.push(entry?.path());
                    }
                    None
                }
                kind if kind.is_file() => self.in_stream(File::open(&path)?)?,
                // The store refuses links and special files.
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn in_stream(&self, mut from: impl Read) -> io::Result<Option<&str>> {
        let (mut held, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let count = from.read(&mut chunk)?;
            held.extend_from_slice(&chunk[..count]);
            match self.needles.find(&held, 0, count == 0) {
                Found::Secret(.., i) => return Ok(Some(&self.values[i].0)),
                Found::Perhaps(start) => drop(held.drain(..start)),
                Found::Nothing => held.clear(),
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }
}

impl Needles {
    /// The first secret in `hay` from `from` on; at the `end` nothing more follows.
    fn find(&self, hay: &[u8], from: usize, end: bool) -> Found {
        if self.all.is_empty() {
            return Found::Nothing;
        }
        for start in from..hay.len() {
            if !self.first[usize::from(hay[start])] {
                continue;
            }
            let mut longest = None;
            for (i, needle) in &self.all {
                match fit(needle, &hay[start..]) {
                    Fit::Whole(length) if longest.is_none_or(|(other, _)| length > other) => {
                        longest = Some((length, *i));
                    }
                    Fit::Part if !end => return Found::Perhaps(start),
                    _ => {}
                }
            }
            if let Some((length, i)) = longest {
                return Found::Secret(start, start + length, i);
            }
        }
        Found::Nothing
    }
}

enum Fit {
    /// So many bytes of the text are the needle.
    Whole(usize),
    /// The text ends before the needle does.
    Part,
    No,
}

fn fit(needle: &[u8], hay: &[u8]) -> Fit {
    let (mut at, mut breaks) = (0, 0);
    for (i, &byte) in hay.iter().enumerate() {
        if byte == needle[at] {
            (at, breaks) = (at + 1, 0);
            if at == needle.len() {
                return Fit::Whole(i + 1);
            }
        } else if matches!(byte, b'\n' | b'\r') && at > 0 && breaks < MOST_BREAKS {
            breaks += 1;
        } else {
            return Fit::No;
        }
    }
    Fit::Part
}

/// Takes secrets out of a stream that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    needles: Arc<Needles>,
    held: Vec<u8>,
}

impl Mask {
    /// What may be shown by now, after `bytes` came in; at the `end` all the rest.
    pub(crate) fn take(&mut self, bytes: &[u8], end: bool) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let (mut shown, mut from) = (Vec::new(), 0);
        loop {
            match self.needles.find(&self.held, from, end) {
                Found::Secret(start, behind, _) => {
                    shown.extend_from_slice(&self.held[from..start]);
                    shown.extend_from_slice(MASK);
                    from = behind;
                }
                Found::Perhaps(start) => {
                    shown.extend_from_slice(&self.held[from..start]);
                    self.held.drain(..start);
                    return shown;
                }
                Found::Nothing => {
                    shown.extend_from_slice(&self.held[from..]);
                    self.held.clear();
                    return shown;
                }
            }
        }
    }
}

/// All that a secret is looked for as.
fn forms(value: &OsStr) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut plain = vec![bytes.to_vec()];
    // Of a key of many lines each stands for itself.
    plain.extend(bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec()));
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for word in &plain {
        forms.push(word.clone());
        let json = serde_json::Value::from(String::from_utf8_lossy(word)).to_string();
        forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
        for alphabet in ALPHABETS {
            forms.extend((0..3).map(|before| base64(word, before, alphabet)));
        }
    }
    for form in &mut forms {
        form.retain(|byte| !matches!(byte, b'\n' | b'\r'));
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

/// Those characters of base64 that `bytes` alone decide when `before` bytes stand before them.
fn base64(bytes: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |i: usize| i.checked_sub(before * 8).map(|i| bytes[i / 8] >> (7 - i % 8) & 1);
    let end = (before + bytes.len()) * 8 / 6;
    let begin = (before * 8).div_ceil(6);
    let character = |i: usize| {
        let bits = (i * 6..i * 6 + 6).map(|i| usize::from(bit(i).unwrap_or(0)));
        alphabet[bits.fold(0, |sum, bit| sum << 1 | bit)]
    };
    (begin..end).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hf_Geheim+/\"42\"";

    fn secrets(values: &[&str]) -> Secrets {
        let mut needles = Needles { all: Vec::new(), first: vec![false; 256] };
        for (i, value) in values.iter().enumerate() {
            for needle in forms(OsStr::new(value)) {
                needles.first[usize::from(needle[0])] = true;
                needles.all.push((i, needle));
            }
        }
        let values = values.iter().map(|it| ((*it).to_owned(), OsString::from(it))).collect();
        Secrets { values, needles: Arc::new(needles) }
    }

    /// `text` as it is shown when it comes in pieces of `size` bytes.
    fn masked(secrets: &Secrets, text: &[u8], size: usize) -> String {
        let mut mask = secrets.mask();
        let mut shown = Vec::new();
        for piece in text.chunks(size) {
            shown.extend(mask.take(piece, false));
        }
        shown.extend(mask.take(b"", true));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn what_bytes_alone_decide_of_base64_is_known() {
        // `printf %s xSECRETx | base64` and so on: all but the characters that neighbours share.
        assert_eq!(base64(b"secret", 0, ALPHABETS[0]), b"c2VjcmV0");
        assert_eq!(base64(b"secret", 1, ALPHABETS[0]), b"NlY3JldA"[..7].to_vec());
        assert_eq!(base64(b"secret", 2, ALPHABETS[0]), b"zZWNyZX"[..7].to_vec());
    }

    #[test]
    fn a_secret_is_masked_wherever_the_stream_is_cut() {
        let secrets = secrets(&[SECRET]);
        let text = format!("one {SECRET} two\nhf_Geheim and {SECRET}{SECRET}, hf_Ge");
        for size in 1..=text.len() {
            let shown = masked(&secrets, text.as_bytes(), size);
            assert_eq!(shown, "one *** two\nhf_Geheim and ******, hf_Ge", "{size}");
        }
    }

    #[test]
    fn base64_is_masked_at_every_alignment_and_across_its_line_breaks() {
        let long = "a token of quite some length, over one line of base64: 0123456789";
        let secrets = secrets(&[SECRET, long]);
        for word in [SECRET, long] {
            for before in 0..3 {
                for alphabet in ALPHABETS {
                    let text =
                        base64(&[&vec![b'x'; before], word.as_bytes()].concat(), 0, alphabet);
                    let wrapped: Vec<u8> =
                        text.chunks(20).flat_map(|line| [line, b"\r\n"].concat()).collect();
                    let middle = base64(word.as_bytes(), before, alphabet);
                    let middle = String::from_utf8(middle).unwrap();
                    for text in [&text, &wrapped] {
                        let shown = masked(&secrets, text, 7);
                        assert!(shown.contains("***"), "{shown}");
                        assert!(!shown.replace("\r\n", "").contains(&middle), "{shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn json_and_lines_of_a_key_are_masked() {
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END KEY-----\n";
        let secrets = secrets(&[SECRET, key]);
        let json = serde_json::json!({ "a": SECRET, "key": key }).to_string();
        for size in [1, 9, json.len()] {
            assert_eq!(masked(&secrets, json.as_bytes(), size), r#"{"a":"***","key":"***"}"#);
        }
        assert_eq!(masked(&secrets, b"> DDDDEEEEFFFF <", 3), "> *** <");
        assert_eq!(masked(&secrets, key.as_bytes(), 5), "***\n");
    }

    #[test]
    fn a_stream_without_secrets_passes_as_it_is() {
        let text = b"anything\0\xff\n".repeat(10);
        let mut mask = Mask::default();
        assert_eq!(mask.take(&text, false), text);
        assert_eq!(mask.take(b"", true), b"");
    }

    #[test]
    fn line_breaks_without_end_are_not_held_back() {
        let mut mask = secrets(&[SECRET]).mask();
        mask.take(b"h", false);
        mask.take(&b"\n".repeat(1 << 20), false);
        assert!(mask.held.len() < 16);
    }

    #[test]
    fn outputs_are_searched_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(&["secret-in-a-name", SECRET]);
        let place = folder.path().join("out");
        fs::create_dir_all(place.join("deep")).unwrap();
        fs::write(place.join("deep/file"), "x".repeat(CHUNK - 3) + "hf_Geheim").unwrap();
        assert_eq!(secrets.below(&place).unwrap(), None);
        fs::write(place.join("deep/file"), "x".repeat(CHUNK - 3) + SECRET).unwrap();
        assert_eq!(secrets.below(&place).unwrap(), Some(SECRET));
        fs::remove_file(place.join("deep/file")).unwrap();
        fs::write(place.join("deep/a-secret-in-a-name.txt"), "").unwrap();
        assert_eq!(secrets.below(&place).unwrap(), Some("secret-in-a-name"));
    }
}
