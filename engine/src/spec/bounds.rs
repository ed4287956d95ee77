//! The pass before `serde_yaml`: bounds the text and remembers where every node stands.
//!
//! `serde_yaml` alone takes gigabytes for a small file of aliases and knows no positions. Here events are
//! counted, aliases as often as they expand, and nothing that breaks a limit is read any further.

use saphyr_parser::{Event, Parser, Span};

use super::{
    mistake::Problem,
    place::{At, Sources},
};

/// Bytes of one text.
pub(crate) const LARGEST_TEXT: usize = 1 << 20;
const MOST_NODES: usize = 200_000;
const MOST_ALIASES: usize = 256;
const DEEPEST: usize = 64;
/// Bytes of all scalars, each counted as often as an alias repeats it.
const MOST_SCALAR_BYTES: usize = 4 << 20;

/// YAML 1.1 breaks lines at these and YAML 1.2 does not: a comment could hide what the other reader sees.
const LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// What breaks a limit, and where.
pub(crate) type Refusal = Box<(At, Problem)>;

/// Where the nodes of a text stand.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) at: At,
    pub(crate) parts: Parts,
}

#[derive(Debug, Clone)]
pub(crate) enum Parts {
    Scalar(String),
    List(Vec<Outline>),
    Map(Vec<(Outline, Outline)>),
}

impl Outline {
    /// Nodes, and bytes of scalars, below and with this one.
    fn weight(&self) -> (usize, usize) {
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        match &self.parts {
            Parts::Scalar(text) => (1, text.len()),
            Parts::List(items) => items.iter().map(Self::weight).fold((1, 0), add),
            Parts::Map(entries) => {
                entries.iter().map(|(k, v)| add(k.weight(), v.weight())).fold((1, 0), add)
            }
        }
    }

    fn depth(&self) -> usize {
        match &self.parts {
            Parts::Scalar(_) => 1,
            Parts::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Parts::Map(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
        }
    }
}

/// Reads the outline of source `source`; `None` for an empty text.
pub(crate) fn outline(sources: &Sources, source: usize) -> Result<Option<Outline>, Refusal> {
    let start = At { source, start: 0, end: 0 };
    let text = &sources.get(start).text;
    if text.len() > LARGEST_TEXT {
        let problem = Problem::Limit { what: "bytes of text", limit: LARGEST_TEXT };
        return Err(Box::new((start, problem)));
    }
    if let Some((start, odd)) = text.char_indices().find(|(_, c)| LINE_BREAKS.contains(c)) {
        let at = At { source, start, end: start + odd.len_utf8() };
        let what = "this invisible character ends a line for some YAML readers and not for others";
        refuse(what, at)?;
    }
    let mut builder = Builder::new(source, text);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(&event, span)?,
            Err(error) => {
                let start = builder.byte(error.marker().index());
                let at = At { source, start, end: start + 1 };
                let (words, help) = (error.info().to_owned(), unquoted(text, start));
                return Err(Box::new((at, Problem::Syntax { words, help })));
            }
        }
    }
    Ok(builder.root)
}

/// What to say where an error stands in or behind a line with what YAML reads as its own unless it is quoted.
fn unquoted(text: &str, place: usize) -> Option<String> {
    let place = text.floor_char_boundary(place);
    let line = text[..place].rfind('\n').map_or(0, |at| at + 1);
    // The error is where the reader gave up, which may be a line further down.
    let lines = [line, text[..line.saturating_sub(1)].rfind('\n').map_or(0, |at| at + 1)];
    lines.into_iter().find_map(|start| {
        let line = text[start..].lines().next().unwrap_or_default();
        let quoted = |at: usize| line[..at].matches(['"', '\'']).count() % 2 == 1;
        let word = |at: usize| {
            let begin = line[..at].rfind([' ', ',', '{', '[']).map_or(0, |it| it + 1);
            let end = line[at..].find(['}', ']']).map_or(line.len(), |it| at + it + 1);
            line[begin.min(at)..end].trim().to_owned()
        };
        let fills = line.match_indices("${").map(|(at, _)| at).find(|at| !quoted(*at));
        let variants = || {
            let mut all = line.match_indices('[').map(|(at, _)| at);
            all.find(|at| line[..*at].ends_with(|c: char| c.is_alphanumeric()) && !quoted(*at))
        };
        let found = fills.map(|at| line[at..].find('}').map_or(line.len(), |it| at + it + 1));
        let found = match (fills, found) {
            (Some(at), Some(end)) => Some(line[at..end].to_owned()),
            _ => variants().map(word),
        };
        found.map(|word| format!("in `{{ … }}` and `[ … ]` it needs quotes: \"{word}\""))
    })
}

struct Builder {
    source: usize,
    /// Byte offset of each character, if there are characters of more than one byte.
    bytes: Option<Vec<usize>>,
    length: usize,
    open: Vec<Open>,
    anchors: std::collections::HashMap<usize, Outline>,
    root: Option<Outline>,
    documents: usize,
    nodes: usize,
    scalar_bytes: usize,
    aliases: usize,
}

struct Open {
    anchor: usize,
    start: usize,
    children: Vec<Outline>,
    map: bool,
}

impl Builder {
    fn new(source: usize, text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(byte, _)| byte).collect());
        Self {
            source,
            bytes,
            length: text.len(),
            open: Vec::new(),
            anchors: std::collections::HashMap::new(),
            root: None,
            documents: 0,
            nodes: 0,
            scalar_bytes: 0,
            aliases: 0,
        }
    }

    fn byte(&self, index: usize) -> usize {
        let byte = match &self.bytes {
            Some(bytes) => bytes.get(index).copied().unwrap_or(self.length),
            None => index,
        };
        byte.min(self.length)
    }

    fn at(&self, span: Span) -> At {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        At { source: self.source, start, end }
    }

    fn take(&mut self, event: &Event<'_>, span: Span) -> Result<(), Refusal> {
        let at = self.at(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return refuse("a file holds one YAML document", at);
                }
            }
            Event::Scalar(text, _, anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                let outline = Outline { at, parts: Parts::Scalar(text.clone().into_owned()) };
                self.count(&outline, at)?;
                self.close(outline, *anchor)?;
            }
            Event::Alias(anchor) => {
                self.aliases += 1;
                check("aliases", self.aliases, MOST_ALIASES, at)?;
                let Some(outline) = self.anchors.get(anchor).cloned() else {
                    return refuse("an alias cannot stand inside its own anchor", at);
                };
                check("levels of nesting", self.open.len() + outline.depth(), DEEPEST, at)?;
                self.count(&outline, at)?;
                self.close(outline, 0)?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                self.start(*anchor, at, false)?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                self.start(*anchor, at, true)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, outline: &Outline, at: At) -> Result<(), Refusal> {
        let (nodes, bytes) = outline.weight();
        self.nodes += nodes;
        self.scalar_bytes += bytes;
        check("values", self.nodes, MOST_NODES, at)?;
        check("bytes of values", self.scalar_bytes, MOST_SCALAR_BYTES, at)
    }

    fn start(&mut self, anchor: usize, at: At, map: bool) -> Result<(), Refusal> {
        self.nodes += 1;
        check("values", self.nodes, MOST_NODES, at)?;
        self.open.push(Open { anchor, start: at.start, children: Vec::new(), map });
        check("levels of nesting", self.open.len(), DEEPEST, at)
    }

    fn end(&mut self, at: At) -> Result<(), Refusal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let parts = if open.map {
            let mut children = open.children.into_iter();
            let mut entries = Vec::new();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                entries.push((key, value));
            }
            Parts::Map(entries)
        } else {
            Parts::List(open.children)
        };
        self.close(Outline { at: At { start: open.start, ..at }, parts }, open.anchor)
    }

    /// Hands a finished node to its parent.
    fn close(&mut self, outline: Outline, anchor: usize) -> Result<(), Refusal> {
        if anchor != 0 {
            // Kept for its aliases, so it counts once more: anchors may stand inside each other.
            self.count(&outline, outline.at)?;
            self.anchors.insert(anchor, outline.clone());
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(outline),
            None => self.root = Some(outline),
        }
        Ok(())
    }
}

fn check(what: &'static str, count: usize, limit: usize, at: At) -> Result<(), Refusal> {
    if count > limit { Err(Box::new((at, Problem::Limit { what, limit }))) } else { Ok(()) }
}

fn refuse_tag(tagged: bool, at: At) -> Result<(), Refusal> {
    if tagged { refuse("YAML tags have no meaning here", at) } else { Ok(()) }
}

fn refuse(what: &'static str, at: At) -> Result<(), Refusal> {
    Err(Box::new((at, Problem::Unsupported(what))))
}
