//! What made an artifact: as a tree, as a value, as a picture.

use std::fmt::Write;

use gradus_cache::Form;
use gradus_engine::{
    plan::{Group, Origin, Row, short},
    run::{Ancestor, Lineage, Source},
};
use gradus_protocol::catalog::Catalog;
use serde_json::{Value, json};

use super::{
    explanation::{made_as_json, made_in_words},
    paint::{harmless, size},
    screen::Terminal,
};

impl Terminal {
    pub(crate) fn lineage(&self, lineage: &Lineage, catalog: &Catalog) {
        if self.json {
            return self.value(&as_json(lineage));
        }
        let Some(maker) = lineage.actions.first() else { return };
        let form = if lineage.artifact.form == Form::Tree { "folder" } else { "file" };
        let name = format!("{}.{}", maker.made.stage, lineage.output);
        let inside = lineage.inside.as_ref().map_or(String::new(), |path| format!("{path} in "));
        self.line(&format!(
            "{inside}{}  {form}, {}, {}",
            self.out.bold(&name),
            size(lineage.artifact.bytes),
            lineage.artifact.digest
        ));
        for (stage, run) in &lineage.also {
            self.line(&self.out.dim(&format!("the same bytes as {stage} of run {run}")));
        }
        let mut shown = vec![false; lineage.actions.len()];
        let mut tree = Tree { terminal: self, lineage, catalog, shown: &mut shown };
        tree.action(0, "");
    }

    /// Boxes for stages, slanted ones for files, an arrow for each thing that was read.
    pub(crate) fn lineage_in_mermaid(&self, lineage: &Lineage) {
        let quoted = |text: &str| harmless(text).replace('"', "#quot;");
        let mut text = "graph BT\n".to_owned();
        let mut files: Vec<(&str, &str)> = Vec::new();
        // Writing into a `String` cannot fail.
        for (index, Ancestor { made, .. }) in lineage.actions.iter().enumerate() {
            let (stage, kind) = (quoted(&made.stage), quoted(&made.kind));
            let _ = writeln!(text, "  s{index}[\"{stage}<br/><small>{kind}</small>\"]");
        }
        for (index, action) in lineage.actions.iter().enumerate() {
            for source in &action.sources {
                let name = quoted(&source.name);
                if let Some(from) = source.action {
                    let _ = writeln!(text, "  s{from} -->|{name}| s{index}");
                    continue;
                }
                let origin = source.origin.as_ref().map(ToString::to_string);
                let file = (source.digest.as_str(), origin.as_deref().unwrap_or(&source.name));
                let known = files.iter().position(|(digest, _)| *digest == file.0);
                let number = known.unwrap_or(files.len());
                if known.is_none() {
                    let (path, digest) = (quoted(file.1), short(file.0));
                    let _ = writeln!(text, "  f{number}[/\"{path}<br/><small>{digest}</small>\"/]");
                    files.push((&source.digest, ""));
                }
                let _ = writeln!(text, "  f{number} -->|{name}| s{index}");
            }
        }
        let output = quoted(&lineage.output);
        let digest = short(&lineage.artifact.digest.to_string()).to_owned();
        let _ = writeln!(text, "  s0 --> artifact([\"{output}<br/><small>{digest}</small>\"])");
        if self.json {
            return self.value(&json!({ "mermaid": text }));
        }
        self.text(&text);
    }
}

struct Tree<'a> {
    terminal: &'a Terminal,
    lineage: &'a Lineage,
    catalog: &'a Catalog,
    /// What came before: its sources are not told again.
    shown: &'a mut Vec<bool>,
}

impl Tree<'_> {
    fn action(&mut self, index: usize, indent: &str) {
        let Ancestor { made, sources, .. } = &self.lineage.actions[index];
        let paint = self.terminal.out;
        let revision = &made.facts.table.0["revision"];
        let kind = paint.dim(&format!("{} revision {revision}", made.kind));
        self.terminal.line(&format!("{indent}{}  {kind}", paint.bold(&harmless(&made.stage))));
        if std::mem::replace(&mut self.shown[index], true) {
            return self.terminal.line(&format!("{indent}{}", paint.dim("told above")));
        }
        self.terminal.line(&format!("{indent}{}", paint.dim(&made_in_words(made))));
        let parameters = not_defaults(&self.lineage.actions[index], self.catalog);
        if !parameters.is_empty() {
            self.terminal.line(&format!("{indent}{}", harmless(&parameters.join(", "))));
        }
        for (i, source) in sources.iter().enumerate() {
            let is_last = i + 1 == sources.len();
            let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.terminal.line(&format!("{indent}{branch}{}", in_words(source)));
            if let Some(action) = source.action {
                self.action(action, &format!("{indent}{below}"));
            }
        }
    }
}

fn in_words(source: &Source) -> String {
    let origin = match &source.origin {
        Some(Origin::File { file }) => format!("file {file}"),
        Some(origin @ Origin::Stage { .. }) if source.action.is_none() => {
            format!("{origin} (the cache does not know any more what made it)")
        }
        Some(origin) => origin.to_string(),
        None => "from elsewhere".to_owned(),
    };
    harmless(&format!("{}: {origin}  {}", source.name, short(&source.digest)))
}

/// Parameters that somebody chose, and the seed.
fn not_defaults(action: &Ancestor, catalog: &Catalog) -> Vec<String> {
    let table = &action.made.facts.table.0;
    let kind = catalog.kind(&action.made.kind);
    let is_default = |row: &Row| {
        let first = row.name.split('.').next().unwrap_or_default();
        let param = kind.and_then(|kind| kind.params.iter().find(|param| param.name == first));
        let default = param.and_then(|param| param.default.as_ref());
        default == Some(&table["params"][first]) || row.value == json!({})
    };
    let chosen = |row: &Row| match row.group {
        Group::Param => !is_default(row),
        Group::Seed => row.value != json!(0),
        _ => false,
    };
    let rows = action.made.facts.rows();
    rows.iter().filter(|row| chosen(row)).map(|row| format!("{} {}", row.name, row.value)).collect()
}

fn as_json(lineage: &Lineage) -> Value {
    let actions = lineage.actions.iter().map(|Ancestor { fingerprint, made, sources }| {
        let table = &made.facts.table.0;
        let sources = sources.iter().map(|source| {
            let (stage, output, file) = match &source.origin {
                Some(Origin::Stage { stage, output, .. }) => (Some(stage), Some(output), None),
                Some(Origin::File { file }) => (None, None, Some(file)),
                None => (None, None, None),
            };
            let made_by = source.action.map(|index| lineage.actions[index].fingerprint);
            json!({
                "name": source.name, "digest": source.digest, "file": file, "stage": stage,
                "output": output, "made_by": made_by,
            })
        });
        json!({
            "fingerprint": fingerprint, "kind": made.kind, "revision": table["revision"],
            "params": table["params"], "seed": table["seed"], "device_class": table["device"],
            "metrics": made.metrics, "made": made_as_json(made),
            "sources": sources.collect::<Vec<_>>(),
        })
    });
    let also = lineage.also.iter().map(|(stage, run)| json!({ "output": stage, "run": run }));
    json!({
        "artifact": lineage.artifact, "output": lineage.output, "inside": lineage.inside,
        "also": also.collect::<Vec<_>>(), "actions": actions.collect::<Vec<_>>(),
    })
}
