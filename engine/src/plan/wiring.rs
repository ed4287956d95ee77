//! What each input takes: another stage's output, all variants of one, or a file.

use std::collections::{HashMap, HashSet};

use gradus_protocol::catalog::Port;

use super::{
    axes::{self, Axis},
    files,
    instance::Instance,
    rounds::{self, Before},
    stage::{From, Stage, Wire},
    when::LeftOut,
};
use crate::spec::{
    Arm, At, Data, Mistakes, Node, PREVIOUS, Pipeline, Problem, Reference, Scope, interpolate,
    nearest,
};

/// Fills in the inputs of every stage.
pub(super) fn join(
    stages: &mut [Stage],
    instances: &[Instance<'_>],
    left_out: &[LeftOut],
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    let by_id: HashMap<&str, &Instance<'_>> =
        instances.iter().map(|it| (it.id.as_str(), it)).collect();
    let names: HashSet<&str> = pipeline.names.iter().map(String::as_str).collect();
    let mut by_spec: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, stage) in stages.iter().enumerate() {
        by_spec.entry(stage.spec.clone()).or_default().push(index);
    }
    rounds::check(pipeline, mistakes);
    for index in 0..stages.len() {
        let Some(instance) = by_id.get(stages[index].id.as_str()) else { continue };
        let stage = &instance.spec.name;
        let mut joiner = Joiner {
            stages,
            left_out,
            pipeline,
            mistakes,
            stage,
            axes: &instance.axes,
            arms: &instance.arms,
            names: &names,
            by_spec: &by_spec,
        };
        let wires = joiner.wires(instance);
        stages[index].inputs = wires;
    }
}

struct Joiner<'a> {
    stages: &'a [Stage],
    left_out: &'a [LeftOut],
    pipeline: &'a Pipeline,
    mistakes: &'a mut Mistakes,
    stage: &'a str,
    /// Where it stands: what it reads stands there, too, as far as they came by the same includes.
    axes: &'a [Axis],
    arms: &'a [Arm],
    /// All names under `stages`.
    names: &'a HashSet<&'a str>,
    /// The instances of each of them.
    by_spec: &'a HashMap<String, Vec<usize>>,
}

impl Joiner<'_> {
    fn wires(&mut self, instance: &Instance<'_>) -> Vec<Wire> {
        let (spec, kind) = (instance.spec, &instance.kind);
        let mut wires = Vec::new();
        for entry in &spec.inputs {
            let Some(port) = kind.inputs.iter().find(|port| port.name == entry.key) else {
                let names = kind.inputs.iter().map(|port| port.name.as_str());
                let known = names.clone().collect::<Vec<_>>().join(", ");
                let problem = Problem::UnknownInput {
                    kind: kind.kind.clone(),
                    name: entry.key.clone(),
                    nearest: nearest(&entry.key, names),
                    known: if known.is_empty() { "none".to_owned() } else { known },
                };
                self.add(entry.at, problem);
                continue;
            };
            let scope = instance.scope(self.pipeline);
            let sources = &self.pipeline.sources;
            let Some(value) = interpolate(&entry.value, &scope, sources, self.mistakes) else {
                continue;
            };
            wires.extend(self.port(port, &value));
        }
        let given = |port: &Port| spec.inputs.iter().any(|entry| entry.key == port.name);
        for port in kind.inputs.iter().filter(|port| !port.optional && !given(port)) {
            let problem = Problem::MissingInput {
                stage: spec.name.clone(),
                kind: kind.kind.clone(),
                name: port.name.clone(),
                doc: port.doc.clone(),
            };
            self.add(spec.at, problem);
        }
        wires
    }

    /// All that goes into one port.
    fn port(&mut self, port: &Port, value: &Node) -> Vec<Wire> {
        let items = match &value.data {
            Data::List(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        let before = self.mistakes.list.len();
        let mut wires = Vec::new();
        if items.is_empty() && !port.optional {
            let problem = Problem::WrongType {
                what: format!("the input `{}`", port.name),
                expected: "the name of a stage or a file".to_owned(),
                found: "an empty list".to_owned(),
            };
            self.add(value.at, problem);
        }
        for item in items {
            let Some(text) = item.as_text() else {
                let problem = Problem::WrongType {
                    what: format!("the input `{}`", port.name),
                    expected: "the name of a stage or a file".to_owned(),
                    found: item.sort().to_owned(),
                };
                self.add(item.at, problem);
                continue;
            };
            let froms = self.sources(text, &port.name, item.at);
            wires.extend(froms.into_iter().map(|from| Wire {
                port: port.name.clone(),
                from,
                fan_in: port.many,
                at: item.at,
            }));
        }
        if wires.is_empty() && !port.optional && self.mistakes.list.len() == before {
            self.nothing_left(port, items, value.at);
        }
        if wires.len() > 1 && !port.many {
            let from = value.as_text().map_or("the list".to_owned(), |text| format!("`{text}`"));
            let first = match &wires[0].from {
                From::Stage(index, output) => format!("{}.{output}", self.stages[*index].id),
                From::File(path) => path.display().to_string(),
            };
            let count = wires.len();
            let problem = Problem::FanIn { port: port.name.clone(), from, count, first };
            self.add(value.at, problem);
        }
        wires
    }

    /// A port that needs something, and all that it names with `[*]` is left out.
    fn nothing_left(&mut self, port: &Port, items: &[Node], at: At) {
        let gone = items.iter().find_map(|item| {
            let full = self.full(item.as_text()?, item.at);
            let reference = Reference::parse(&full)?;
            let left_out = self.left_out.iter().find(|it| it.spec == reference.stage)?;
            Some((item.as_text()?.to_owned(), left_out.because.clone()))
        });
        if let Some((wanted, because)) = gone {
            let input = format!("{}.{}", self.stage, port.name);
            self.add(at, Problem::LeftOut { input, wanted, because });
            return;
        }
        let empty = items.iter().find_map(|it| {
            let wanted = rounds::behind(it.as_text()?, it.at, self.pipeline)?;
            let before = rounds::before(wanted, it.at, (self.arms, self.axes), self.pipeline);
            let is_known = self.names.contains(Reference::parse(&self.full(wanted, it.at))?.stage);
            (is_known && matches!(before, Before::First(_))).then_some(wanted)
        });
        if let Some(wanted) = empty {
            self.add(at, rounds::nothing_first(wanted));
        }
    }

    /// What of the round before, or of what stands for it in the first, goes into the port.
    fn previous(&mut self, wanted: &str, port: &str, at: At) -> Vec<From> {
        let prefix = self.prefix(at).to_owned();
        let full = format!("{prefix}{wanted}");
        let known = Reference::parse(&full).filter(|it| self.names.contains(it.stage));
        let Some(reference) = known else {
            let names = self.pipeline.names.iter().filter_map(|it| it.strip_prefix(&prefix));
            let near = nearest(wanted.split(['.', '[']).next().unwrap_or(wanted), names);
            let problem = Problem::UnknownStage {
                stage: self.stage.to_owned(),
                wanted: format!("{PREVIOUS}/{wanted}"),
                nearest: near.map(|near| format!("{PREVIOUS}/{near}")),
            };
            self.add(at, problem);
            return Vec::new();
        };
        match rounds::before(wanted, at, (self.arms, self.axes), self.pipeline) {
            Before::Round(axes) => self.outputs(&reference, wanted, port, at, &axes),
            Before::First(value) => {
                let scope = Scope {
                    modules: &self.pipeline.modules,
                    budget: Some(&self.pipeline.budget),
                    arms: self.arms,
                    ..Scope::default()
                };
                let filled = interpolate(value, &scope, &self.pipeline.sources, self.mistakes);
                let Some(filled) = filled else { return Vec::new() };
                let items = match filled.data {
                    Data::Null => Vec::new(),
                    Data::List(items) => items,
                    _ => vec![filled],
                };
                let mut froms = Vec::new();
                for item in items {
                    if let Some(text) = item.as_text() {
                        froms.extend(self.sources(text, port, item.at));
                    } else {
                        let problem = Problem::WrongType {
                            what: format!("what stands for `{PREVIOUS}/{wanted}`"),
                            expected: "the name of a stage or a file".to_owned(),
                            found: item.sort().to_owned(),
                        };
                        self.add(item.at, problem);
                    }
                }
                froms
            }
            Before::Nowhere => {
                self.add(at, rounds::nothing_first(wanted));
                Vec::new()
            }
        }
    }

    fn sources(&mut self, text: &str, port: &str, at: At) -> Vec<From> {
        if let Some(wanted) = rounds::behind(text, at, self.pipeline) {
            return self.previous(wanted, port, at);
        }
        let full = self.full(text, at);
        let prefix = &full[..full.len() - text.len()];
        let reference = Reference::parse(&full);
        let known = reference.filter(|it| self.names.contains(it.stage));
        // `sft.out/file` is no output of `sft`.
        if let Some(reference) = known.filter(|it| !it.output.is_some_and(|it| it.contains('/'))) {
            return self.outputs(&reference, text, port, at, self.axes);
        }
        let modules = &self.pipeline.modules;
        let module = modules.iter().filter(|it| it.prefix.len() > prefix.len());
        let module =
            module.filter(|it| full.starts_with(&it.prefix)).max_by_key(|it| it.prefix.len());
        if module.is_some_and(|it| !it.sound) {
            // Its file could not be read: nobody knows what stages it has.
            return Vec::new();
        }
        let source = self.pipeline.sources.get(at);
        let is_path = text.contains('/') && module.is_none();
        if is_path && text.starts_with("previous/") && !source.base.join(text).exists() {
            self.add(at, rounds::no_rounds(text));
            return Vec::new();
        }
        if is_path || source.trusted || source.base.join(text).exists() {
            let file = files::resolve(text, at, self.pipeline, self.mistakes);
            return file.map(From::File).into_iter().collect();
        }
        let reference = Reference::parse(text);
        let wanted = reference.as_ref().map_or(text, |reference| reference.stage);
        let names = self.pipeline.names.iter().filter_map(|name| name.strip_prefix(prefix));
        let near = nearest(wanted, names);
        let output = reference.and_then(|reference| reference.output);
        // `rows.jsonl` is near the stage `row`, but not near any of its outputs: it was meant as a file.
        let is_file = module.is_none()
            && output.is_some_and(|output| {
                let like = |near| self.has_output_like(&format!("{prefix}{near}"), output);
                near.as_ref().is_none_or(|near| !like(near))
            });
        let problem = if is_file {
            let relative_to = source.base_in_words();
            Problem::MissingFile { path: text.to_owned(), relative_to }
        } else {
            let (stage, wanted) = (self.stage.to_owned(), wanted.to_owned());
            Problem::UnknownStage { stage, wanted, nearest: near }
        };
        self.add(at, problem);
        Vec::new()
    }

    /// What `text` is called from the pipeline's own file; `at` says in which file it stands.
    fn full(&self, text: &str, at: At) -> String {
        format!("{}{text}", self.prefix(at))
    }

    /// What stands before the names of the file that `at` is in.
    fn prefix(&self, at: At) -> &'_ str {
        let module = self.pipeline.sources.get(at).module;
        self.pipeline.modules.get(module).map_or("", |it| it.prefix.as_str())
    }

    fn has_output_like(&self, stage: &str, output: &str) -> bool {
        let stages = self.stages.iter().filter(|it| it.spec == stage);
        let outputs = stages.flat_map(|it| &it.kind.outputs).map(|port| port.name.as_str());
        nearest(output, outputs).is_some()
    }

    /// The outputs that a reference to a known stage means,
    /// where a stage stands at `axes`.
    fn outputs(
        &mut self,
        reference: &Reference<'_>,
        text: &str,
        port: &str,
        at: At,
        axes: &[Axis],
    ) -> Vec<From> {
        let prefix = self.prefix(at);
        let shared: Vec<&Axis> = axes.iter().filter(|axis| axis.is_above(prefix)).collect();
        // Those of the same points, each with its name as it is in this file.
        let of_spec: Vec<(usize, String)> = self
            .by_spec
            .get(reference.stage)
            .into_iter()
            .flatten()
            .map(|index| (*index, &self.stages[*index]))
            .filter(|(_, stage)| shared.iter().all(|axis| stage.axes.contains(axis)))
            .map(|(index, stage)| (index, stage.called_below(prefix, axes)))
            .collect();
        let own = &reference.stage[prefix.len()..];
        let wanted =
            reference.variant.map_or(own.to_owned(), |variant| format!("{own}[{variant}]"));
        let chosen: Vec<usize> = of_spec
            .iter()
            .filter(|(_, name)| axes::names(&wanted, name))
            .map(|(index, _)| *index)
            .collect();
        let is_meant = |it: &&LeftOut| {
            it.spec == reference.stage
                && reference.variant != Some("*")
                && axes::names(&format!("{prefix}{wanted}"), &it.id)
        };
        if chosen.is_empty()
            && let Some(gone) = self.left_out.iter().find(is_meant)
        {
            let (input, wanted) = (format!("{}.{port}", self.stage), text.to_owned());
            self.add(at, Problem::LeftOut { input, wanted, because: gone.because.clone() });
        } else if chosen.is_empty() && !of_spec.is_empty() {
            let known: Vec<_> = of_spec.iter().map(|(_, name)| format!("`{name}`")).collect();
            let problem = Problem::UnknownVariant {
                stage: own.to_owned(),
                wanted: reference.variant.unwrap_or_default().to_owned(),
                known: known.join(", "),
            };
            self.add(at, problem);
        }
        let mut froms = Vec::new();
        for index in chosen {
            let outputs = &self.stages[index].kind.outputs;
            let found = match reference.output {
                Some(name) => outputs.iter().find(|port| port.name == name),
                None => outputs.first(),
            };
            if let Some(port) = found {
                froms.push(From::Stage(index, port.name.clone()));
                continue;
            }
            let names = outputs.iter().map(|port| port.name.as_str());
            let stage = reference.stage.to_owned();
            let problem = match reference.output {
                Some(wanted) if !outputs.is_empty() => Problem::UnknownOutput {
                    stage,
                    wanted: wanted.to_owned(),
                    nearest: nearest(wanted, names.clone()),
                    known: names.collect::<Vec<_>>().join(", "),
                },
                _ => Problem::NoOutputs(stage),
            };
            self.add(at, problem);
            // Variants of one stage have the same outputs: saying it once is enough.
            break;
        }
        froms
    }

    fn add(&mut self, at: At, problem: Problem) {
        self.mistakes.add(&self.pipeline.sources, at, problem);
    }
}

/// The name that the worker of `reader` sees for a wire: a stage's as it is in the reader's own file.
pub(crate) fn label(wire: &Wire, reader: &Stage, stages: &[Stage]) -> String {
    match &wire.from {
        _ if !wire.fan_in => wire.port.clone(),
        From::Stage(index, _) => stages[*index].called_below(&reader.prefix, &reader.axes),
        From::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}
