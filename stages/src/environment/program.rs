//! A person's program as a world. Every request holds the whole conversation, so the program needs no memory, and one that
//! died can be started anew in the midst of it.

use serde_json::{Value, json};

use super::world::{Heard, Outcome, Question, World};
use crate::{
    artifact::json::Object,
    error::StageError,
    program::{Program, number},
};

const ROLE: &str = "environment";

pub(super) struct External {
    program: Program,
    talks: Vec<Talk>,
}

/// One conversation so far.
struct Talk {
    question: Question,
    /// What was said before the first reply.
    opening: String,
    turns: Vec<Value>,
}

impl External {
    pub(super) fn new(program: Program) -> Self {
        Self { program, talks: Vec::new() }
    }

    fn ask(&mut self, requests: Vec<Object>, heard: Heard<'_>) -> Result<Vec<Object>, StageError> {
        let mut found = vec![Object::new(); requests.len()];
        let mut answered = |at: usize, answer| {
            found[at] = answer;
            Ok(())
        };
        self.program.ask(requests, &mut answered, heard)?;
        Ok(found)
    }
}

impl Talk {
    fn request(&self, call: &str, more: &[(&str, Value)]) -> Object {
        let prompt = json!(self.question.prompt);
        let of = [("call", json!(call)), ("prompt", prompt), ("row", json!(self.question.columns))];
        of.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
}

/// What it said, if anything.
fn observation(answer: &Object) -> Result<Option<String>, StageError> {
    match answer.get("observation") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(StageError::refused(format!(
            "`{ROLE}`: an `observation` is a text, or null where all is said, and not `{other}`"
        ))),
    }
}

impl World for External {
    fn reset(
        &mut self,
        questions: Vec<Question>,
        heard: Heard<'_>,
    ) -> Result<Vec<String>, StageError> {
        let talk = |question| Talk { question, opening: String::new(), turns: Vec::new() };
        self.talks = questions.into_iter().map(talk).collect();
        let requests = self.talks.iter().map(|it| it.request("reset", &[])).collect();
        let answers = self.ask(requests, heard)?;
        for (talk, answer) in self.talks.iter_mut().zip(&answers) {
            talk.opening = observation(answer)?.unwrap_or_default();
        }
        Ok(self.talks.iter().map(|it| it.opening.clone()).collect())
    }

    fn step(
        &mut self,
        replies: &[(usize, String)],
        heard: Heard<'_>,
    ) -> Result<Vec<Outcome>, StageError> {
        let request = |(at, reply): &(usize, String)| {
            let talk = &self.talks[*at];
            let more = [
                ("opening", json!(talk.opening)),
                ("turns", json!(talk.turns)),
                ("reply", json!(reply)),
            ];
            talk.request("step", &more)
        };
        let requests = replies.iter().map(request).collect();
        let answers = self.ask(requests, heard)?;
        let mut outcomes = Vec::new();
        for ((at, reply), answer) in replies.iter().zip(answers) {
            let observation = observation(&answer)?;
            let reward =
                if answer.contains_key("reward") { number(ROLE, &answer, "reward")? } else { 0.0 };
            let columns = match answer.get("columns") {
                None => Object::new(),
                Some(Value::Object(columns)) => columns.clone(),
                Some(other) => {
                    return Err(StageError::refused(format!(
                        "`{ROLE}`: `columns` are an object, and not `{other}`"
                    )));
                }
            };
            let turn = json!({ "reply": reply, "observation": observation, "reward": reward });
            self.talks[*at].turns.push(turn);
            outcomes.push(Outcome { observation, reward, columns });
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gradus_protocol::Source;

    use super::*;
    use crate::program::Running;

    /// Wants as many replies as the row says, and dies once on the way.
    const COUNTS: &str = r#"#!/usr/bin/env python3
import json, os, sys
for line in sys.stdin:
    it = json.loads(line)
    said = {"id": it["id"]}
    if it["call"] == "reset":
        said["observation"] = "Begin."
    else:
        if len(it["turns"]) == 1 and not os.path.exists("died"):
            open("died", "w").close()
            sys.exit(1)
        left = it["row"]["wanted"] - len(it["turns"]) - 1
        said |= {"observation": f"{it['opening']} {left} more." if left else None, "reward": len(it["reply"])}
        said["columns"] = {"left": left, "died": os.path.exists("died")}
    print(json.dumps(said), flush=True)
"#;

    #[test]
    fn a_world_that_dies_goes_on_where_the_conversation_stood() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("world");
        fs::write(&path, COUNTS).unwrap();
        let program = Program::place(ROLE, &Source::File(path), &Running::default()).unwrap();
        let mut world = External::new(program);
        let heard = &mut || Ok(());
        let wanted = |count: u64| {
            let columns = [("wanted".to_owned(), json!(count))].into_iter().collect();
            Question { prompt: String::new(), columns }
        };
        let began = world.reset(vec![wanted(2), wanted(1)], heard).unwrap();
        assert_eq!(began, ["Begin.", "Begin."]);
        let first = [(0, "one".to_owned()), (1, "four".to_owned())];
        let found = world.step(&first, heard).unwrap();
        assert_eq!(found[0].observation.as_deref(), Some("Begin. 1 more."));
        assert_eq!((found[1].observation.as_deref(), found[1].reward), (None, 4.0));
        let last = world.step(&[(0, "five!".to_owned())], heard).unwrap();
        assert_eq!((last[0].observation.as_deref(), last[0].reward), (None, 5.0));
        assert_eq!(last[0].columns["left"], json!(0));
        assert_eq!(
            [&found[0], &last[0]].map(|it| it.columns["died"] == json!(true)),
            [false, true]
        );
    }
}
