//! The key `when`: whether a stage is there at all, decided from parameters, environment and matrix.
//!
//! No language: `true` or `false`, a value held against others, or a list of which all must hold.

use gradus_protocol::catalog::Kind;

use super::instance::Instance;
use crate::spec::{Data, Mistakes, Node, Pipeline, Problem, interpolate, nearest};

const KEYS: [&str; 3] = ["value", "is", "not"];

/// An instance that the plan does without.
#[derive(Debug, Clone)]
pub struct LeftOut {
    pub id: String,
    pub spec: String,
    pub kind: std::sync::Arc<Kind>,
    /// In words: `its `when` is false`.
    pub because: String,
}

/// Why the instance is left out; `None` for one that stays. One whose condition is faulty stays, so that
/// its other mistakes are found.
pub(super) fn left_out(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<String> {
    let when = instance.spec.when.as_ref()?;
    let scope = instance.scope(pipeline);
    let filled = interpolate(when, &scope, &pipeline.sources, mistakes)?;
    match fails(&filled) {
        Ok(because) => because,
        Err(wrong) => {
            let (node, problem) = *wrong;
            mistakes.add(&pipeline.sources, node.at, problem);
            None
        }
    }
}

type Fails = Result<Option<String>, Box<(Node, Problem)>>;

/// Why the condition does not hold, if it does not.
fn fails(condition: &Node) -> Fails {
    match &condition.data {
        Data::Boolean(true) => Ok(None),
        Data::Boolean(false) => Ok(Some("its `when` is false".to_owned())),
        Data::List(all) if !all.is_empty() => {
            let mut because = None;
            for condition in all {
                let fails = fails(condition)?;
                because = because.or(fails);
            }
            Ok(because)
        }
        Data::Map(_) => compare(condition),
        _ => {
            let expected = "true, false, `{ value: …, is: … }`, or a list of these";
            wrong("`when`", expected, condition)
        }
    }
}

/// `{ value: X, is: Y }`, where a list stands for any of its items; and `not`.
fn compare(condition: &Node) -> Fails {
    if let Some(entry) = condition.entries().iter().find(|it| !KEYS.contains(&it.key.as_str())) {
        let problem = Problem::UnknownKey {
            place: "`when`".to_owned(),
            key: entry.key.clone(),
            nearest: nearest(&entry.key, KEYS),
            known: KEYS.join(", "),
        };
        return Err(Box::new((Node { at: entry.at, ..entry.value.clone() }, problem)));
    }
    let (wanted, turned) = match (condition.get("is"), condition.get("not")) {
        (Some(wanted), None) => (wanted, false),
        (None, Some(wanted)) => (wanted, true),
        _ => return wrong("`when`", "a `value` with either `is` or `not`", condition),
    };
    let Some(value) = condition.get("value") else {
        return wrong("`when`", "a `value` with either `is` or `not`", condition);
    };
    if matches!(value.data, Data::List(_) | Data::Map(_)) {
        return wrong("the `value` of `when`", "text, a number, true or false", value);
    }
    let wanted = match &wanted.data {
        Data::List(items) => items.as_slice(),
        _ => std::slice::from_ref(wanted),
    };
    for other in wanted {
        // A text is never a number: to ask is a slip.
        if sort(value) != sort(other) && !is_null(value) && !is_null(other) {
            let expected = format!("{} as its `value` is", sort(value));
            return wrong("what `when` asks for", &expected, other);
        }
    }
    let found = wanted.iter().any(|other| other.equals(value));
    let holds = found != turned;
    Ok((!holds).then(|| format!("its `when` finds {}", value.described())))
}

fn is_null(node: &Node) -> bool {
    matches!(node.data, Data::Null)
}

fn sort(node: &Node) -> &'static str {
    match node.data {
        Data::Number(_) => "a number",
        _ => node.sort(),
    }
}

fn wrong<T>(what: &str, expected: &str, found: &Node) -> Result<T, Box<(Node, Problem)>> {
    let problem = Problem::WrongType {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: match &found.data {
            Data::List(items) if items.is_empty() => "an empty list".to_owned(),
            _ => found.described(),
        },
    };
    Err(Box::new((found.clone(), problem)))
}
