//! What made an artifact, back to the data: a walk over actions, of which each names those before it.
//!
//! Actions are files that check themselves, so what is said here rests on no index.

use std::collections::HashMap;

use gradus_cache::{Action, Artifact, Cache, CacheError, Digest, Fingerprint, Form};

use crate::{plan::Origin, run::made::Made};

/// An artifact and all that it was made from.
#[derive(Debug)]
pub struct Lineage {
    pub artifact: Artifact,
    /// The output's name.
    pub output: String,
    /// For a file inside of a folder that was put out: its path there.
    pub inside: Option<String>,
    /// The first made the artifact. Each stands before those that it reads from.
    pub actions: Vec<Ancestor>,
    /// Stages that put out the same bytes, as `stage.output` with their runs.
    pub also: Vec<(String, String)>,
}

/// An action in the lineage of an artifact.
#[derive(Debug)]
pub struct Ancestor {
    pub fingerprint: Fingerprint,
    pub made: Made,
    pub sources: Vec<Source>,
}

/// One thing that an action read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The port, or the parameter that names the file.
    pub name: String,
    pub digest: String,
    /// `None` where the action does not say.
    pub origin: Option<Origin>,
    /// Its action, by its place in [`Lineage::actions`]. `None` for a file, and for what the cache lost.
    pub action: Option<usize>,
}

impl Lineage {
    /// Follows `output` of the action `fingerprint` back. `None` if there is no such action or output.
    pub fn of(
        cache: &Cache,
        fingerprint: &Fingerprint,
        output: &str,
    ) -> Result<Option<Self>, CacheError> {
        let Some(action) = cache.action(fingerprint)? else { return Ok(None) };
        let Some(artifact) = action.outputs.get(output).cloned() else { return Ok(None) };
        let Some(made) = Made::of(&action) else { return Ok(None) };
        let mut actions = vec![ancestor(*fingerprint, made)];
        let mut known = HashMap::from([(*fingerprint, Some(0))]);
        let mut next = 0;
        while next < actions.len() {
            for i in 0..actions[next].sources.len() {
                let origin = &actions[next].sources[i].origin;
                let Some(Origin::Stage { fingerprint, .. }) = origin else { continue };
                let fingerprint = *fingerprint;
                let found = if let Some(found) = known.get(&fingerprint) {
                    *found
                } else {
                    let made = cache.action(&fingerprint)?.as_ref().and_then(Made::of);
                    let found = made.map(|made| {
                        actions.push(ancestor(fingerprint, made));
                        actions.len() - 1
                    });
                    known.insert(fingerprint, found);
                    found
                };
                actions[next].sources[i].action = found;
            }
            next += 1;
        }
        let output = output.to_owned();
        Ok(Some(Self { artifact, output, inside: None, actions, also: Vec::new() }))
    }

    /// The lineage of whatever has a digest that begins with `prefix`; of several makers the first in time.
    pub fn of_digest(cache: &Cache, prefix: &str) -> Result<Found, CacheError> {
        let actions = cache.actions()?;
        let outputs = || {
            let all = actions.iter();
            all.flat_map(|action| action.outputs.iter().map(move |(name, it)| (action, name, it)))
        };
        let mut makers: Vec<Maker<'_>> = outputs()
            .filter(|(.., artifact)| artifact.digest.to_string().starts_with(prefix))
            .map(|(action, output, it)| Maker { action, output, digest: it.digest, inside: None })
            .collect();
        if makers.is_empty() {
            for (action, output, artifact) in outputs().filter(|it| it.2.form == Form::Tree) {
                // A folder that is damaged or gone holds nothing that could be asked about.
                for (path, file) in cache.tree(&artifact.digest).unwrap_or_default().files {
                    if file.digest.to_string().starts_with(prefix) {
                        let (digest, inside) = (file.digest, Some(path));
                        makers.push(Maker { action, output, digest, inside });
                    }
                }
            }
        }
        let mut digests: Vec<_> = makers.iter().map(|maker| maker.digest).collect();
        digests.sort();
        digests.dedup();
        if digests.len() > 1 {
            return Ok(Found::Several(digests));
        }
        makers.sort_by_key(|maker| Made::of(maker.action).map(|made| made.started));
        let Some(first) = makers.first() else {
            return Ok(Found::Nothing { readers: readers(&actions, prefix) });
        };
        let Some(lineage) = Self::of(cache, &first.action.fingerprint, first.output)? else {
            return Ok(Found::Nothing { readers: Vec::new() });
        };
        let others = makers[1..].iter().filter_map(|maker| {
            let made = Made::of(maker.action)?;
            Some((format!("{}.{}", made.stage, maker.output), made.run))
        });
        let (inside, also) = (first.inside.clone(), others.collect());
        Ok(Found::One(Box::new(Self { inside, also, ..lineage })))
    }
}

/// What is known about a digest.
#[derive(Debug)]
pub enum Found {
    One(Box<Lineage>),
    /// The beginning of these.
    Several(Vec<Digest>),
    /// No action made it. These read it, as `stage`, and by what name.
    Nothing {
        readers: Vec<(String, String)>,
    },
}

struct Maker<'a> {
    action: &'a Action,
    output: &'a str,
    digest: Digest,
    inside: Option<String>,
}

fn ancestor(fingerprint: Fingerprint, made: Made) -> Ancestor {
    let sources = sources(&made);
    Ancestor { fingerprint, made, sources }
}

/// All that an action read, inputs first.
fn sources(made: &Made) -> Vec<Source> {
    let (table, origins) = (&made.facts.table.0, &made.facts.origins);
    let mut sources = Vec::new();
    for (port, items) in table["inputs"].as_object().into_iter().flatten() {
        for (i, item) in items.as_array().into_iter().flatten().enumerate() {
            // A fan-in's items are pairs of a label and a digest.
            let digest = item.as_str().or_else(|| item[1].as_str()).unwrap_or_default().to_owned();
            let origin = origins.inputs.get(port).and_then(|all| all.get(i)).cloned();
            sources.push(Source { name: port.clone(), digest, origin, action: None });
        }
    }
    for (pointer, digest) in table["files"].as_object().into_iter().flatten() {
        let origin = origins.files.get(pointer).map(|file| Origin::File { file: file.clone() });
        let name = pointer.trim_start_matches('/').replace('/', ".");
        let digest = digest.as_str().unwrap_or_default().to_owned();
        sources.push(Source { name, digest, origin, action: None });
    }
    sources
}

/// Stages that read a file of the user's whose digest begins like this.
fn readers(actions: &[Action], prefix: &str) -> Vec<(String, String)> {
    let mut readers: Vec<_> = actions
        .iter()
        .filter_map(Made::of)
        .flat_map(|made| {
            let found = sources(&made).into_iter().filter(|it| it.digest.starts_with(prefix));
            let named = found.map(|it| it.origin.map_or(it.name, |origin| origin.to_string()));
            named.map(|name| (made.stage.clone(), name)).collect::<Vec<_>>()
        })
        .collect();
    readers.sort();
    readers.dedup();
    readers
}
