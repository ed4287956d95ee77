//! How a stage is carried out: what changes none of its bytes, and so stands in no fingerprint.

use std::time::Duration;

use gradus_cache::{Fingerprint, check_pattern};

use super::{
    axes::names,
    exec,
    instance::Instance,
    resources::{self, Resources},
    secrets,
    values::{Read, out_of_range, time, wrong_type},
};
use crate::spec::{Data, Mistakes, Node, Pipeline, interpolate};

/// More often than this a stage that fails is not tried again.
const MOST_RETRIES: u64 = 10;

/// What a stage says about its running, values filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conduct {
    /// Runs whether or not its result is in the cache: `cache: false`.
    pub always: bool,
    /// So often it is tried again after a failure that may pass.
    pub retries: u32,
    /// So long one try may take.
    pub timeout: Option<Duration>,
    pub resources: Resources,
    /// Environment variables that its program gets, and nothing else ever sees.
    pub secrets: Vec<String>,
    /// The result that it keeps, whatever its key is now.
    pub frozen: Option<Fingerprint>,
    /// What of folders that are its inputs is no part of them, as lines of a `.gitignore`.
    pub ignore: Vec<String>,
}

/// Reads what the instance's stage says.
pub(super) fn read(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Conduct {
    let mut conduct =
        Conduct { secrets: secrets::read(instance.spec, pipeline, mistakes), ..Conduct::default() };
    let scope = instance.scope(pipeline);
    for entry in &instance.spec.conduct {
        let Some(value) = interpolate(&entry.value, &scope, &pipeline.sources, mistakes) else {
            continue;
        };
        let key = entry.key.as_str();
        let read = match key {
            "cache" => cache(&value).map(|cached| conduct.always = !cached),
            "retries" => retries(&value).map(|retries| conduct.retries = retries),
            "resources" => {
                let mut add = |at, problem| mistakes.add(&pipeline.sources, at, problem);
                let is_program = instance.spec.kind == exec::KIND;
                conduct.resources = resources::read(&value, &instance.kind, is_program, &mut add);
                Ok(())
            }
            "frozen" => frozen(&value, instance).map(|result| conduct.frozen = result),
            "ignore" => ignore(&value).map(|patterns| conduct.ignore = patterns),
            "timeout" => time(key, &value).map(|timeout| conduct.timeout = Some(timeout)),
            _ => Ok(()),
        };
        if let Err(problem) = read {
            mistakes.add(&pipeline.sources, value.at, *problem);
        }
    }
    conduct
}

/// One result, or one for each variant.
fn frozen(value: &Node, instance: &Instance<'_>) -> Read<Option<Fingerprint>> {
    let own = match &value.data {
        Data::Map(entries) => {
            let spec = instance.spec.name.as_str();
            let is_own = |variant: &str| names(&format!("{spec}[{variant}]"), &instance.id);
            match entries.iter().find(|entry| is_own(&entry.key)) {
                Some(entry) => &entry.value,
                None => return Ok(None),
            }
        }
        _ => value,
    };
    let expected = "a result as `gradus freeze` writes it, or a map of them by variant";
    let read = own.as_text().and_then(|text| text.parse().ok());
    read.map_or_else(|| wrong_type("frozen", expected, own), |result| Ok(Some(result)))
}

fn cache(value: &Node) -> Read<bool> {
    match value.data {
        Data::Boolean(cached) => Ok(cached),
        _ => wrong_type("cache", "true or false", value),
    }
}

fn ignore(value: &Node) -> Read<Vec<String>> {
    let expected = "a list of patterns as in a `.gitignore`, say `[wandb/, '*.ckpt']`";
    let Data::List(items) = &value.data else { return wrong_type("ignore", expected, value) };
    let pattern = |item: &Node| {
        let text = item.as_text().filter(|text| check_pattern(text).is_ok());
        text.map_or_else(|| wrong_type("ignore", expected, item), |text| Ok(text.to_owned()))
    };
    items.iter().map(pattern).collect()
}

fn retries(value: &Node) -> Read<u32> {
    let count = match &value.data {
        Data::Number(number) if !number.is_f64() => number,
        _ => return wrong_type("retries", "a whole number", value),
    };
    let count = count.as_u64().filter(|count| *count <= MOST_RETRIES);
    match count.and_then(|count| u32::try_from(count).ok()) {
        Some(count) => Ok(count),
        None => out_of_range("retries", format!("at least 0 and at most {MOST_RETRIES}"), value),
    }
}
