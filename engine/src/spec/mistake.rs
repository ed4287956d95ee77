//! What can be wrong with a pipeline, in words and with its place.
//!
//! Everything is gathered in [`Mistakes`] and shown at once. The words of a class stand together in
//! [`Problem`]; the place comes from the node that is at fault.

use std::{collections::HashMap, fmt};

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};
use thiserror::Error;

use super::place::{At, Sources};

/// One class of mistake each.
#[derive(Debug, Error)]
pub enum Problem {
    #[error("this is not YAML: {words}")]
    Syntax {
        words: String,
        /// What is mostly meant by such a text.
        help: Option<String>,
    },
    #[error("the text goes over a limit: {what} (at most {limit})")]
    Limit { what: &'static str, limit: usize },
    #[error("the key `{0}` stands here twice")]
    DuplicateKey(String),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("{place} has no key `{key}`")]
    UnknownKey { place: String, key: String, nearest: Option<String>, known: String },
    #[error("{place} lacks the key `{key}`")]
    MissingKey { place: String, key: &'static str },
    #[error("{what} must be {expected}, and this is {found}")]
    WrongType { what: String, expected: String, found: String },
    #[error("{what} must be {rule}, and this is {found}")]
    OutOfRange { what: String, rule: String, found: String, nearest: Option<String> },
    #[error("stage `{stage}`: {words}")]
    Rule { stage: String, words: String },
    #[error("{what} is no name")]
    BadName { what: String },
    #[error("there is no kind `{kind}`")]
    UnknownKind { kind: String, nearest: Option<String> },
    #[error("`{kind}` has no parameter `{name}`")]
    UnknownParameter { kind: String, name: String, nearest: Option<String>, known: String },
    #[error("stage `{stage}` does not say `{name}`, which `{kind}` needs")]
    MissingParameter { stage: String, kind: String, name: String, doc: String },
    #[error("`{kind}` has no input `{name}`")]
    UnknownInput { kind: String, name: String, nearest: Option<String>, known: String },
    #[error("stage `{stage}` lacks the input `{name}`, which `{kind}` needs")]
    MissingInput { stage: String, kind: String, name: String, doc: String },
    #[error("stage `{stage}` reads from `{wanted}`, which no stage is called")]
    UnknownStage { stage: String, wanted: String, nearest: Option<String> },
    #[error("stage `{stage}` has no output `{wanted}`")]
    UnknownOutput { stage: String, wanted: String, nearest: Option<String>, known: String },
    #[error("stage `{0}` has no outputs")]
    NoOutputs(String),
    #[error("stage `{stage}` has no variant `{wanted}`")]
    UnknownVariant { stage: String, wanted: String, known: String },
    #[error("the matrix makes `{0}` twice")]
    DuplicateVariant(String),
    #[error("{0}")]
    Matrix(String),
    #[error("{0}")]
    Rounds(String),
    #[error("the matrix makes more than {most} variants")]
    TooManyVariants { most: usize },
    #[error("`{port}` takes {accepts}, and `{from}` is {found}")]
    PortType {
        port: String,
        accepts: String,
        from: String,
        found: String,
        /// Where to look.
        help: String,
    },
    #[error("`{port}` takes one artifact, and {from} brings {count}")]
    FanIn { port: String, from: String, count: usize, first: String },
    #[error("the stages go round in a circle: {0}")]
    Cycle(String),
    #[error("`{written}` leads nowhere: {why}")]
    Interpolation { written: String, why: String, nearest: Option<String> },
    #[error("there is no file `{path}`")]
    MissingFile { path: String, relative_to: String },
    #[error("the files include each other in a circle: {0}")]
    IncludeCycle(String),
    #[error("there is no template `{name}`")]
    UnknownTemplate { name: String, nearest: Option<String>, known: String },
    #[error("these templates build on each other in a circle: {0}")]
    TemplateCycle(String),
    #[error("{0} has both a `kind` and a `template`")]
    KindAndTemplate(String),
    #[error("`{path}` cannot be read: {why}")]
    Unreadable { path: String, why: String },
    #[error("`{0}` lies outside the pipeline's folder")]
    OutsideFolder(String),
    #[error("stage `{stage}`: {words}")]
    Empty { stage: String, words: String },
    #[error("stage `{stage}` cannot use what it is given: {words}")]
    Looked { stage: String, words: String },
    #[error("{what} `{name}` is used nowhere")]
    Unused { what: &'static str, name: String },
    #[error("{0}")]
    Exec(String),
    #[error("{0}")]
    Secret(String),
    #[error("metrics are a stage's own, and `{stage}.{wanted}` is an output")]
    SnapshotOfMetrics { stage: String, wanted: String },
    #[error("`{input}` reads from `{wanted}`, which is left out: {because}")]
    LeftOut { input: String, wanted: String, because: String },
    #[error("the stage `{name}` is left out: {because}")]
    TargetLeftOut { name: String, because: String },
    #[error("no stage is called `{name}`")]
    UnknownTarget { name: String, nearest: Option<String>, known: String },
}

impl Problem {
    fn name(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "yaml::syntax",
            Self::Limit { .. } => "yaml::limit",
            Self::DuplicateKey(_) => "yaml::duplicate_key",
            Self::Unsupported(_) => "yaml::unsupported",
            Self::UnknownKey { .. } => "pipeline::unknown_key",
            Self::MissingKey { .. } => "pipeline::missing_key",
            Self::WrongType { .. } => "value::wrong_type",
            Self::OutOfRange { .. } => "value::out_of_range",
            Self::Rule { .. } => "value::rule",
            Self::BadName { .. } => "pipeline::bad_name",
            Self::UnknownKind { .. } => "stage::unknown_kind",
            Self::UnknownParameter { .. } => "stage::unknown_parameter",
            Self::MissingParameter { .. } => "stage::missing_parameter",
            Self::UnknownInput { .. } => "wiring::unknown_input",
            Self::MissingInput { .. } => "wiring::missing_input",
            Self::UnknownStage { .. } => "wiring::unknown_stage",
            Self::UnknownOutput { .. } => "wiring::unknown_output",
            Self::UnknownVariant { .. } => "wiring::unknown_variant",
            Self::NoOutputs(_) => "wiring::no_outputs",
            Self::DuplicateVariant(_) => "stage::duplicate_variant",
            Self::Matrix(_) => "stage::matrix",
            Self::Rounds(_) => "include::rounds",
            Self::TooManyVariants { .. } => "stage::too_many_variants",
            Self::PortType { .. } => "wiring::port_type",
            Self::FanIn { .. } => "wiring::fan_in",
            Self::Cycle(_) => "wiring::cycle",
            Self::Interpolation { .. } => "value::interpolation",
            Self::MissingFile { .. } => "file::missing",
            Self::IncludeCycle(_) => "include::cycle",
            Self::UnknownTemplate { .. } => "template::unknown",
            Self::TemplateCycle(_) => "template::cycle",
            Self::KindAndTemplate(_) => "template::kind",
            Self::Unreadable { .. } => "file::unreadable",
            Self::OutsideFolder(_) => "file::outside",
            Self::Unused { .. } => "pipeline::unused",
            Self::Empty { .. } => "wiring::empty",
            Self::Looked { .. } => "file::unusable",
            Self::Exec(_) => "stage::exec",
            Self::Secret(_) => "stage::secret",
            Self::SnapshotOfMetrics { .. } => "snapshot::output",
            Self::LeftOut { .. } => "wiring::left_out",
            Self::TargetLeftOut { .. } => "run::left_out",
            Self::UnknownTarget { .. } => "run::unknown_stage",
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Syntax { .. }
            | Self::Limit { .. }
            | Self::Exec(_)
            | Self::Matrix(_)
            | Self::Rounds(_)
            | Self::Secret(_) => "here",
            Self::Unused { .. } => "not used",
            Self::DuplicateKey(_) => "the second one",
            Self::Unsupported(_) => "not supported",
            Self::UnknownKey { .. } => "not a key that is known here",
            Self::MissingKey { .. } => "in this part",
            Self::WrongType { .. } | Self::PortType { .. } => "of another type",
            Self::OutOfRange { .. } => "out of range",
            Self::Rule { .. } => "with what else is said",
            Self::BadName { .. } => "not a name",
            Self::UnknownKind { .. } => "not a kind",
            Self::UnknownParameter { .. } => "not a parameter",
            Self::MissingParameter { .. } | Self::MissingInput { .. } | Self::Looked { .. } => {
                "this stage"
            }
            Self::UnknownInput { .. } => "not an input",
            Self::UnknownStage { .. } | Self::UnknownTarget { .. } => {
                "not a stage in this pipeline"
            }
            Self::SnapshotOfMetrics { .. } => "an output",
            Self::UnknownOutput { .. } => "not an output",
            Self::UnknownVariant { .. } => "not a variant",
            Self::NoOutputs(_) | Self::Empty { .. } => "nothing to read",
            Self::DuplicateVariant(_) => "for this stage",
            Self::TooManyVariants { .. } => "with these values",
            Self::FanIn { .. } => "several come in here",
            Self::Cycle(_) | Self::IncludeCycle(_) | Self::TemplateCycle(_) => {
                "this closes the circle"
            }
            Self::UnknownTemplate { .. } => "not a template",
            Self::KindAndTemplate(_) => "beside a template",
            Self::Interpolation { .. } => "cannot be filled in",
            Self::MissingFile { .. } => "not there",
            Self::OutsideFolder(_) => "outside",
            Self::LeftOut { .. } => "not there this time",
            Self::Unreadable { .. } => "this file",
            Self::TargetLeftOut { .. } => "",
        }
    }

    fn help(&self) -> Option<String> {
        let or_known = |nearest: &Option<String>, known: &str| {
            did_you_mean(nearest.as_ref()).or_else(|| Some(format!("known here: {known}")))
        };
        match self {
            Self::Syntax { help, .. } => help.clone(),
            Self::DuplicateKey(_) => Some("keep one of the two".to_owned()),
            Self::UnknownKey { nearest, known, .. }
            | Self::UnknownParameter { nearest, known, .. }
            | Self::UnknownInput { nearest, known, .. }
            | Self::UnknownOutput { nearest, known, .. }
            | Self::UnknownTemplate { nearest, known, .. }
            | Self::UnknownTarget { nearest, known, .. } => or_known(nearest, known),
            Self::Limit { .. } => Some(
                "a pipeline names its data: put rows into a file, and name the file".to_owned(),
            ),
            Self::SnapshotOfMetrics { stage, wanted } => {
                Some(format!("write `metrics: {stage}`, or `table: {stage}.{wanted}`"))
            }
            Self::MissingKey { key: "metrics", .. } => Some(
                "`{ metrics: STAGE }`, `{ text: STAGE.OUTPUT }`, `{ table: STAGE.OUTPUT }` or \
                 `{ digest: STAGE.OUTPUT }`"
                    .to_owned(),
            ),
            Self::MissingKey { key: "kind", .. } => {
                Some("`gradus stages` lists the kinds there are".to_owned())
            }
            Self::MissingKey { key: "template", .. } => {
                Some("`args` are what a template is given: `template: NAME`".to_owned())
            }
            Self::MissingKey { key: "rounds", .. } => {
                Some("`rounds: N` says how often; `first` is for the first of them".to_owned())
            }
            Self::MissingKey { key: "path", .. } => {
                Some("`include: { NAME: { path: FILE } }`, or `NAME: FILE`".to_owned())
            }
            Self::KindAndTemplate(_) => {
                Some("the template says the kind: take one of the two out".to_owned())
            }
            Self::MissingKey { key, .. } => Some(format!("`{key}: {{ NAME: {{ kind: KIND }} }}`")),
            Self::LeftOut { wanted, .. } => Some(format!(
                "give this stage the same `when`; where an input may be absent, `{}[*]` takes what is there",
                wanted.split(['[', '.']).next().unwrap_or_default()
            )),
            Self::NoOutputs(_) => {
                Some("an `exec` stage declares them: `outputs: { NAME: PATH }`".to_owned())
            }
            Self::DuplicateVariant(_) => Some("take one of the equal values out".to_owned()),
            Self::UnknownVariant { known, .. } => Some(format!("known here: {known}")),
            Self::UnknownStage { nearest, .. } => did_you_mean(nearest.as_ref()).or_else(|| {
                Some(
                    "a file is written with a slash or an extension, e.g. `./pairs.jsonl`"
                        .to_owned(),
                )
            }),
            Self::UnknownKind { nearest, .. } => did_you_mean(nearest.as_ref())
                .or_else(|| Some("`gradus stages` lists the kinds there are".to_owned())),
            Self::Interpolation { nearest, .. } | Self::OutOfRange { nearest, .. } => {
                did_you_mean(nearest.as_ref())
            }
            Self::MissingParameter { name, doc, .. } | Self::MissingInput { name, doc, .. } => {
                Some(format!("`{name}`: {}", doc.lines().next().unwrap_or_default()))
            }
            Self::BadName { .. } => Some(
                "names are letters, digits, `_` and `-`, at most 128, and begin with a letter"
                    .to_owned(),
            ),
            Self::FanIn { first, .. } => Some(format!("pick one, e.g. `{first}`")),
            Self::MissingFile { relative_to, .. } => {
                Some(format!("paths here are relative to {relative_to}"))
            }
            Self::OutsideFolder(_) => Some(
                "name the file on the command line (`--set NAME=FILE`), or move it into the folder"
                    .to_owned(),
            ),
            Self::PortType { help, .. } => Some(help.clone()),
            _ => None,
        }
    }
}

fn did_you_mean(nearest: Option<&String>) -> Option<String> {
    nearest.map(|word| format!("did you mean `{word}`?"))
}

/// The known word that is nearest to `word`, if one is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let likeness = |known: &str| strsim::jaro_winkler(&word.to_lowercase(), &known.to_lowercase());
    let known: Vec<&str> = known.into_iter().collect();
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    if likeness(best) >= 0.8 {
        return Some((*best).to_owned());
    }
    // Two letters of a short word that changed places, as in `stf`.
    let swapped = |known: &&&str| word.len() > 2 && strsim::osa_distance(word, known) == 1;
    known.iter().find(swapped).map(|it| (*it).to_owned())
}

/// A line with more bytes than this is not shown.
const WIDEST: usize = 400;

/// One [`Problem`] with its place, ready to be shown.
#[derive(Debug)]
pub struct Mistake {
    pub problem: Problem,
    source: Option<NamedSource<std::sync::Arc<str>>>,
    at: At,
    /// Of how many more variants of its stage the same is true.
    more: usize,
}

impl Mistake {
    fn new(sources: &Sources, at: At, problem: Problem) -> Self {
        let source = sources.get(at);
        let text = source.text.clone();
        let at = visible(&text, at);
        Self { problem, source: Some(NamedSource::new(&source.name, text)), at, more: 0 }
    }

    /// File, line and column (both from 1), where the mistake has a place.
    pub fn place(&self) -> Option<(String, usize, usize)> {
        let source = self.source.as_ref()?;
        let before = &source.inner()[..self.at.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((source.name().to_owned(), line, column))
    }

    /// Whether the lines around the place are too long to be shown.
    fn is_wide(&self) -> bool {
        let Some(source) = &self.source else { return false };
        let (before, after) = source.inner().split_at(self.at.start);
        let mut around = before.rsplit('\n').take(2).chain(after.split('\n').take(2));
        around.any(|line| line.len() > WIDEST)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)?;
        match self.more {
            0 => Ok(()),
            1 => f.write_str(" (and one more variant)"),
            more => write!(f, " (and {more} more variants)"),
        }
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("gradus::{}", self.problem.name())))
    }

    fn severity(&self) -> Option<Severity> {
        matches!(self.problem, Problem::Unused { .. }).then_some(Severity::Warning)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let source = self.source.as_ref().filter(|_| !self.is_wide());
        source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source_code()?;
        let span = (self.at.start, self.at.end - self.at.start);
        let label = LabeledSpan::new_with_span(Some(self.problem.label().to_owned()), span);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Every mistake found, in the order found.
#[derive(Debug, Default)]
pub struct Mistakes {
    pub list: Vec<Mistake>,
    /// What is no mistake, but mostly meant otherwise.
    pub warnings: Vec<Mistake>,
    /// Places with what was said there: variants of a stage all find the same.
    said: HashMap<(At, String), usize>,
}

impl Mistakes {
    pub fn add(&mut self, sources: &Sources, at: At, problem: Problem) {
        let words = problem.to_string();
        if let Some(first) = self.said.get(&(at, without_variants(&words))) {
            let first = &mut self.list[*first];
            if first.problem.to_string() != words {
                first.more += 1;
            }
            return;
        }
        self.said.insert((at, without_variants(&words)), self.list.len());
        self.list.push(Mistake::new(sources, at, problem));
    }

    /// Says what does not keep the pipeline from running.
    pub fn warn(&mut self, sources: &Sources, at: At, problem: Problem) {
        self.warnings.push(Mistake::new(sources, at, problem));
    }

    /// Shows `text` as the source of all mistakes from the `first` on; places stay as they are.
    pub(super) fn show_as_typed(&mut self, first: usize, text: &str) {
        for mistake in &mut self.list[first..] {
            if let Some(source) = &mistake.source {
                mistake.source = Some(NamedSource::new(source.name(), text.into()));
            }
        }
    }

    /// Adds a mistake that stands in no text, such as a word on the command line.
    pub fn add_unplaced(&mut self, problem: Problem) {
        self.list.push(Mistake { problem, source: None, at: At::default(), more: 0 });
    }

    /// `value` if nothing was wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.list.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// The same words for all variants of a stage: `sft[seed=0]` is `sft`.
fn without_variants(words: &str) -> String {
    let mut left = String::new();
    let mut rest = words;
    while let Some(at) = rest.find('[') {
        let (before, variant) = rest.split_at(at);
        left.push_str(before);
        let end = variant.find(']').filter(|_| before.ends_with(|c: char| c.is_alphanumeric()));
        rest = &variant[end.map_or(1, |end| end + 1)..];
        if end.is_none() {
            left.push('[');
        }
    }
    left + rest
}

/// A place that can be underlined: whole characters of one line, at least one where there are any.
fn visible(text: &str, at: At) -> At {
    let start = text.floor_char_boundary(at.start);
    let end = text.ceil_char_boundary(at.end.max(start));
    // A value of many lines (a whole stage) is shown by its first.
    let first = text[start..end].lines().next().unwrap_or_default().trim_end().len();
    if first > 0 {
        return At { start, end: start + first, ..at };
    }
    // Where a text breaks off, what stands before its end is shown.
    let before = text[..start].trim_end();
    let last = before.chars().next_back().map_or(0, char::len_utf8);
    At { start: before.len() - last, end: before.len(), ..at }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => f.write_str("the pipeline has a mistake"),
            count => write!(f, "the pipeline has {count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}
