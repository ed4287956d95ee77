//! `reward.answers`: the answers in a column of rows as a true reward, so that policies can be evaluated on questions of a person's own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::{Fields, Row},
        dataset_folder::Reader,
        true_reward::{TrueReward, answers::AnswerReward},
    },
    context::Context,
    error::StageError,
    port::{Out, ports},
    stage::Stage,
    verifier::Match,
};

/// Make a reward of answers.
pub(crate) struct Answers;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The column with the answer to each prompt; `completion` where a worked answer is what rows are completed by.
    #[serde(default = "answer")]
    column: String,
    /// How a completion is held against it.
    #[serde(default)]
    r#match: Match,
}

fn answer() -> String {
    "answer".to_owned()
}

ports!(Inputs {
    /// Prompts with their answers in a column.
    prompts: artifact::Prompts,
});
ports!(Outputs {
    /// 1 for a completion that has the answer to its prompt, else 0.
    true_reward: Out<artifact::TrueReward>,
});

impl Stage for Answers {
    const KIND: &'static str = "reward.answers";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Make a true reward of the answers that stand in a column of rows.

Completions are then right or wrong, so `evaluate.policy` has intervals of rates and `pass_at`. It knows these prompts \
alone: a completion of another one is refused.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let rows = Reader::open_some("prompts", &inputs.prompts.source)?;
        let mut answers = BTreeMap::new();
        for (number, row) in rows.enumerate() {
            let added = params.add(&row?, &mut answers);
            added.map_err(|why| {
                StageError::refused(format!("`prompts`, row {}: {why}", number + 1))
            })?;
        }
        context.summary("prompts", answers.len() as f64);
        let reward = TrueReward::Answers(AnswerReward { r#match: params.r#match, answers });
        reward.save(&outputs.true_reward.path)
    }
}

impl Params {
    fn add(&self, row: &Row, answers: &mut BTreeMap<String, String>) -> Result<(), String> {
        let answer = match (&row.fields, self.column.as_str()) {
            (Fields::PromptCompletion(row), "completion") => row.completion.clone(),
            (_, column) => {
                let value = row.extra.get(column).ok_or_else(|| {
                    let known: Vec<_> = row.columns().map(|it| format!("`{it}`")).collect();
                    format!(
                        "there is no column `{column}`: name the one with the answer in `column`; there are {}",
                        known.join(", ")
                    )
                })?;
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            }
        };
        self.r#match.holds("", &answer)?;
        let prompt = row.prompt();
        if let Some(known) = answers.get(prompt).filter(|known| **known != answer) {
            return Err(format!(
                "the answer to `{prompt}` is `{answer}`, and was `{known}` in a row before: leave one of them out"
            ));
        }
        answers.insert(prompt.to_owned(), answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::artifact::dataset::{CompletionRow, PromptRow};

    fn params(column: &str) -> Params {
        serde_json::from_value(json!({ "column": column, "match": "gsm8k" })).unwrap()
    }

    fn asked(prompt: &str, answer: &str) -> Row {
        let mut row: Row = Fields::Prompt(PromptRow { prompt: prompt.to_owned() }).into();
        row.extra.insert("answer".to_owned(), json!(answer));
        row
    }

    #[test]
    fn answers_are_those_of_a_column_or_of_the_completion() {
        let mut found = BTreeMap::new();
        params("answer").add(&asked("2 + 3?", "#### 5"), &mut found).unwrap();
        let (prompt, completion) = ("3 + 4?".to_owned(), "3 + 4 = 7\n#### 7".to_owned());
        let row = Fields::PromptCompletion(CompletionRow { prompt, completion }).into();
        params("completion").add(&row, &mut found).unwrap();
        let known: Vec<_> = found.values().map(String::as_str).collect();
        assert_eq!(known, ["#### 5", "3 + 4 = 7\n#### 7"]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let mut known = BTreeMap::new();
        params("answer").add(&asked("2 + 3?", "#### 5"), &mut known).unwrap();
        params("answer").add(&asked("2 + 3?", "#### 5"), &mut known).unwrap();
        let mut refused =
            |column: &str, row: &Row| params(column).add(row, &mut known).unwrap_err();
        insta::assert_snapshot!(refused("answer", &asked("2 + 3?", "#### 6")), @"the answer to `2 + 3?` is `#### 6`, and was `#### 5` in a row before: leave one of them out");
        insta::assert_snapshot!(refused("result", &asked("1 + 1?", "2")), @"there is no column `result`: name the one with the answer in `column`; there are `prompt`, `answer`");
        insta::assert_snapshot!(refused("answer", &asked("1 + 1?", "two")), @"the answer `two` has no number");
    }
}
