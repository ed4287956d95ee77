//! Plans, kinds, and other lists.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gradus_engine::{
    plan::{From, LeftOut, Plan},
    run::{Estimate, Preview, State},
    spec::Mistakes,
};
use gradus_protocol::catalog::{Kind, Param, Port, PortType, Range, Shape};
use serde_json::json;

use super::{
    diagnostics,
    paint::{duration, harmless, pad, size},
    screen::Terminal,
    streams::complain,
};

/// In seconds.
const WORTH_SAYING: f64 = 1.0;

impl Terminal {
    /// Prints which pipelines are sound and what is wrong with the others.
    pub(crate) fn checked(&self, plans: &[(PathBuf, Plan)], mistakes: &Mistakes) -> ExitCode {
        let code = ExitCode::from(u8::from(!mistakes.list.is_empty()));
        if self.json {
            let rows = plans.iter().map(|(path, plan)| {
                let warnings = diagnostics::list(&plan.warnings);
                json!({ "pipeline": path, "stages": plan.stages.len(), "warnings": warnings })
            });
            let mistakes = diagnostics::list(&mistakes.list);
            self.value(&json!({ "sound": rows.collect::<Vec<_>>(), "mistakes": mistakes }));
            return code;
        }
        complain(&diagnostics::render(mistakes, self.err.colour));
        for (path, plan) in plans {
            self.warnings_of(plan);
            let count = plan.stages.len();
            let word = if count == 1 { "stage" } else { "stages" };
            let left_out = match plan.left_out.len() {
                0 => String::new(),
                count => format!(", {count} left out"),
            };
            let mark = self.out.green("✓");
            self.line(&format!("{mark} {}: {count} {word}{left_out}", path.display()));
        }
        code
    }

    /// The files of a new project, and whether they are new.
    pub(crate) fn project_made(&self, files: &[(PathBuf, bool)]) {
        if self.json {
            let rows = files.iter().map(|(path, new)| json!({ "file": path, "made": new }));
            return self.value(&rows.collect::<Vec<_>>());
        }
        for (path, new) in files {
            let word = if *new { self.out.green("made") } else { "kept".to_owned() };
            self.line(&format!("{word}  {}", path.display()));
        }
        let pipeline = files.iter().map(|(path, _)| path).find(|it| it.ends_with("pipeline.yaml"));
        if let Some(pipeline) = pipeline {
            self.line(&format!("next: gradus run {}", pipeline.display()));
        }
    }

    /// What was written into a pipeline; nothing for stages that were thawed.
    pub(crate) fn frozen(&self, stage: &str, results: &BTreeMap<String, String>, file: &Path) {
        if self.json {
            return self.value(&json!({ "file": file, "stage": stage, "frozen": results }));
        }
        for (stage, result) in results {
            self.line(&format!("{stage} keeps {result}"));
        }
        if results.is_empty() {
            self.line(&format!("{stage} may be computed again"));
        }
    }

    /// What a person should hear of a plan that can run.
    /// Says that nobody could look at the files that a pipeline's stages read.
    pub(crate) fn not_looked(&self, path: &Path, why: &str) {
        if !self.json {
            let words =
                format!("the files that {} reads were not looked at: {why}", path.display());
            complain(&format!("{} {words}\n", self.err.yellow("warning:")));
        }
    }

    pub(crate) fn warnings_of(&self, plan: &Plan) {
        if !self.json {
            complain(&diagnostics::render_all(&plan.warnings, self.err.colour));
        }
    }

    pub(crate) fn graph(&self, plan: &Plan, drawing: &str) {
        if !self.json {
            return self.text(drawing);
        }
        let stages = plan.stages.iter().map(|stage| {
            let inputs: Vec<_> = stage
                .inputs
                .iter()
                .map(|wire| match &wire.from {
                    From::Stage(index, output) => json!({
                        "port": wire.port, "stage": plan.stages[*index].id, "output": output,
                    }),
                    From::File(path) => json!({ "port": wire.port, "file": path }),
                })
                .collect();
            json!({ "stage": stage.id, "kind": stage.kind.kind, "inputs": inputs })
        });
        let left_out = plan
            .left_out
            .iter()
            .map(|it| json!({ "stage": it.id, "kind": it.kind.kind, "because": it.because }));
        self.value(&json!({
            "pipeline": plan.name,
            "stages": stages.collect::<Vec<_>>(),
            "left_out": left_out.collect::<Vec<_>>(),
        }));
    }

    /// Prints what a run would do; `left_out` are those of the plan's stages that it would do without.
    pub(crate) fn previews(
        &self,
        plan: &Plan,
        previews: &[Preview],
        left_out: &[LeftOut],
        estimate: Option<&Estimate>,
    ) {
        let word = |state: &State| match state {
            State::Cached => "cached",
            State::Remote => "remote",
            State::WouldRun(_) => "would run",
            State::Unknown => "unknown",
        };
        if self.json {
            let rows = previews.iter().map(|preview| {
                let why = match &preview.state {
                    State::WouldRun(why) => Some(why),
                    State::Cached | State::Remote | State::Unknown => None,
                };
                let stage = &plan.stages[preview.stage];
                let word = word(&preview.state).replace(' ', "_");
                json!({
                            "stage": stage.id, "kind": stage.kind.kind, "state": word,
                            "cause": why.map(|why| why.cause),
                            "reasons": why.map_or(&[][..], |why| &why.reasons),
                            "goes_on_from": why.and_then(|why| why.goes_on_from),
                "reached": why.and_then(|why| why.reached.as_ref()),
                "keeps_rows": why.is_some_and(|why| why.keeps_rows),
                            "frozen": preview.frozen,
                        })
            });
            let left_out = left_out.iter().map(|it| {
                json!({
                    "stage": it.id, "kind": it.kind.kind, "state": "left_out",
                    "cause": null, "reasons": [it.because],
                })
            });
            let rows: Vec<_> = rows.chain(left_out).collect();
            let estimate =
                estimate.map(|it| json!({ "seconds": it.seconds, "unknown": it.unknown }));
            return self
                .value(&json!({ "pipeline": plan.name, "stages": rows, "estimate": estimate }));
        }
        let stages = || previews.iter().map(|it| &plan.stages[it.stage]);
        let names = stages()
            .map(|it| (&it.id, &it.kind))
            .chain(left_out.iter().map(|it| (&it.id, &it.kind)));
        let names: Vec<_> = names.collect();
        let ids = names.iter().map(|(id, _)| id.chars().count()).max().unwrap_or(0);
        let kinds = names.iter().map(|(_, kind)| kind.kind.len()).max().unwrap_or(0);
        for preview in previews {
            let stage = &plan.stages[preview.stage];
            let reason = match &preview.state {
                State::Cached => match &preview.frozen {
                    None => String::new(),
                    Some(reasons) if reasons.is_empty() => "frozen, and as it would be".to_owned(),
                    Some(reasons) => harmless(&format!(
                        "frozen; else it would run because of {}: `gradus freeze --thaw` lets it",
                        reasons.join(", ")
                    )),
                },
                State::Remote => "would be fetched".to_owned(),
                State::WouldRun(why) => harmless(&why.to_string()),
                State::Unknown => "depends on what runs before it".to_owned(),
            };
            let word = pad(word(&preview.state), 9);
            let word = match preview.state {
                State::Cached | State::Remote => self.out.dim(&word),
                State::WouldRun(_) => self.out.yellow(&word),
                State::Unknown => word,
            };
            let line = format!(
                "{}  {}  {word}  {reason}",
                pad(&stage.id, ids),
                self.out.dim(&pad(&stage.kind.kind, kinds)),
            );
            self.line(line.trim_end());
        }
        for LeftOut { id, kind, because, .. } in left_out {
            let (id, kind) = (pad(id, ids), pad(&kind.kind, kinds));
            self.line(&self.out.dim(&format!("{id}  {kind}  {}  {because}", pad("left out", 9))));
        }
        if let Some(estimate) = estimate.filter(|it| it.seconds >= WORTH_SAYING) {
            let unknown = match estimate.unknown.len() {
                0 => String::new(),
                1 => ", and what one stage takes is not known".to_owned(),
                count => format!(", and what {count} stages take is not known"),
            };
            let took = duration(estimate.seconds);
            self.line(&format!("about {took}, from what these stages took before{unknown}"));
        }
    }

    /// JSON in either format: it is for an editor.
    pub(crate) fn schema(&self, schema: &serde_json::Value) {
        self.value(schema);
    }

    pub(crate) fn kinds(&self, kinds: &[Kind]) {
        if self.json {
            return self.value(&kinds);
        }
        let width = kinds.iter().map(|kind| kind.kind.len()).max().unwrap_or(0);
        for kind in kinds {
            self.line(&format!("{}  {}", self.out.bold(&pad(&kind.kind, width)), kind.summary()));
        }
    }

    pub(crate) fn kind(&self, kind: &Kind) {
        if self.json {
            return self.value(kind);
        }
        self.line(&format!(
            "{}  {}",
            self.out.bold(&kind.kind),
            self.out.dim(&format!("revision {}", kind.revision))
        ));
        self.line("");
        self.line(&kind.doc);
        if !kind.params.is_empty() {
            self.line(&format!("\n{}", self.out.bold("Parameters (`with`)")));
            self.params(&kind.params, 1);
        }
        for (title, ports) in [("Inputs", &kind.inputs), ("Outputs", &kind.outputs)] {
            if !ports.is_empty() {
                self.line(&format!("\n{}", self.out.bold(title)));
                for port in ports {
                    self.port(port);
                }
            }
        }
        if kind.uses_seed {
            self.line(&format!(
                "\n{}",
                self.out.dim("It also takes `seed` in `with`, by default the pipeline's: another seed, other random choices.")
            ));
        }
    }

    fn params(&self, params: &[Param], depth: usize) {
        let indent = "  ".repeat(depth);
        for param in params {
            let default = match &param.default {
                None => "required".to_owned(),
                Some(default) => format!("default {default}"),
            };
            let head =
                format!("{} ({}; {default})", self.out.green(&param.name), shape(&param.shape));
            self.line(&format!("{indent}{head}"));
            for line in param.doc.lines() {
                self.line(format!("{indent}  {line}").trim_end());
            }
            match &param.shape {
                Shape::Record { fields } => self.params(fields, depth + 1),
                Shape::Choice { options } => {
                    for option in options.iter().filter(|option| !option.doc.is_empty()) {
                        let first = option.doc.lines().next().unwrap_or_default();
                        self.line(&format!("{indent}  `{}`: {first}", option.value));
                    }
                }
                _ => {}
            }
        }
    }

    fn port(&self, port: &Port) {
        let types = match &port.port_type {
            PortType::Is(types) => types.join(" or "),
            PortType::ByParameter { parameter, types } => {
                let types: Vec<_> = types.iter().map(|(_, name)| name.as_str()).collect();
                format!("{}, by `{parameter}`", types.join(" or "))
            }
            PortType::SameAs { input } => format!("what came in at `{input}`"),
        };
        let mut notes = vec![types];
        if port.optional {
            notes.push("optional".to_owned());
        }
        if port.many {
            notes.push("one or more".to_owned());
        }
        self.line(&format!("  {} ({})", self.out.green(&port.name), notes.join("; ")));
        for line in port.doc.lines() {
            self.line(format!("    {line}").trim_end());
        }
    }

    pub(crate) fn exported(&self, files: &[(String, PathBuf, u64)]) {
        if self.json {
            let rows = files
                .iter()
                .map(|(port, path, bytes)| json!({ "output": port, "path": path, "bytes": bytes }));
            return self.value(&json!({ "exported": rows.collect::<Vec<_>>() }));
        }
        for (port, path, bytes) in files {
            self.line(&format!("{port} → {} ({})", path.display(), size(*bytes)));
        }
    }

    pub(crate) fn doctor(&self, rows: &[(String, Result<String, String>)]) {
        if self.json {
            let rows = rows.iter().map(|(what, found)| {
                json!({ "what": what, "found": found.as_ref().ok(), "problem": found.as_ref().err() })
            });
            return self.value(&rows.collect::<Vec<_>>());
        }
        let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, found) in rows {
            let (mark, words) = match found {
                Ok(found) => (self.out.green("✓"), found),
                Err(why) => (self.out.red("✗"), why),
            };
            self.line(&format!("{mark} {}  {words}", pad(what, width)));
        }
    }
}

fn shape(shape_of: &Shape) -> String {
    match shape_of {
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer(range) => format!("whole number{}", bounds(range)),
        Shape::Number(range) => format!("number{}", bounds(range)),
        Shape::Text => "text".to_owned(),
        Shape::Path => "path of a file".to_owned(),
        Shape::Choice { options } => {
            options.iter().map(|option| option.value.as_str()).collect::<Vec<_>>().join(" | ")
        }
        Shape::List { of } => format!("list of {}", shape(of)),
        Shape::Map { of } => format!("map of {}", shape(of)),
        Shape::Record { .. } | Shape::Any => "map".to_owned(),
        Shape::Optional { of } => format!("{} or null", shape(of)),
    }
}

fn bounds(range: &Range) -> String {
    let word = |sign: &str, bound: Option<f64>| {
        bound.map_or_else(String::new, |bound| format!(" {sign} {bound}"))
    };
    [word("≥", range.min), word(">", range.above), word("≤", range.max)].concat()
}
