//! `gradus lineage`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use gradus_cache::Cache;
use gradus_engine::{
    plan::names,
    run::{Found, Lineage as Ancestry, RunRecord},
};

use super::common::{self, CacheArgs, kinds_here};
use crate::{failure::Failure, terminal::Terminal};

/// Tell what made a file, back to the data
///
/// ARTIFACT is a file or folder, the digest of one or the beginning of it, or `stage.output` of the last
/// run that has it.
#[derive(Debug, Args)]
pub(crate) struct Lineage {
    #[arg(value_name = "ARTIFACT")]
    artifact: String,
    /// Read ARTIFACT as `stage.output` of this pipeline's last run
    #[arg(long = "of", value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// The language of the picture
    #[arg(long = "as", value_enum, default_value_t = As::Text, value_name = "LANGUAGE")]
    language: As,
    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    Text,
    Mermaid,
}

/// Fewer digits could mean anything, a stage called `add` for example.
const LEAST_DIGITS: usize = 4;

impl Lineage {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let cache = self.cache.open_for(self.pipeline.as_deref())?;
        let path = Path::new(&self.artifact);
        let is_digest = self.artifact.len() >= LEAST_DIGITS
            && self.artifact.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        let lineage = if self.pipeline.is_none() && path.exists() {
            // A link to a file in the store is meant as that file.
            let real = path.canonicalize().unwrap_or(path.to_owned());
            let (artifact, _) = cache.hash_path(&real, &[])?;
            by_digest(&cache, &artifact.digest.to_string(), &self.artifact)?
        } else if self.pipeline.is_none() && is_digest {
            by_digest(&cache, &self.artifact, &self.artifact)?
        } else {
            let runs = common::runs(&cache, self.pipeline.as_deref())?;
            by_name(&cache, &runs, &self.artifact)?
        };
        match self.language {
            As::Mermaid => terminal.lineage_in_mermaid(&lineage),
            As::Text => terminal.lineage(&lineage, &kinds_here()?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn by_digest(cache: &Cache, digest: &str, named: &str) -> Result<Ancestry, Failure> {
    match Ancestry::of_digest(cache, digest)? {
        Found::One(lineage) => Ok(*lineage),
        Found::Several(digests) => {
            let words: Vec<_> = digests.iter().take(5).map(ToString::to_string).collect();
            Err(Failure::refused(
                format!("`{named}` begins several digests"),
                format!("write more of one: {}", words.join(", ")),
            ))
        }
        Found::Nothing { readers } if readers.is_empty() => Err(Failure::refused(
            format!("nothing in this cache made `{named}`"),
            "name a file that a stage put out, its digest, or `stage.output`",
        )),
        Found::Nothing { readers } => {
            let words = readers.iter().take(5).map(|(stage, name)| format!("{stage} as {name}"));
            Err(Failure::refused(
                format!("nothing in this cache made `{named}`: it is data of yours"),
                format!("read by {}", words.collect::<Vec<_>>().join(", ")),
            ))
        }
    }
}

/// `stage.output`, or a stage with one output, in the newest run that has it.
fn by_name(cache: &Cache, runs: &[RunRecord], name: &str) -> Result<Ancestry, Failure> {
    // A matrix variant may have dots in its brackets: only what follows them names an output.
    let bracket = name.rfind(']').map_or(0, |end| end + 1);
    let (stage, output) = match name[bracket..].split_once('.') {
        Some((head, output)) => (format!("{}{head}", &name[..bracket]), Some(output)),
        None => (name.to_owned(), None),
    };
    let stages = runs
        .iter()
        .flat_map(|run| &run.stages)
        .filter(|it| it.stage == stage || (stage.contains('[') && names(&stage, &it.stage)));
    let Some(found) = stages.clone().find(|it| it.fingerprint.is_some()) else {
        return Err(Failure::refused(
            format!("`{name}` is no file, no digest, and no stage that has run"),
            "`gradus runs` lists the runs there are, `gradus show` the stages of one",
        ));
    };
    let known: Vec<_> = found.outputs.keys().map(String::as_str).collect();
    let output = match (output, known.as_slice()) {
        (Some(output), known) if known.contains(&output) => output,
        (None, [only]) => only,
        (Some(output), _) => {
            return Err(Failure::refused(
                format!("`{stage}` has no output `{output}`"),
                format!("its outputs: {}", known.join(", ")),
            ));
        }
        (None, _) => {
            let words: Vec<_> = known.iter().map(|output| format!("{stage}.{output}")).collect();
            return Err(Failure::refused(
                format!("`{stage}` does not have one output"),
                format!("name one: {}", words.join(", ")),
            ));
        }
    };
    let lineage = match &found.fingerprint {
        Some(fingerprint) => Ancestry::of(cache, fingerprint, output)?,
        None => None,
    };
    lineage.ok_or_else(|| {
        Failure::refused(
            format!("the cache does not know any more what made `{name}`"),
            "run the pipeline again",
        )
    })
}
