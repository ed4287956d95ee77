//! Parameters against the catalogue: names, types, ranges, and defaults filled in.

use gradus_protocol::catalog::{Param, Range, Shape};
use serde_json::{Map, Value};

use super::{conduct, exec, files, instance::Instance, seed::SEED, stage::Stage};
use crate::spec::{At, Data, Entry, Mistakes, Node, Pipeline, Problem, interpolate, nearest};

/// The instance with its parameters, still without inputs.
pub(super) fn complete(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Stage {
    let spec = instance.spec;
    let mut stage = Stage {
        id: instance.id.clone(),
        spec: spec.name.clone(),
        prefix: spec.prefix.clone(),
        axes: instance.axes.clone(),
        kind: std::sync::Arc::clone(&instance.kind),
        params: Value::Null,
        seed: instance.seed,
        files: Vec::new(),
        inputs: Vec::new(),
        output_types: Vec::new(),
        exec: None,
        conduct: conduct::read(instance, pipeline, mistakes),
        at: spec.at,
    };
    if spec.kind == exec::KIND {
        stage.exec = exec::read(instance, pipeline, mistakes);
        stage.params = stage.exec.as_ref().map(exec::Exec::to_value).unwrap_or_default();
        return stage;
    }
    let before = mistakes.list.len();
    let (with, unfilled) = fill(instance, pipeline, mistakes);
    let mut check = Check { pipeline, mistakes, stage: &spec.name, unfilled, files: Vec::new() };
    let params = check.fields(&with, &instance.kind.params, &spec.kind, "", spec.at);
    stage.files = check.files;
    if mistakes.list.len() > before {
        // The stage stays, so that mistakes in its wiring are found too.
        return stage;
    }
    stage.params = params;
    stage
}

/// `with` with every value but the seed filled in, and the names of those that could not be.
fn fill(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> (Node, Vec<String>) {
    let scope = instance.scope(pipeline);
    let (mut filled, mut unfilled) = (Vec::new(), Vec::new());
    let is_seed = |entry: &&Entry| instance.kind.uses_seed && entry.key == SEED;
    for entry in instance.spec.with.entries().iter().filter(|entry| !is_seed(entry)) {
        match interpolate(&entry.value, &scope, &pipeline.sources, mistakes) {
            Some(value) => filled.push(Entry { key: entry.key.clone(), at: entry.at, value }),
            None => unfilled.push(entry.key.clone()),
        }
    }
    (Node { data: Data::Map(filled), at: instance.spec.with.at }, unfilled)
}

struct Check<'a> {
    pipeline: &'a Pipeline,
    mistakes: &'a mut Mistakes,
    stage: &'a str,
    /// Parameters that are given, by values that could not be filled in.
    unfilled: Vec<String>,
    files: Vec<(String, std::path::PathBuf)>,
}

impl Check<'_> {
    fn add(&mut self, at: At, problem: Problem) {
        self.mistakes.add(&self.pipeline.sources, at, problem);
    }

    /// A map of parameters; `pointer` is where it stands inside `with`.
    fn fields(&mut self, node: &Node, params: &[Param], of: &str, pointer: &str, at: At) -> Value {
        let mut values = Map::new();
        for entry in node.entries() {
            if !params.iter().any(|param| param.name == entry.key) {
                let names = params.iter().map(|param| param.name.as_str());
                let problem = Problem::UnknownParameter {
                    kind: of.to_owned(),
                    name: entry.key.clone(),
                    nearest: nearest(&entry.key, names.clone()),
                    known: names.collect::<Vec<_>>().join(", "),
                };
                self.add(entry.at, problem);
            }
        }
        for param in params {
            let value = match (node.get(&param.name), &param.default) {
                (Some(node), _) => {
                    let what = format!("`{}`", param.name);
                    let pointer = format!("{pointer}/{}", param.name);
                    self.value(node, &param.shape, &what, &pointer)
                }
                (None, Some(default)) => Some(default.clone()),
                (None, None) if pointer.is_empty() && self.unfilled.contains(&param.name) => None,
                (None, None) => {
                    let problem = Problem::MissingParameter {
                        stage: self.stage.to_owned(),
                        kind: of.to_owned(),
                        name: param.name.clone(),
                        doc: param.doc.clone(),
                    };
                    self.add(at, problem);
                    None
                }
            };
            if let Some(value) = value {
                values.insert(param.name.clone(), value);
            }
        }
        Value::Object(values)
    }

    fn value(&mut self, node: &Node, shape: &Shape, what: &str, pointer: &str) -> Option<Value> {
        let value = node.to_value();
        match (shape, &node.data) {
            (Shape::Boolean, Data::Boolean(_))
            | (Shape::Text, Data::Text(_))
            | (Shape::Any, _)
            | (Shape::Optional { .. }, Data::Null) => Some(value),
            (Shape::Optional { of }, _) => self.value(node, of, what, pointer),
            (Shape::Integer(range), Data::Number(number)) if !number.is_f64() => {
                self.in_range(node, number.as_f64()?, range, what).then_some(value)
            }
            (Shape::Number(range), Data::Number(number)) => {
                let float = number.as_f64()?;
                // 1 and 1.0 are one value, and so one fingerprint.
                self.in_range(node, float, range, what).then(|| Value::from(float))
            }
            (Shape::Path, Data::Text(text)) => {
                let path = files::resolve(text, node.at, self.pipeline, self.mistakes)?;
                self.files.push((pointer.to_owned(), path.clone()));
                Some(Value::from(path.to_string_lossy().into_owned()))
            }
            (Shape::Choice { options }, Data::Text(word)) => {
                if options.iter().any(|option| option.value == *word) {
                    return Some(value);
                }
                let words: Vec<_> = options.iter().map(|o| format!("`{}`", o.value)).collect();
                let rule = format!("one of {}", words.join(", "));
                let nearest = nearest(word, options.iter().map(|option| option.value.as_str()));
                self.out_of_range(node, what, rule, nearest);
                None
            }
            (Shape::List { of }, Data::List(items)) => {
                let items: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| {
                        self.value(
                            item,
                            of,
                            &format!("item {i} of {what}"),
                            &format!("{pointer}/{i}"),
                        )
                    })
                    .collect();
                items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            (Shape::Map { of }, Data::Map(entries)) => {
                let values: Vec<_> = entries
                    .iter()
                    .map(|Entry { key, value, .. }| {
                        let (what, pointer) =
                            (format!("`{key}` in {what}"), format!("{pointer}/{}", escaped(key)));
                        self.value(value, of, &what, &pointer).map(|value| (key.clone(), value))
                    })
                    .collect();
                values.into_iter().collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            (Shape::Record { fields }, Data::Map(_)) => {
                Some(self.fields(node, fields, what.trim_matches('`'), pointer, node.at))
            }
            _ => {
                let (what, expected) = (what.to_owned(), expected(shape));
                let found = node.described();
                self.add(node.at, Problem::WrongType { what, expected, found });
                None
            }
        }
    }

    fn in_range(&mut self, node: &Node, number: f64, range: &Range, what: &str) -> bool {
        let sound = range.min.is_none_or(|min| number >= min)
            && range.above.is_none_or(|above| number > above)
            && range.max.is_none_or(|max| number <= max);
        if !sound {
            let rules = [
                range.min.map(|min| format!("at least {min}")),
                range.above.map(|above| format!("above {above}")),
                range.max.map(|max| format!("at most {max}")),
            ];
            let rule = rules.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            self.out_of_range(node, what, rule, None);
        }
        sound
    }

    fn out_of_range(&mut self, node: &Node, what: &str, rule: String, nearest: Option<String>) {
        let (what, found) = (what.to_owned(), node.described());
        self.add(node.at, Problem::OutOfRange { what, rule, found, nearest });
    }
}

/// A key as part of a JSON pointer (RFC 6901, section 3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer(_) => "a whole number".to_owned(),
        Shape::Number(_) => "a number".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Path => "the path of a file".to_owned(),
        Shape::Choice { options } => {
            let words: Vec<_> = options.iter().map(|o| format!("`{}`", o.value)).collect();
            format!("one of {}", words.join(", "))
        }
        Shape::List { .. } => "a list".to_owned(),
        Shape::Record { .. } | Shape::Map { .. } => "a map".to_owned(),
        Shape::Optional { of } => format!("{} or null", expected(of)),
        Shape::Any => "a value".to_owned(),
    }
}
