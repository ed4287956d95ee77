//! What a candidate is called, and where it stands in a matrix: `judged[beta=0.1,seed=2]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::error::StageError;

/// A stage's name and, of each axis, its name and value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    pub(super) stage: String,
    pub(super) axes: Vec<(String, String)>,
}

impl Label {
    fn plain(name: &str) -> Self {
        Self { stage: name.to_owned(), axes: Vec::new() }
    }

    pub(super) fn without(&self, axis: &str) -> Self {
        let others = self.axes.iter().filter(|(name, _)| name != axis);
        Self { stage: self.stage.clone(), axes: others.cloned().collect() }
    }

    pub(super) fn value(&self, axis: &str) -> Option<&str> {
        self.axes.iter().find(|(name, _)| name == axis).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage)?;
        if self.axes.is_empty() {
            return Ok(());
        }
        let axes: Vec<_> =
            self.axes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "[{}]", axes.join(","))
    }
}

/// Reads the labels of stages. A value may hold commas and even `,x=`: variants of one stage have the same
/// axes, so what not all of them have is part of a value.
pub(super) fn read(labels: &[String]) -> Vec<Label> {
    let mut common: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (stage, point) in labels.iter().filter_map(|label| split(label)) {
        let names: BTreeSet<&str> = axes(point).into_iter().map(|(_, name)| name).collect();
        let known = common.entry(stage).or_insert_with(|| names.clone());
        known.retain(|name| names.contains(name));
    }
    let one = |label: &String| {
        let (stage, point) = split(label)?;
        let mut seen = BTreeSet::new();
        let mut starts = axes(point);
        starts.retain(|(_, name)| common[stage].contains(name) && seen.insert(*name));
        // Where it begins otherwise, it is no point of a matrix but the name of a file.
        starts.first().filter(|(at, _)| *at == 0)?;
        let ends = starts.iter().skip(1).map(|(at, _)| at - 1).chain([point.len()]);
        let value = |((at, name), end): (&(usize, &str), usize)| {
            ((*name).to_owned(), point[at + name.len() + 1..end].to_owned())
        };
        let axes = starts.iter().zip(ends).map(value).collect();
        Some(Label { stage: stage.to_owned(), axes })
    };
    labels.iter().map(|label| one(label).unwrap_or_else(|| Label::plain(label))).collect()
}

/// `stage[point]` taken apart.
fn split(label: &str) -> Option<(&str, &str)> {
    label.strip_suffix(']')?.split_once('[')
}

/// Where `name=` stands at the beginning or after a comma.
fn axes(point: &str) -> Vec<(usize, &str)> {
    let starts = std::iter::once(0).chain(point.match_indices(',').map(|(at, _)| at + 1));
    let named = |at: usize| {
        let (name, _) = point[at..].split_once('=')?;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let sound = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(word);
        sound.then_some((at, name))
    };
    starts.filter_map(named).collect()
}

/// Gives candidates the names that a person chose. A key is a candidate's whole label, or a stage's name for
/// all its variants.
pub(super) fn named(
    labels: &[String],
    chosen: &BTreeMap<String, String>,
) -> Result<Vec<Label>, StageError> {
    let mut read = read(labels);
    for key in chosen.keys() {
        if !labels.contains(key) && !read.iter().any(|label| label.stage == *key) {
            return Err(StageError::refused(format!(
                "`labels` names `{key}`, which is no candidate: there are {}",
                quoted(labels)
            )));
        }
    }
    for (label, whole) in read.iter_mut().zip(labels) {
        if let Some(name) = chosen.get(whole) {
            *label = Label::plain(name);
        } else if let Some(name) = chosen.get(&label.stage) {
            label.stage.clone_from(name);
        }
    }
    Ok(read)
}

pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::evaluate) fn labels(texts: &[&str]) -> Vec<Label> {
        read(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn axes_of(texts: &[&str]) -> Vec<Vec<(String, String)>> {
        labels(texts).into_iter().map(|label| label.axes).collect()
    }

    fn pairs(axes: &[(&str, &str)]) -> Vec<(String, String)> {
        axes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_label_is_a_stage_and_its_place_on_every_axis() {
        let found = axes_of(&["dpo[beta=0.1,seed=2]", "sft", "file[1].json", "odd[1]"]);
        assert_eq!(found, [pairs(&[("beta", "0.1"), ("seed", "2")]), vec![], vec![], vec![]]);
        for text in ["dpo[beta=0.1,seed=2]", "a/sft", "odd[1]"] {
            assert_eq!(labels(&[text])[0].to_string(), text);
        }
    }

    #[test]
    fn values_may_hold_what_divides_axes() {
        let found = axes_of(&["dpo[text=a,b=c,seed=1]", "dpo[text=[1,2],seed=2]"]);
        assert_eq!(found[0], pairs(&[("text", "a,b=c"), ("seed", "1")]));
        assert_eq!(found[1], pairs(&[("text", "[1,2]"), ("seed", "2")]));
    }

    #[test]
    fn names_are_chosen_by_stage_or_by_candidate() {
        let candidates = ["judged[beta=1]", "judged[beta=2]", "before"].map(str::to_owned);
        let names = |chosen: &[(&str, &str)]| {
            let chosen = pairs(chosen).into_iter().collect();
            let names = named(&candidates, &chosen);
            names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let by_stage = names(&[("judged", "dpo"), ("before", "sft")]).unwrap();
        assert_eq!(by_stage, ["dpo[beta=1]", "dpo[beta=2]", "sft"]);
        assert_eq!(names(&[("judged[beta=2]", "best")]).unwrap()[1], "best");
        let error = names(&[("jugded", "dpo")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "`labels` names `jugded`, which is no candidate: there are `judged[beta=1]`, \
             `judged[beta=2]`, `before`"
        );
    }
}
