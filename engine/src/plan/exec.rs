//! The kind `exec`: any program, with declared inputs and outputs.
//!
//! The program runs in a folder of its own with copies of its inputs. In an argument list `${…}` fills one
//! element; a `shell` text is never filled in, values reach it through its environment alone, so that no
//! value can become a command.

use std::collections::BTreeMap;

use gradus_protocol::catalog::{Kind, Param, Port, PortType, Shape};
use serde_json::{Value, json};

use super::{instance::Instance, tools};
use crate::spec::{
    At, Data, Entry, Mistakes, Node, Pipeline, Problem, Scope, StageSpec, interpolate, is_name,
    nearest,
};

pub(crate) const KIND: &str = "exec";
const REVISION: u32 = 1;
const DOC: &str = "Run a program of yours on declared inputs, and keep its declared outputs.

The program runs in an empty folder of its own. Inputs are copied to `inputs/NAME`; outputs are the
stage's `outputs: { NAME: PATH }`, a path that ends in `/` being a folder. In `command`, `${inputs.NAME}`
and `${outputs.NAME}` are those paths; a `shell` text finds them as `$INPUT_NAME` and `$OUTPUT_NAME`.
The environment holds what `env` says, LANG=C.UTF-8 unless `env` says another, and of yours PATH, HOME,
TMPDIR and the variables that the stage's `secret: [NAME]` names: their values are kept nowhere, masked
in the log, and refused in outputs.

In the key are the command, `env`, the inputs, and the bytes of the programs that the stage's
`tools: [python3, git]` names. Not in the key: other programs that PATH finds, the packages of a Python,
HOME and TMPDIR, the network, the clock. Numbers in the JSON file of the stage's `metrics: PATH` are its metrics.

With `rows: { INPUT: OUTPUT }` the program treats its rows one by one: for each line of the input it leaves one
in the output, in their order. It is given only those rows of which nobody has computed anything yet.";

/// An `exec` stage, ready to run.
#[derive(Debug, Clone)]
pub struct Exec {
    pub command: Command,
    pub env: BTreeMap<String, String>,
    /// Output name → path below the stage's folder.
    pub outputs: BTreeMap<String, String>,
    /// Programs whose bytes enter the fingerprint, as `PATH` finds them.
    pub tools: Vec<String>,
    /// The file below the stage's folder that holds its metrics.
    pub metrics: Option<String>,
    /// The input whose rows it treats one by one, and the output that has a line for each.
    pub rows: Option<(String, String)>,
}

/// How the program is written.
#[derive(Debug, Clone)]
pub enum Command {
    Arguments(Vec<String>),
    Shell(String),
}

impl Exec {
    /// What enters the fingerprint.
    pub(super) fn to_value(&self) -> Value {
        let command = match &self.command {
            Command::Arguments(list) => json!({ "command": list }),
            Command::Shell(text) => json!({ "shell": text }),
        };
        let mut value = json!({ "run": command, "env": self.env, "outputs": self.outputs });
        // What the tools are is a row of its own.
        if let Some(metrics) = &self.metrics {
            value["metrics"] = json!(metrics);
        }
        if let Some(rows) = &self.rows {
            value["rows"] = json!(rows);
        }
        value
    }
}

/// How an input's name stands in the environment: `INPUT_PAIRS`.
pub(crate) fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_uppercase().replace('-', "_"))
}

/// What `gradus stages show exec` prints.
pub fn documented() -> Kind {
    let param = |name: &str, doc: &str, shape, default| Param {
        name: name.to_owned(),
        doc: doc.to_owned(),
        shape,
        default,
        neutral: None,
    };
    let optional = |of| Shape::Optional { of: Box::new(of) };
    Kind {
        kind: KIND.to_owned(),
        revision: REVISION,
        unaffected: Vec::new(),
        doc: DOC.to_owned(),
        uses_device: false,
        uses_seed: false,
        rules: Vec::new(),
        length: None,
        looks: false,
        by_row: Vec::new(),
        advice: Vec::new(),
        rehearsal: BTreeMap::new(),
        params: vec![
            param(
                "command",
                "The program and its arguments, one element each; this or `shell`.",
                optional(Shape::List { of: Box::new(Shape::Text) }),
                Some(Value::Null),
            ),
            param(
                "shell",
                "A script for `sh -e`; values reach it through its environment.",
                optional(Shape::Text),
                Some(Value::Null),
            ),
            param(
                "env",
                "Variables for the program; part of the fingerprint. The stage's own key `env` is the same.",
                Shape::Any,
                Some(json!({})),
            ),
        ],
        inputs: Vec::new(),
        outputs: Vec::new(),
    }
}

/// The kind of one `exec` stage: its ports are what the stage declares.
pub(super) fn kind(spec: &StageSpec) -> Kind {
    let port = |name: &str, types: &str| Port {
        name: name.to_owned(),
        doc: String::new(),
        port_type: PortType::Is(vec![types.to_owned()]),
        optional: false,
        many: false,
        empty: None,
        hands_on: BTreeMap::new(),
    };
    Kind {
        inputs: spec.inputs.iter().map(|entry| port(&entry.key, "any")).collect(),
        outputs: spec.outputs.iter().map(|it| port(&it.name, &it.port_type)).collect(),
        by_row: spec.rows.iter().flat_map(Node::entries).map(|entry| entry.key.clone()).collect(),
        ..documented()
    }
}

/// Reads what an `exec` stage says.
pub(super) fn read(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<Exec> {
    let spec = instance.spec;
    let before = mistakes.list.len();
    let mut add = |at, problem| mistakes.add(&pipeline.sources, at, problem);
    for entry in spec.with.entries() {
        let known = ["command", "shell", "env"];
        if !known.contains(&entry.key.as_str()) {
            let problem = Problem::UnknownParameter {
                kind: KIND.to_owned(),
                name: entry.key.clone(),
                nearest: nearest(&entry.key, known),
                known: known.join(", "),
            };
            add(entry.at, problem);
        }
    }
    check_names(spec, &mut add);
    let outputs = output_paths(spec, &mut add);
    let metrics = tools::metrics(spec, &mut add);
    let rows = tools::rows(spec, &mut add);
    let mut scope = instance.scope(pipeline);
    for entry in &spec.inputs {
        scope.words.insert(format!("inputs.{}", entry.key), format!("inputs/{}", entry.key));
    }
    for (name, path) in &outputs {
        scope.words.insert(format!("outputs.{name}"), path.clone());
    }
    // Both are read before either is given up, so that every mistake is found.
    let env = environment(spec, &scope, pipeline, mistakes);
    let command = command(spec, &scope, pipeline, mistakes);
    let tools = tools::tools(instance, pipeline, mistakes);
    let (env, command, tools) = (env?, command?, tools?);
    (mistakes.list.len() == before).then_some(Exec { command, env, outputs, tools, metrics, rows })
}

fn check_names(spec: &StageSpec, add: &mut impl FnMut(At, Problem)) {
    for input in spec.inputs.iter().filter(|input| !is_name(&input.key)) {
        add(input.at, Problem::BadName { what: format!("`{}`", input.key) });
    }
    let inputs = spec.inputs.iter().map(|input| ("INPUT", &input.key, input.at));
    let outputs = spec.outputs.iter().map(|output| ("OUTPUT", &output.name, output.at));
    let mut variables = BTreeMap::new();
    for (prefix, name, at) in inputs.chain(outputs) {
        let word = variable(prefix, name);
        if let Some(other) = variables.insert(word.clone(), name) {
            let words = format!("`{other}` and `{name}` are both `${word}` to the program");
            add(at, Problem::Exec(words));
        }
    }
}

/// Output name → path below the stage's folder.
fn output_paths(spec: &StageSpec, add: &mut impl FnMut(At, Problem)) -> BTreeMap<String, String> {
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    let mut paths = BTreeMap::new();
    for output in &spec.outputs {
        let path = output.path.trim_end_matches('/');
        if path.contains("${") {
            let words = "an output's path is not filled in: it lies in a folder of its stage's own";
            add(output.at, Problem::Exec(words.to_owned()));
        }
        if !path.split('/').all(plain) || path.split('/').next() == Some("inputs") {
            let words =
                format!("an output lies below the stage's own folder, not at `{}`", output.path);
            add(output.at, Problem::Exec(words));
        }
        paths.insert(output.name.clone(), path.to_owned());
    }
    paths
}

fn command(
    spec: &StageSpec,
    scope: &Scope<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<Command> {
    match (spec.with.get("command"), spec.with.get("shell")) {
        (Some(node), None) => {
            let filled = interpolate(node, scope, &pipeline.sources, mistakes)?;
            check_files(node, &filled, spec, pipeline, mistakes);
            Some(Command::Arguments(arguments(&filled, pipeline, mistakes)?))
        }
        (None, Some(node)) => Some(Command::Shell(scalar(node, "shell", pipeline, mistakes)?)),
        (both, _) => {
            let has = if both.is_some() { "has both: keep one" } else { "has neither" };
            let words = format!("stage `{}` needs `command` or `shell`, and {has}", spec.name);
            mistakes.add(&pipeline.sources, spec.at, Problem::Exec(words));
            None
        }
    }
}

/// Refuses arguments that name what lies beside the pipeline: the program would not find it, and what it holds would
/// be in no key.
fn check_files(
    written: &Node,
    filled: &Node,
    spec: &StageSpec,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    let words = filled.as_list();
    // What stands behind `sh -c TEXT` is for the text to read as it likes.
    let is_script = |it: &Node| it.as_text().is_some_and(is_short_c);
    let count = words.iter().skip(1).position(is_script).map_or(words.len(), |at| at + 1);
    let mut told = Vec::new();
    for (at, word) in words.iter().take(count).enumerate() {
        let Some(text) = word.as_text() else { continue };
        // `--script=up.py`
        let path =
            text.strip_prefix("--").and_then(|it| it.split_once('=')).map_or(text, |it| it.1);
        let is_path = if at == 0 { path.contains('/') } else { path.contains(['.', '/']) };
        let is_plain = !path.starts_with(['/', '.', '-']) || path.starts_with("./");
        let same = |output: &str| output.trim_end_matches('/') == path.trim_end_matches('/');
        let made = path.starts_with("inputs/") || spec.outputs.iter().any(|it| same(&it.path));
        let place = written.as_list().get(at).map_or(word.at, |it| it.at);
        let beside = pipeline.sources.get(place).base.join(path);
        let found = beside.is_file() || beside.is_dir() && path.contains('/');
        if !is_path || !is_plain || made || !found || told.contains(&path) {
            continue;
        }
        told.push(path);
        let name = std::path::Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        let name = if is_name(&name) { &*name } else { "script" };
        let input = if path.contains('/') { path.to_owned() } else { format!("./{path}") };
        let words = format!(
            "`{path}` lies beside the pipeline, and the program runs in a folder of its own: say \
             `inputs: {{ {name}: {input} }}`, and `${{inputs.{name}}}` here"
        );
        mistakes.add(&pipeline.sources, place, Problem::Exec(words));
    }
}

/// `-c`, or `-lc` and so on, with which a shell is given its script.
fn is_short_c(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

/// The stage's `env` and that in its `with`, which are one.
fn environment(
    spec: &StageSpec,
    scope: &Scope<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<BTreeMap<String, String>> {
    let mut variables = Some(BTreeMap::new());
    for node in [spec.with.get("env"), spec.env.as_ref()].into_iter().flatten() {
        let Some(filled) = interpolate(node, scope, &pipeline.sources, mistakes) else {
            variables = None;
            continue;
        };
        if !matches!(filled.data, Data::Map(_)) {
            variables = wrong(filled.at, "env", "a map", &filled, pipeline, mistakes);
        }
        for Entry { key, at, value } in filled.entries() {
            if !is_variable(key) {
                let words = format!("`{}` is no name of a variable", key.escape_debug());
                mistakes.add(&pipeline.sources, *at, Problem::Exec(words));
            }
            let value = scalar(value, key, pipeline, mistakes);
            let before = value.and_then(|value| variables.as_mut()?.insert(key.clone(), value));
            if before.is_some() {
                let words = format!("`{key}` is set in `with` already: keep one");
                mistakes.add(&pipeline.sources, *at, Problem::Exec(words));
            }
        }
    }
    variables
}

/// Whether a program can be given a variable of this name.
pub(super) fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn arguments(node: &Node, pipeline: &Pipeline, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    match &node.data {
        Data::List(items) if !items.is_empty() => {
            let item = |item| scalar(item, "an argument of `command`", pipeline, mistakes);
            let items: Vec<_> = items.iter().map(item).collect();
            items.into_iter().collect()
        }
        _ => {
            wrong(node.at, "command", "a list with at least the program", node, pipeline, mistakes)
        }
    }
}

fn scalar(node: &Node, what: &str, pipeline: &Pipeline, mistakes: &mut Mistakes) -> Option<String> {
    match &node.data {
        Data::Text(text) => Some(text.clone()),
        Data::Number(_) | Data::Boolean(_) => Some(node.as_typed(&pipeline.sources)),
        _ => wrong(node.at, what, "text", node, pipeline, mistakes),
    }
}

fn wrong<T>(
    at: At,
    what: &str,
    expected: &str,
    node: &Node,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let problem = Problem::WrongType {
        what: if what.contains('`') { what.to_owned() } else { format!("`{what}`") },
        expected: expected.to_owned(),
        found: match &node.data {
            Data::List(items) if items.is_empty() => "empty".to_owned(),
            _ => node.sort().to_owned(),
        },
    };
    mistakes.add(&pipeline.sources, at, problem);
    None
}
