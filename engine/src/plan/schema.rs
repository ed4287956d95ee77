//! The JSON Schema of a pipeline file, made from the catalogue: with it an editor completes and explains.
//!
//! It says less than [`plan`](super::plan()) checks: every value may also be written as `${…}`, and what a
//! stage reads from another is known to the plan alone.

use gradus_protocol::catalog::{Catalog, Kind, Param, Port, Range, Shape};
use serde_json::{Map, Value, json};

use super::exec::documented as exec_kind;

/// The schema of pipelines whose stages are of the kinds in `catalog`.
pub fn schema(catalog: &Catalog) -> Value {
    let exec = exec_kind();
    let kinds: Vec<&Kind> = catalog.kinds.iter().chain([&exec]).collect();
    let mut stage = body(&kinds, true);
    stage["properties"]["template"] = json!({ "type": "string", "description": "A template that the stage is made from, in place of `kind`." });
    stage["properties"]["args"] =
        json!({ "type": "object", "description": "What the template calls `${args.NAME}`." });
    stage["oneOf"] = json!([{ "required": ["kind"] }, { "required": ["template"] }]);
    let mut template = body(&kinds, false);
    template["properties"]["args"] = json!({ "type": "object", "description": "What it calls `${args.NAME}`, with its defaults." });
    template["properties"]["required"] = json!({
        "type": "array", "items": name(),
        "description": "Arguments that a stage must give.",
    });
    template["properties"]["template"] = json!({ "type": "string", "description": "A template that this one builds on, in place of `kind`." });
    template["oneOf"] = json!([{ "required": ["kind"] }, { "required": ["template"] }]);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Gradus pipeline",
        "type": "object",
        "anyOf": [{ "required": ["stages"] }, { "required": ["include"] }, { "required": ["templates"] }],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "description": "What runs and outputs are filed under; the file's name by default." },
            "description": { "type": "string" },
            "seed": or_filled(json!({ "type": "integer", "minimum": 0, "default": 0, "description": "What all random choices derive from; `--seed` wins over it, and a stage may say another." })),
            "params": { "type": "object", "description": "Values that stages use as `${params.NAME}`, and that `--set` changes." },
            "env": { "type": "array", "items": { "type": "string" }, "description": "Environment variables that values may use as `${env.NAME}`." },
            "snapshot": snapshot(),
            "include": include(),
            "templates": {
                "type": "object",
                "description": "Stages to use with other arguments: `template: NAME`. What a stage says itself is laid over.",
                "propertyNames": name(),
                "additionalProperties": template,
            },
            "stages": { "type": "object", "propertyNames": name(), "additionalProperties": stage },
        },
    })
}

fn snapshot() -> Value {
    let of = |doc: &str| json!({ "type": "string", "description": doc });
    let tolerance = json!({ "type": "number", "minimum": 0, "description": "By how much a number may be off, or by what part of itself where it is above 1." });
    let only = json!({ "type": "array", "items": { "type": "string" }, "description": "These metrics alone." });
    let entry = |key: &str, doc: &str, more: Value| {
        let mut properties = more;
        properties[key] = of(doc);
        json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": properties })
    };
    json!({
        "type": "array",
        "description": "What `gradus test` compares; the metrics of every stage where this is left out.",
        "items": { "anyOf": [
            entry("metrics", "A stage, whose final numbers are compared.", json!({ "only": only, "tolerance": tolerance })),
            entry("text", "An output, `STAGE.OUTPUT`, whose text is compared to the letter.", json!({})),
            entry("table", "An output whose text is compared, numbers within the tolerance.", json!({ "tolerance": tolerance })),
            entry("digest", "An output whose bytes are compared, by their digest alone.", json!({})),
        ] },
    })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$", "maxLength": 128 })
}

fn include() -> Value {
    let file =
        json!({ "type": "string", "description": "A pipeline file, from this one's folder." });
    let params = json!({ "type": "object", "description": "Values for its parameters; one may name a stage of this file." });
    let seed = or_filled(
        json!({ "type": "integer", "minimum": 0, "description": "The seed of its stages, in place of this file's." }),
    );
    let mut every = matrix();
    every["description"] = json!(
        "For each axis a list of values; all stages of the file are there once for every combination."
    );
    let rounds = or_filled(
        json!({ "type": "integer", "minimum": 1, "description": "All stages of the file once per round; `previous/sft` in it is that of the round before." }),
    );
    let first = json!({ "type": "object", "description": "What stands for `previous/…` in the first round: by the stage's name, a stage of this file, a file, or a list of these." });
    let full = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["path"],
        "dependentRequired": { "first": ["rounds"] },
        "properties": {
            "path": file, "params": params, "seed": seed, "matrix": every, "rounds": rounds, "first": first,
        },
    });
    json!({
        "type": "object",
        "description": "Other pipeline files. The stage `sft` of one that is included as `base` is `base/sft` here.",
        "propertyNames": name(),
        "additionalProperties": { "anyOf": [file, full] },
    })
}

/// What a stage and a template can say; a template may leave to its stages what is `required`.
fn body(kinds: &[&Kind], required: bool) -> Value {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    let docs: Vec<&str> = kinds.iter().map(|kind| kind.doc.as_str()).collect();
    let of_kind = |kind: &&Kind| {
        let is_this =
            json!({ "properties": { "kind": { "const": kind.kind } }, "required": ["kind"] });
        let mut then = properties(kind);
        if !required {
            for part in ["with", "inputs"].map(str::to_owned) {
                if let Some(Value::Object(part)) = then.get_mut(part) {
                    part.remove("required");
                }
            }
        }
        json!({ "if": is_this, "then": { "properties": then } })
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "kind": { "enum": names, "enumDescriptions": docs, "description": "What the stage does." },
            "description": { "type": "string" },
            "with": { "type": "object", "description": "Parameters." },
            "inputs": { "type": "object", "description": "For each port a stage, `stage.output`, `stage[*]`, or a file." },
            "outputs": { "type": "object", "description": "Of an `exec` stage: name and path of each output." },
            "matrix": matrix(),
            "when": when(),
            "cache": conduct(&json!({ "type": "boolean", "default": true }), "`false`: the stage runs every time, and only what it makes is kept for the stages that read it."),
            "retries": conduct(&json!({ "type": "integer", "minimum": 0, "maximum": 10, "default": 0 }), "How often it is tried again after a failure that may pass: a crash, a timeout, a program's exit code."),
            "timeout": conduct(&time(), "How long one try may take, e.g. `90s`, `10m`, `2h`, or seconds. Then it is asked to end, and killed after five seconds."),
            "resources": conduct(&resources(), "What the stage asks of the machine."),
            "ignore": { "type": "array", "items": { "type": "string" }, "description": "What of folders that are inputs is no part of them, as in a `.gitignore`: `[wandb/, '*.ckpt']`." },
            "env": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] }, "description": "Of an `exec` stage: variables for its program; part of the fingerprint." },
            "secret": secret(),
            "frozen": { "description": "The result that the stage keeps, whatever changes; `gradus freeze` writes it." },
            "tools": { "type": "array", "items": { "type": "string" }, "description": "Of an `exec` stage: programs whose bytes are part of the fingerprint, by the names that `PATH` finds them by." },
            "rows": { "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": { "type": "string" }, "description": "Of an `exec` stage: `{ INPUT: OUTPUT }`, where the program leaves a line for each row of the input. It is given only rows that nobody has computed yet." },
            "metrics": { "type": "string", "description": "Of an `exec` stage: a JSON file that the program leaves; its numbers are the stage's metrics." },
        },
        "allOf": kinds.iter().map(of_kind).collect::<Vec<_>>(),
    })
}

fn when() -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean", "null"] });
    let one = or_filled(json!({ "anyOf": [
        { "type": "boolean" },
        {
            "type": "object",
            "additionalProperties": false,
            "required": ["value"],
            "oneOf": [{ "required": ["is"] }, { "required": ["not"] }],
            "properties": {
                "value": { "type": scalar["type"], "description": "What is asked about, e.g. `${params.size}`." },
                "is": { "anyOf": [scalar, { "type": "array", "items": scalar }], "description": "What it must be, or any of a list." },
                "not": { "anyOf": [scalar, { "type": "array", "items": scalar }], "description": "What it must not be." },
            },
        },
    ] }));
    json!({
        "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }],
        "description": "Whether the stage is there: true or false, or `{ value: …, is: … }`; of a list all must hold.",
    })
}

/// A key that changes none of the stage's bytes.
fn conduct(schema: &Value, doc: &str) -> Value {
    let mut schema = or_filled(schema.clone());
    schema["description"] = json!(format!("{doc} Not part of the fingerprint."));
    schema
}

fn time() -> Value {
    json!({ "anyOf": [
        { "type": "number", "exclusiveMinimum": 0 },
        { "type": "string", "pattern": "^([0-9]+ *(s|m|min|h|d) *)+$" },
    ] })
}

fn resources() -> Value {
    let count = |least: u32, doc: &str| {
        let mut schema =
            or_filled(json!({ "type": "integer", "minimum": least, "maximum": 10_000 }));
        schema["description"] = json!(doc);
        schema
    };
    let mut limit = or_filled(time());
    limit["description"] =
        json!("How long to ask a cluster's queue for. Here `timeout` is what ends a stage.");
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "cpus": count(1, "Cores that it keeps busy: it takes a slot for every two of them."),
            "gpus": count(0, "0 holds the stage to the CPU, 1 demands a GPU; `exec` sees the one it was given. More need a cluster."),
            "gpu_type": { "type": "string", "description": "A part of the GPU's name, e.g. `H100`." },
            "nodes": count(1, "Machines. The local launcher has one."),
            "mem": { "type": "string", "description": "Memory, e.g. `8GiB`. Stages that together want more than the machine has wait for each other." },
            "time": limit,
        },
    })
}

fn secret() -> Value {
    let name = json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
    json!({
        "anyOf": [name, { "type": "array", "items": name }],
        "description": "Of an `exec` stage: names of environment variables that its program gets. Their values are in no key, plan, event, log or result.",
    })
}

fn matrix() -> Value {
    let points = |doc: &str| {
        let point = json!({ "type": "object", "minProperties": 1 });
        let mut schema = or_filled(json!({ "type": "array", "items": point }));
        schema["description"] = json!(doc);
        schema
    };
    json!({
        "type": "object",
        "description": "For each axis a list of values; the stage is there once for every combination.",
        "properties": {
            "exclude": points("Combinations that are left out: a value for one axis or more."),
            "include": points("Further points: a value for every axis."),
        },
        "additionalProperties": or_filled(json!({ "type": "array", "minItems": 1 })),
    })
}

/// `with` and `inputs` of one kind.
fn properties(kind: &Kind) -> Value {
    let mut with = fields(&kind.params);
    if kind.kind == exec_kind().kind {
        // Its ports are what the stage itself declares.
        return json!({ "with": with });
    }
    if kind.uses_seed {
        let own = &mut with["properties"];
        own["seed"] = or_filled(json!({ "type": "integer", "minimum": 0 }));
        own["seed"]["description"] =
            json!("What its random choices derive from; the pipeline's `seed` by default.");
    }
    let ports = kind.inputs.iter().map(|port| (port.name.clone(), input(port)));
    let required = kind.inputs.iter().filter(|port| !port.optional).map(|port| &port.name);
    json!({
        "with": with,
        "inputs": {
            "type": "object",
            "additionalProperties": false,
            "properties": ports.collect::<Map<_, _>>(),
            "required": required.collect::<Vec<_>>(),
        },
    })
}

fn input(port: &Port) -> Value {
    let one = json!({ "type": "string" });
    let list = json!({ "type": "array", "items": one, "minItems": 1 });
    let mut schema = if port.many { json!({ "anyOf": [one, list] }) } else { one };
    schema["description"] = json!(port.doc);
    schema
}

fn fields(params: &[Param]) -> Value {
    let property = |param: &Param| {
        let mut schema = or_filled(shape(&param.shape));
        schema["description"] = json!(param.doc);
        if let Some(default) = &param.default {
            schema["default"] = default.clone();
        }
        (param.name.clone(), schema)
    };
    let required = params.iter().filter(|param| param.default.is_none()).map(|param| &param.name);
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": params.iter().map(property).collect::<Map<_, _>>(),
        "required": required.collect::<Vec<_>>(),
    })
}

/// The value itself, or text that is filled in.
fn or_filled(schema: Value) -> Value {
    if schema.get("type") == Some(&json!("string")) && schema.get("enum").is_none() {
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "string", "pattern": "\\$\\{.*\\}" }] })
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(range) => number("integer", range),
        Shape::Number(range) => number("number", range),
        Shape::Text | Shape::Path => json!({ "type": "string" }),
        Shape::Choice { options } => {
            let (words, docs): (Vec<_>, Vec<_>) =
                options.iter().map(|it| (it.value.as_str(), it.doc.as_str())).unzip();
            json!({ "enum": words, "enumDescriptions": docs })
        }
        Shape::List { of } => json!({ "type": "array", "items": or_filled(shape(of)) }),
        Shape::Record { fields: params } => fields(params),
        Shape::Map { of } => {
            json!({ "type": "object", "additionalProperties": or_filled(shape(of)) })
        }
        Shape::Optional { of } => json!({ "anyOf": [shape(of), { "type": "null" }] }),
        Shape::Any => json!({}),
    }
}

fn number(sort: &str, range: &Range) -> Value {
    let mut schema = json!({ "type": sort });
    for (key, bound) in
        [("minimum", range.min), ("exclusiveMinimum", range.above), ("maximum", range.max)]
    {
        if let Some(bound) = bound {
            schema[key] = json!(bound);
        }
    }
    schema
}
