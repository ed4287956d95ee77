//! Looks at files of a person's own before anything runs: whether a stage will be able to read them, by their
//! beginnings alone, and what is known of them then.

use gradus_protocol::{Input, Job, LOOK, catalog::PortType};

use crate::{
    artifact::{dataset_folder::Reader, tokenizer::Codec},
    context::Context,
    error::StageError,
    families,
    nn::{config::Head, pretrained},
    rules::CONTEXT,
};

/// Whether `job` is one to look.
pub(crate) fn is_meant(job: &Job) -> bool {
    job.kind == LOOK
}

/// Looks at what the stage of kind `params.kind` with `params.params` is given; tells facts as numbers `PORT.FACT`.
pub(crate) fn look(job: &Job, context: &mut Context) -> Result<(), StageError> {
    let kind = job.params["kind"].as_str().unwrap_or_default();
    let stage = families::find(kind)
        .ok_or_else(|| StageError::refused(format!("this worker has no kind `{kind}`")))?;
    for port in (stage.describe)().inputs {
        let PortType::Is(types) = &port.port_type else { continue };
        let [one] = job.inputs.get(&port.name).map_or(&[][..], Vec::as_slice) else { continue };
        let found = at_input(&port.name, types, one, context);
        found.map_err(|error| error.about(&port.name))?;
    }
    (stage.look)(&job.params["params"], &job.inputs)
}

fn at_input(
    port: &str,
    types: &[String],
    input: &Input,
    context: &mut Context,
) -> Result<(), StageError> {
    let source = &input.source;
    let reads = |name: &str| types.iter().any(|it| it == name);
    for (name, head) in [
        ("model", Head::LanguageModel),
        ("preference_model", Head::Score),
        ("reward_model", Head::Score),
    ] {
        if reads(name) {
            let config = pretrained::look(source, head)?;
            context.summary(&format!("{port}.{CONTEXT}"), config.context_length as f64);
            return Ok(());
        }
    }
    if reads("tokenizer") {
        return Codec::load(source).map(drop);
    }
    let is_rows = ["text", "prompts", "completions", "preferences"].into_iter().any(reads);
    let is_folder = matches!(source, gradus_protocol::Source::Tree(_));
    if is_rows && is_folder {
        Reader::open(source)?.next().transpose()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use gradus_protocol::{Reply, Source};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        artifact::tokenizer::tests::words,
        nn::{
            config::{Config, tests::tiny},
            decoder::Model,
            model_folder::{self, tests::folder},
            stream::Stream,
        },
    };

    /// What is found of a stage's files: facts, or what is wrong.
    fn looked(kind: &str, params: &Value, inputs: &[(&str, Source)]) -> Result<String, String> {
        let input = |source: &Source| Input { label: String::new(), source: source.clone() };
        let job = Job {
            kind: LOOK.to_owned(),
            params: json!({ "kind": kind, "params": params }),
            inputs: inputs.iter().map(|(port, it)| ((*port).to_owned(), vec![input(it)])).collect(),
            outputs: [].into(),
            seed: 0,
            threads: 1,
            checkpoints: None,
            ledger: None,
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&heard);
        let send = Box::new(move |reply| {
            if let Reply::Metric { name, value: Some(value), .. } = reply {
                hear.lock().unwrap().push(format!("{name}={value}"));
            }
        });
        let mut context = Context::new(0, tch::Device::Cpu, Arc::default(), send);
        look(&job, &mut context).map_err(|error| error.to_string())?;
        let heard = heard.lock().unwrap().join("; ");
        Ok(heard)
    }

    #[test]
    fn a_data_files_first_rows_are_held_against_the_format() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("rows.jsonl");
        std::fs::write(&path, "{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap();
        let load = |format: &str, file: &std::path::Path| {
            let found = looked("data.load", &json!({ "path": file, "format": format }), &[]);
            found.map_err(|words| words.replace(&format!("{}/", place.path().display()), ""))
        };
        assert_eq!(load("prompt_completion", &path), Ok(String::new()));
        insta::assert_snapshot!(load("preference", &path).unwrap_err(), @"
    `rows.jsonl`: row 1: there is no column `chosen`; it has `completion`: name the right one under `columns`
    ");
        // Only the first of many rows are read.
        let mut rows = "{\"prompt\": \"a\", \"completion\": \"b\"}\n".repeat(5000);
        rows += "nonsense\n";
        std::fs::write(&path, rows).unwrap();
        assert_eq!(load("prompt_completion", &path), Ok(String::new()));
        insta::assert_snapshot!(load("prompt_completion", &place.path().join("gone.jsonl")).unwrap_err(), @"
    `gone.jsonl`: No such file or directory (os error 2)
    ");
        // What another stage makes is not there yet.
        assert_eq!(looked("data.load", &json!({ "format": "text" }), &[]), Ok(String::new()));
    }

    #[test]
    fn a_models_folder_is_looked_at_without_its_weights() {
        let place = tempfile::tempdir().unwrap();
        let save = |config| {
            let model = Model::fresh(config, Stream::of(1), tch::Device::Cpu);
            model_folder::save(&model, place.path()).unwrap();
        };
        save(tiny());
        words(place.path(), &["▁a"], &["A"]);
        let of = |kind: &str, port: &str| {
            let params = json!({ "learning_rate": 1e-3 });
            looked(kind, &params, &[(port, Source::Tree(folder(place.path())))])
        };
        assert_eq!(of("train.sft", "model"), Ok("model.context_length=32".to_owned()));
        insta::assert_snapshot!(of("feedback.reward_model", "preferences").unwrap_err(), @"
    preferences: a folder without `rows.jsonl` and `dataset.json` is not a data set of gradus: bring it in with `data.load`
    ");
        insta::assert_snapshot!(of("evaluate.policy", "reward_model").unwrap_err(), @"
    reward_model: this is a language model; a reward model is needed
    ");
        // The weights are not read, but what they are is.
        save(Config { context_length: 64, vocab_size: 2, ..tiny() });
        insta::assert_snapshot!(of("train.sft", "model").unwrap_err(), @"
    model: the tokenizer has token 2 `▁a`, and the model's embedding ends at 1: is it the tokenizer of another model?
    ");
        std::fs::write(
            place.path().join("config.json"),
            r#"{ "architectures": ["OddForCausalLM"] }"#,
        )
        .unwrap();
        insta::assert_snapshot!(of("policy.dpo", "policy").unwrap_err(), @"
    policy: `config.json`: `model_type` is `missing`; llama, qwen2 and qwen3 can be read
    ");
    }
}
