//! What kinds of stage there are, described so that the engine can check a pipeline without code.
//!
//! `stages/catalog.json` is one [`Catalog`]; `gradus` carries it and every worker shows its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every kind that a worker can run, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub kinds: Vec<Kind>,
    /// The port types of which the worker takes in what strangers made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes: Vec<String>,
}

impl Catalog {
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.kind == name)
    }
}

/// One kind of stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    pub kind: String,
    /// Raised when the same inputs would give other outputs.
    pub revision: u32,
    /// Stages that a revision left as they were: they keep their results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unaffected: Vec<Unaffected>,
    /// One line, then the rest of the doc.
    pub doc: String,
    /// False when the outputs are the same on every device: then the device is not in the fingerprint.
    pub uses_device: bool,
    /// False when nothing is drawn at random: then the seed is not in the fingerprint.
    #[serde(default = "yes")]
    pub uses_seed: bool,
    /// For kinds that work in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    /// Whether a look at the files of a stage hangs on its parameters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looks: bool,
    /// Inputs of which it treats row by row, and parameters that say how many rows: what it computed of a row is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_row: Vec<String>,
    /// Parameters with which a stage does as little as it can, to see whether a pipeline runs through.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rehearsal: BTreeMap<String, Value>,
    pub params: Vec<Param>,
    /// What its parameters must not say together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What is worth a word beside the numbers of a stage: conditions on its metrics, and on its parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Rule>,
    pub inputs: Vec<Port>,
    /// The first one is the main output.
    pub outputs: Vec<Port>,
}

impl Kind {
    /// What is to be said of a stage with `params` that came to `metrics`.
    pub fn advice_on(
        &self,
        params: &Value,
        metrics: &BTreeMap<String, Option<f64>>,
    ) -> Vec<String> {
        if self.advice.is_empty() || !params.is_object() {
            return Vec::new();
        }
        let mut said = params.clone();
        for (name, value) in metrics {
            said[name] = value.map_or(Value::Null, Value::from);
        }
        let meant = self.advice.iter().filter(|it| it.is_broken_by(&said));
        meant.map(|it| it.words_of(&said)).collect()
    }

    /// The doc's first line.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default()
    }
}

/// Catalogues of others need not say that a kind draws.
fn yes() -> bool {
    true
}

/// Whom a revision spares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unaffected {
    /// The one that changed nothing for them.
    pub revision: u32,
    /// They have one of these values at each of these parameters.
    pub when: BTreeMap<String, Vec<Value>>,
}

impl Kind {
    /// The newest revision that changed what a stage with `params` puts out.
    pub fn revision_of(&self, params: &Value) -> u32 {
        let spares = |spared: &&Unaffected| {
            let has = |(name, values): (&String, &Vec<Value>)| values.contains(&params[name]);
            spared.when.iter().all(has)
        };
        let mut revision = self.revision;
        while revision > 0
            && self.unaffected.iter().any(|it| it.revision == revision && spares(&it))
        {
            revision -= 1;
        }
        revision
    }
}

/// Which parameters say how long a stage works, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// The first that is given counts.
    pub params: Vec<String>,
    /// Where all of these parameters have these values, a longer stage begins with what a shorter one did.
    pub extends_when: BTreeMap<String, Value>,
}

impl Length {
    /// Whether a longer stage with `params` goes on from a shorter one.
    pub fn extends(&self, params: &Value) -> bool {
        self.extends_when.iter().all(|(name, value)| params.get(name) == Some(value))
    }
}

/// Parameters that make no sense together, each sound by itself: where all conditions hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub when: Vec<Condition>,
    /// What is wrong then, and what to do. `{NAME}` stands for what that parameter or fact is.
    pub words: String,
}

impl Rule {
    /// Whether `params`, complete, break it.
    pub fn is_broken_by(&self, params: &Value) -> bool {
        self.when.iter().all(|condition| condition.holds(params))
    }

    /// Its words, with every `{NAME}` filled in that `params` have.
    pub fn words_of(&self, params: &Value) -> String {
        let mut words = self.words.clone();
        for (name, value) in params.as_object().into_iter().flatten() {
            let place = format!("{{{name}}}");
            if words.contains(&place) {
                let short = value.as_f64().filter(|_| value.is_f64()).map(|it| format!("{it:.3}"));
                words = words.replace(&place, &short.unwrap_or_else(|| value.to_string()));
            }
        }
        words
    }
}

/// Something that holds of a parameter or does not; of an input, as `inputs.NAME`, only `given` can be asked; what an
/// input hands on stands as `inputs.NAME.FACT`. Of what is `null`, or not known, only `is` and `given` can hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub param: String,
    #[serde(flatten)]
    pub test: Test,
}

/// What is asked of a parameter; an operand is a number, or the name of another parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It is one of these.
    Is(Vec<Value>),
    Above(Value),
    Below(Value),
    /// It is there, and not `null`; or, if `false`, it is not.
    Given(bool),
    /// It is no whole multiple.
    NoMultipleOf(Value),
}

impl Condition {
    fn holds(&self, params: &Value) -> bool {
        let value = params.get(&self.param).unwrap_or(&Value::Null);
        let operand = |operand: &Value| match operand.as_str() {
            Some(name) => params.get(name).and_then(Value::as_f64),
            None => operand.as_f64(),
        };
        let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() < f64::EPSILON,
            _ => value == other,
        };
        let compared = |other: &Value, holds: fn(f64, f64) -> bool| {
            value.as_f64().zip(operand(other)).is_some_and(|(one, other)| holds(one, other))
        };
        match &self.test {
            Test::Is(values) => values.iter().any(same),
            Test::Given(given) => value.is_null() != *given,
            Test::Above(other) => compared(other, |one, other| one > other),
            Test::Below(other) => compared(other, |one, other| one < other),
            Test::NoMultipleOf(other) => compared(other, |one, other| one % other != 0.0),
        }
    }
}

/// A parameter, or a field of a nested one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    pub name: String,
    pub doc: String,
    pub shape: Shape,
    /// What holds when it is left out; absent when it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub default: Option<Value>,
    /// What means the same as before there was this parameter: while it has this value it is in no fingerprint, so
    /// that what was computed then is still found.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub neutral: Option<Value>,
}

/// Tells a default of `null` from no default.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Shape {
    Boolean,
    Integer(Range),
    Number(Range),
    Text,
    /// A file or folder of the user's: its content is in the fingerprint, its place is not.
    Path,
    Choice {
        options: Vec<Choice>,
    },
    List {
        of: Box<Shape>,
    },
    Record {
        fields: Vec<Param>,
    },
    /// Values by names that whoever writes the pipeline chooses.
    Map {
        of: Box<Shape>,
    },
    /// The inner shape or `null`.
    Optional {
        of: Box<Shape>,
    },
    Any,
}

/// Inclusive bounds, unless `above` says that `min` itself is out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// One word that a parameter may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub value: String,
    pub doc: String,
}

/// A named place where artifacts go in or come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub doc: String,
    #[serde(rename = "type")]
    pub port_type: PortType,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Takes a fan-in of one or more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// When an output has nothing in it, and in its words what to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Rule>,
    /// What is known of an output before it is there, for whoever reads it: from a fact's name to the parameter that it is, or to
    /// `inputs.NAME.FACT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hands_on: BTreeMap<String, String>,
}

/// What a port carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortType {
    /// Inputs: any of these. Outputs: the one.
    Is(Vec<String>),
    /// An output whose type a parameter decides: `(value, type)` pairs.
    ByParameter { parameter: String, types: Vec<(String, String)> },
    /// An output of the same type as what came in at that port.
    SameAs { input: String },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(condition: Value, params: &Value) -> bool {
        serde_json::from_value::<Condition>(condition).is_ok_and(|it| it.holds(params))
    }

    #[test]
    fn conditions_compare_with_values_and_with_other_parameters() {
        let params = json!({ "steps": 10, "warmup": 20.0, "loss": "ipo", "limit": null });
        for (condition, expected) in [
            (json!({ "param": "loss", "is": ["ipo", "hinge"] }), true),
            (json!({ "param": "loss", "is": ["hinge"] }), false),
            (json!({ "param": "warmup", "is": [20] }), true),
            (json!({ "param": "warmup", "above": "steps" }), true),
            (json!({ "param": "steps", "above": 10 }), false),
            (json!({ "param": "steps", "below": 11 }), true),
            (json!({ "param": "steps", "below": 10 }), false),
            (json!({ "param": "steps", "no_multiple_of": 4 }), true),
            (json!({ "param": "warmup", "no_multiple_of": "steps" }), false),
            (json!({ "param": "limit", "is": [null] }), true),
            (json!({ "param": "steps", "above": "limit" }), false),
            (json!({ "param": "steps", "given": true }), true),
            (json!({ "param": "limit", "given": false }), true),
            (json!({ "param": "inputs.file", "given": true }), false),
        ] {
            assert_eq!(holds(condition.clone(), &params), expected, "{condition}");
        }
    }

    #[test]
    fn advice_is_on_what_a_stage_came_to() {
        let kind: Kind = serde_json::from_value(json!({
            "kind": "k", "revision": 1, "doc": "", "uses_device": false, "params": [], "inputs": [], "outputs": [],
            "advice": [{ "when": [{ "param": "ended", "below": 0.5 }], "words": "{ended} end within {most}" }],
        }))
        .unwrap();
        let on =
            |ended| kind.advice_on(&json!({ "most": 64 }), &[("ended".to_owned(), ended)].into());
        assert_eq!(on(Some(0.25)), ["0.250 end within 64"]);
        assert!(on(Some(0.5)).is_empty() && on(None).is_empty());
    }

    #[test]
    fn a_revision_spares_whom_it_leaves_as_they_were() {
        let kind: Kind = serde_json::from_value(json!({
            "kind": "k", "revision": 4, "doc": "", "uses_device": false, "params": [], "inputs": [], "outputs": [],
            "unaffected": [
                { "revision": 4, "when": { "loss": ["sigmoid", "ipo"], "beta": [0.1] } },
                { "revision": 3, "when": { "loss": ["sigmoid"] } },
                { "revision": 1, "when": { "loss": ["sigmoid"] } },
            ],
        }))
        .unwrap();
        let of = |loss: &str, beta: f64| kind.revision_of(&json!({ "loss": loss, "beta": beta }));
        assert_eq!(
            [of("sigmoid", 0.1), of("ipo", 0.1), of("sigmoid", 1.0), of("x", 0.1)],
            [2, 3, 4, 4]
        );
    }
}
