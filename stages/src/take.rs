//! Takes in what a stranger's program made: checks it as the stages will that read it, and brings bare rows into the
//! form of a data set. `docs/artifacts.md` says what is asked of each type.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use gradus_protocol::{Input, Job, Source, TAKE};
use serde_json::json;

use crate::{
    artifact::{
        dataset::Format,
        dataset_folder::{Reader, source_at},
        tokenizer::Codec,
        true_reward::TrueReward,
    },
    context::Context,
    error::StageError,
    families,
    nn::{config::Head, pretrained::Pretrained},
    rollout::trajectories,
};

/// The port types that it knows.
pub(crate) const TYPES: [&str; 10] = [
    "completions",
    "model",
    "preference_model",
    "preferences",
    "prompts",
    "reward_model",
    "rollouts",
    "text",
    "tokenizer",
    "true_reward",
];

/// Whether `job` is one to take something in.
pub(crate) fn is_meant(job: &Job) -> bool {
    job.kind == TAKE
}

/// Checks the input `artifact` to be of `params.type`. What is written at the output `artifact` stands in its place.
pub(crate) fn take(job: &Job, context: &mut Context) -> Result<(), StageError> {
    let missing = || StageError::refused("a job to take something in without the thing");
    let source = &job.inputs.get("artifact").and_then(|it| it.first()).ok_or_else(missing)?.source;
    let to = job.outputs.get("artifact").ok_or_else(missing)?;
    let port_type = job.params["type"].as_str().unwrap_or_default();
    match port_type {
        "text" => rows(Format::Text, source, to, context),
        "prompts" => rows(Format::Prompt, source, to, context),
        "completions" => rows(Format::PromptCompletion, source, to, context),
        "preferences" => rows(Format::Preference, source, to, context),
        "rollouts" => {
            rows(Format::PromptCompletion, source, to, context)?;
            let made = to.exists().then(|| source_at(to));
            trajectories::read("rollouts", made.as_ref().unwrap_or(source)).map(drop)
        }
        "model" => model(source, Head::LanguageModel),
        "preference_model" | "reward_model" => model(source, Head::Score),
        "tokenizer" => Codec::load(source).map(drop),
        "true_reward" => match source {
            Source::File(path) => TrueReward::load(path).map(drop),
            Source::Tree(_) => {
                Err(StageError::refused("it is a folder, and a true reward is a file"))
            }
        },
        other => Err(StageError::refused(format!("nothing is known of the type `{other}`"))),
    }
}

fn rows(
    format: Format,
    source: &Source,
    to: &Path,
    context: &mut Context,
) -> Result<(), StageError> {
    if let Source::Tree(_) = source {
        let reader = Reader::open(source)?;
        if reader.format() != format {
            let found = json!(reader.format());
            return Err(StageError::refused(format!("its rows are `format: {found}`")));
        }
        for row in reader {
            context.heard()?;
            row?;
        }
        return Ok(());
    }
    // JSON Lines: as `data.load` reads them.
    let beside = to.with_extension("rest");
    let input = Input { label: String::new(), source: source.clone() };
    let job = Job {
        kind: "data.load".to_owned(),
        params: json!({ "format": format, "file_format": "jsonl" }),
        inputs: BTreeMap::from([("file".to_owned(), vec![input])]),
        outputs: [("train", to), ("test", &beside)]
            .map(|(name, to)| (name.to_owned(), to.to_owned()))
            .into(),
        seed: 0,
        threads: 1,
        checkpoints: None,
        ledger: None,
    };
    let load = families::find(&job.kind);
    let load = load.ok_or_else(|| StageError::refused("this worker loads no rows"))?;
    (load.run)(&job, context)
}

fn model(source: &Source, head: Head) -> Result<(), StageError> {
    if let Source::Tree(files) = source {
        for (name, path) in files {
            if is_pickled(path)? {
                return Err(StageError::refused(format!(
                    "`{name}` is pickled, which is a program and not only weights: save the model as safetensors, and \
                     leave that file out"
                )));
            }
        }
    }
    Pretrained::open("model", source, head, tch::Device::Cpu).map(drop)
}

/// By what it holds, whatever it is called: a pickle, or an archive of `PyTorch` with one in it.
fn is_pickled(path: &Path) -> Result<bool, StageError> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(StageError::file(path))?;
    file.take(4).read_to_end(&mut head).map_err(StageError::file(path))?;
    let is_pickle = matches!(head[..], [0x80, 2..=5, ..]);
    Ok(is_pickle || head.starts_with(b"PK\x03\x04"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// Takes in a file or a folder at `from`; gives what stands in its place, if anything does.
    fn taken(from: &Path, port_type: &str) -> Result<Option<std::path::PathBuf>, String> {
        let source = if from.is_dir() {
            Source::Tree(crate::nn::model_folder::tests::folder(from))
        } else {
            Source::File(from.to_owned())
        };
        let mut to = from.as_os_str().to_owned();
        to.push("-taken");
        let to = std::path::PathBuf::from(to);
        let job = Job {
            kind: TAKE.to_owned(),
            params: json!({ "type": port_type }),
            inputs: [("artifact".to_owned(), vec![Input { label: String::new(), source }])].into(),
            outputs: [("artifact".to_owned(), to.clone())].into(),
            seed: 0,
            threads: 1,
            checkpoints: None,
            ledger: None,
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let send = Box::new(move |reply| heard.lock().unwrap().push(reply));
        let mut context = Context::new(0, tch::Device::Cpu, Arc::default(), send);
        take(&job, &mut context).map_err(|error| error.to_string())?;
        Ok(to.exists().then_some(to))
    }

    #[test]
    fn bare_rows_become_a_data_set_and_a_data_set_stays() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("rows");
        fs::write(&file, "{\"prompt\": \"a\", \"completion\": \"b\", \"id\": 3}\n").unwrap();
        let folder = taken(&file, "completions").unwrap().unwrap();
        assert_eq!(taken(&folder, "completions"), Ok(None));
        insta::assert_snapshot!(taken(&folder, "preferences").unwrap_err(), @r#"
    its rows are `format: "prompt_completion"`
    "#);
        insta::assert_snapshot!(taken(&file, "preferences").unwrap_err(), @"
    the input `file`: row 1: there is no column `chosen`; it has `completion`, `id`: name the right one under `columns`
    ");
    }

    #[test]
    fn a_model_is_safetensors_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("config.json"), "{}").unwrap();
        fs::write(place.path().join("weights"), [0x80, 4, 0, 0]).unwrap();
        insta::assert_snapshot!(taken(place.path(), "model").unwrap_err(), @"
    `weights` is pickled, which is a program and not only weights: save the model as safetensors, and leave that file out
    ");
    }
}
