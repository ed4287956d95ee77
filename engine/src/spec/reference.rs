//! How a stage, or an output of one, is named.

/// What an input's text refers to, once it is known not to be a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    pub stage: &'a str,
    /// `*` or `key=value,…`, without the brackets.
    pub variant: Option<&'a str>,
    pub output: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads `stage`, `stage.output`, `stage[*]`, `stage[beta=0.1].output`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, variant, tail) = match text.split_once('[') {
            Some((head, rest)) => {
                let (variant, tail) = rest.rsplit_once(']')?;
                (head, Some(variant), tail)
            }
            None => match text.split_once('.') {
                Some((head, _)) => (head, None, &text[head.len()..]),
                None => (text, None, ""),
            },
        };
        let output = match tail {
            "" => None,
            tail => Some(tail.strip_prefix('.')?),
        };
        Some(Self { stage: head, variant, output })
    }
}

/// Names of includes stand before those of stages, so that none may be long.
const LONGEST_NAME: usize = 128;

/// Whether `text` can name a stage, an axis of a matrix, or a port.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
