//! What variants are called: `dpo[beta=0.1]`, `arm/sft[seed=0,beta=0.1]`; and which of them a name means.

use crate::spec::{Data, Node, Reference};

/// An axis of some matrix, and where on it a stage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// The names of the includes down to that whose matrix it is of (`arm/`); of the stage's own there are none.
    pub(crate) include: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Axis {
    pub(super) fn new(include: Option<&str>, (name, value): &(String, Node)) -> Self {
        // Names are shown on terminals, one a line: what could steer one is written out.
        let value = match &value.data {
            Data::Text(text) => text
                .chars()
                .map(
                    |c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() },
                )
                .collect(),
            _ => value.to_value().to_string(),
        };
        Self { include: include.map(str::to_owned), name: name.clone(), value }
    }

    /// Whether it is of an include that what stands below `prefix` came by.
    pub(super) fn is_above(&self, prefix: &str) -> bool {
        self.include.as_ref().is_some_and(|include| prefix.starts_with(include))
    }
}

/// The name of the stage `spec` at a point.
pub(super) fn called<'a>(spec: &str, axes: impl Iterator<Item = &'a Axis>) -> String {
    let words: Vec<_> = axes.map(|axis| format!("{}={}", axis.name, axis.value)).collect();
    if words.is_empty() { spec.to_owned() } else { format!("{spec}[{}]", words.join(",")) }
}

/// Whether `wanted` names `id`: as it is, by its stage alone, or by some of its axes in any order. `*` stands for all
/// values, and numbers are told by their value.
pub fn names(wanted: &str, id: &str) -> bool {
    let (asked, found) = (Reference::parse(wanted), Reference::parse(id));
    wanted == id
        || asked.zip(found).is_some_and(|(asked, found)| {
            asked.stage == found.stage
                && asked.output.is_none()
                && asked.variant.is_none_or(|it| means(it, found.variant.unwrap_or_default()))
        })
}

/// Whether what stands in brackets in a name means `variant`.
fn means(wanted: &str, variant: &str) -> bool {
    let same = |one: &str, other: &str| {
        let numbers = one.parse::<f64>().ok().zip(other.parse::<f64>().ok());
        one == "*"
            || one == other
            || numbers.is_some_and(|(one, other)| one.total_cmp(&other).is_eq())
    };
    let points = points(variant);
    wanted == "*"
        || wanted == variant
        || self::points(wanted).into_iter().all(|(name, value)| {
            points.iter().any(|(known, found)| *known == name && same(value, found))
        })
}

/// `a=1,b=x` as (`a`, `1`), (`b`, `x`). What has no `=` goes on with the value before it.
pub(crate) fn points(variant: &str) -> Vec<(&str, &str)> {
    let mut starts: Vec<usize> = vec![0];
    let commas = variant.match_indices(',').map(|(at, _)| at + 1);
    starts.extend(
        commas.filter(|at| variant[*at..].split(',').next().is_some_and(|it| it.contains('='))),
    );
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([variant.len()]);
    let word = |(start, end): (&usize, usize)| {
        let (name, value) =
            variant[*start..end].split_once('=').unwrap_or((&variant[*start..end], ""));
        (name.trim(), value.trim())
    };
    starts.iter().zip(ends).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_has_the_axes_that_it_says() {
        let id = "arm/dpo[seed=0,beta=0.001,loss=a,b]";
        for wanted in [
            id,
            "arm/dpo",
            "arm/dpo[*]",
            "arm/dpo[beta=1e-3]",
            "arm/dpo[loss=a,b]",
            "arm/dpo[loss=a,b,seed=0]",
            "arm/dpo[seed=*, beta=0.0010]",
        ] {
            assert!(names(wanted, id), "{wanted}");
        }
        for wanted in [
            "dpo",
            "arm/dp",
            "arm/dpo.model",
            "arm/dpo[beta=0.01]",
            "arm/dpo[rate=*]",
            "arm/dpo[loss=a]",
            "arm/dpo[seed]",
        ] {
            assert!(!names(wanted, id), "{wanted}");
        }
        assert!(names("sft", "sft") && names("sft[*]", "sft") && !names("sft[seed=0]", "sft"));
    }
}
