//! Words for rules between parameters: `rule("…", [param("loss").is(["ipo"]), …])`.

use gradus_protocol::catalog::{Condition, Port, Rule, Test};
use serde_json::Value;

/// Where all of `when` hold, the parameters are a mistake.
pub(crate) fn rule(words: &str, when: impl Into<Vec<Condition>>) -> Rule {
    Rule { when: when.into(), words: words.to_owned() }
}

/// That a fact of an output is a parameter of its stage, or `inputs.NAME.FACT`.
pub(crate) fn hand_on(outputs: &mut [Port], output: &str, fact: &str, of: &str) {
    for port in outputs.iter_mut().filter(|port| port.name == output) {
        port.hands_on.insert(fact.to_owned(), of.to_owned());
    }
}

/// That a model has the context of the one at this input.
pub(crate) fn same_context(outputs: &mut [Port], input: &str) {
    hand_on(outputs, "model", CONTEXT, &format!("inputs.{input}.{CONTEXT}"));
}

/// Rows may not be longer than the context of the model at this input.
pub(crate) fn within_context(parameter: &'static str, input: &str) -> Rule {
    let context = format!("inputs.{input}.{CONTEXT}");
    let words = format!(
        "`{parameter}` is {{{parameter}}}, and the context of `{input}` has {{{context}}} tokens"
    );
    rule(&words, [param(parameter).above(context)])
}

/// How many tokens a model sees at once.
pub(crate) const CONTEXT: &str = "context_length";

/// The parameter that a condition is about.
pub(crate) struct Param(&'static str);

pub(crate) fn param(name: &'static str) -> Param {
    Param(name)
}

impl Param {
    fn test(self, test: Test) -> Condition {
        Condition { param: self.0.to_owned(), test }
    }

    pub(crate) fn is<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Condition {
        self.test(Test::Is(values.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn given(self) -> Condition {
        self.test(Test::Given(true))
    }

    pub(crate) fn missing(self) -> Condition {
        self.test(Test::Given(false))
    }

    /// Above a number, or another parameter.
    pub(crate) fn above(self, other: impl Into<Value>) -> Condition {
        self.test(Test::Above(other.into()))
    }

    pub(crate) fn below(self, other: impl Into<Value>) -> Condition {
        self.test(Test::Below(other.into()))
    }

    pub(crate) fn no_multiple_of(self, other: impl Into<Value>) -> Condition {
        self.test(Test::NoMultipleOf(other.into()))
    }
}
