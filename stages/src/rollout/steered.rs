//! How a model is steered while it is sampled: a parameter of `rollout.sample` and `evaluate.policy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::tokenizer::Codec, error::StageError, nn::steering::Steering, verifier::compiled,
};

/// Control tokens, as `data.annotate` puts them into texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Steered {
    /// The token that is put in for the model, `<|aligned|>` say; it is no part of what is judged. Where `after` says when it comes, the
    /// model does not say it by itself.
    #[serde(default)]
    control: Option<String>,
    /// Whether it stands behind the prompt.
    #[serde(default = "yes")]
    first: bool,
    /// A regular expression of tokens behind which it is put in, too, unless the text ends there: what ends a segment, `[.!?]$` say.
    #[serde(default)]
    after: Option<String>,
    /// Tokens that are never said.
    #[serde(default)]
    forbid: Vec<String>,
    /// Tokens beside which nothing is said; all may be where none stands here.
    #[serde(default)]
    only: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Default for Steered {
    fn default() -> Self {
        Self { control: None, first: true, after: None, forbid: Vec::new(), only: Vec::new() }
    }
}

impl Steered {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Tokens that stand behind a prompt.
    pub(crate) fn room(&self) -> usize {
        usize::from(self.control.is_some() && self.first)
    }

    /// What is put behind prompts, and what is asked while the model writes.
    pub(crate) fn of(
        &self,
        codec: &Codec,
        eos: &[u32],
    ) -> Result<(Option<u32>, Steering), StageError> {
        let id = |token: &String| match codec.encode_bare(token)?.as_slice() {
            [id] => Ok(*id),
            ids => Err(StageError::refused(format!(
                "`steering` names `{token}`, which is {} tokens of the policy's tokenizer: give it to `data.tokenizer` as one of its \
                 `special_tokens`",
                ids.len()
            ))),
        };
        let control = self.control.as_ref().map(id).transpose()?;
        let ids = |all: &[String]| -> Result<Vec<i64>, StageError> {
            all.iter().map(|it| Ok(i64::from(id(it)?))).collect()
        };
        let (forbidden, only) = (ids(&self.forbid)?, ids(&self.only)?);
        let ends = match (&self.after, control) {
            (Some(_), None) => {
                return Err(StageError::refused(
                    "`steering` says where a control token goes, and not which: name it in `control`",
                ));
            }
            (Some(after), Some(_)) => {
                codec.tokens_matching(&compiled(after).map_err(StageError::Refused)?)?
            }
            (None, _) => Vec::new(),
        };
        let put_in = control.filter(|_| self.first);
        let control = control.filter(|_| self.after.is_some()).map(i64::from);
        let eos = eos.iter().map(|id| i64::from(*id)).collect();
        Ok((put_in, Steering { forbidden, only, control, ends, eos }))
    }
}
