//! Words for rules between parameters: `rule("…", [param("loss").is(["ipo"]), …])`.

use gradus_protocol::catalog::{Condition, Rule, Test};
use serde_json::Value;

/// Where all of `when` hold, the parameters are a mistake.
pub(crate) fn rule(words: &str, when: impl Into<Vec<Condition>>) -> Rule {
    Rule { when: when.into(), words: words.to_owned() }
}

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

    pub(crate) fn no_multiple_of(self, other: impl Into<Value>) -> Condition {
        self.test(Test::NoMultipleOf(other.into()))
    }
}
