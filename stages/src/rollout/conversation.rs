//! What a policy says to prompts, and where there is a world to talk to, what they say to each other: turn by turn, all
//! conversations side by side.

use gradus_protocol::Page;

use super::{
    asked::Asked,
    trajectories::{Author, Span, Tokens, Trajectory, Turn, of_prompt},
};
use crate::{
    environment::{settings::Opened, world::Question},
    error::StageError,
    nn::{
        beam,
        generate::{Completion, Limits, generate},
        pretrained::Pretrained,
        sampling::Sampling,
        steering::Steering,
        stream::Stream,
    },
};

/// How it is sampled.
pub(crate) struct Speaker<'a> {
    pub(crate) policy: &'a Pretrained,
    pub(crate) sampling: &'a Sampling,
    /// Beginnings that are kept in a search for the likeliest completion; with 1 there is none.
    pub(crate) beams: usize,
    /// What is asked of it while it writes.
    pub(crate) steering: Option<&'a Steering>,
    /// Of a reply.
    pub(crate) max_new_tokens: usize,
    /// Conversations that are sampled side by side.
    pub(crate) rows: usize,
    pub(crate) page: &'a Page,
}

/// Where a conversation begins.
pub(crate) struct Begun<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) prompt: &'a [u32],
    /// What others have said already of the first reply.
    pub(crate) given: &'a [u32],
    pub(crate) draws: Stream,
}

/// What was said after a prompt.
pub(crate) struct Said {
    /// Of the prompt, and of all that follows.
    pub(crate) ids: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    pub(crate) log_probs: Vec<f32>,
    pub(crate) sampling_log_probs: Vec<f32>,
    /// Whether the last reply came to an end by itself.
    pub(crate) ended: bool,
    /// All of it as text.
    pub(crate) text: String,
    pub(crate) turns: Vec<Turn>,
}

impl Said {
    fn begin(begun: &Begun<'_>, opening: &[u32]) -> Self {
        let mut said = Self {
            ids: Vec::new(),
            spans: Vec::new(),
            log_probs: Vec::new(),
            sampling_log_probs: Vec::new(),
            ended: false,
            text: String::new(),
            turns: Vec::new(),
        };
        said.add(Author::Prompt, 0, begun.prompt);
        said.add(Author::Environment, 0, opening);
        said.add(Author::Others, 0, begun.given);
        said
    }

    fn add(&mut self, author: Author, turn: usize, ids: &[u32]) {
        if !ids.is_empty() {
            self.ids.extend(ids);
            self.spans.push(Span { author, tokens: ids.len(), turn });
        }
    }

    /// A trajectory of the prompt that it was said to, the `sample`th in its group.
    pub(crate) fn trajectory(self, asked: &Asked, group: usize, sample: usize) -> Trajectory {
        let mut extra = of_prompt(asked.extra.clone());
        for turn in &self.turns {
            extra.extend(turn.columns.clone());
        }
        Trajectory {
            prompt: asked.prompt.clone(),
            completion: self.text,
            tokens: Tokens {
                prompt: group,
                sample,
                ids: self.ids,
                spans: self.spans,
                log_probs: self.log_probs,
                sampling_log_probs: self.sampling_log_probs,
                ended: self.ended,
            },
            turns: self.turns,
            rewards: [].into(),
            reward: None,
            extra,
        }
    }

    /// Whether the conversation ended for want of room, and not because all was said.
    pub(crate) fn is_cut(&self, turns: usize) -> bool {
        self.turns.len() < turns && self.turns.last().is_some_and(|it| it.observation.is_some())
    }
}

impl Speaker<'_> {
    /// Holds every conversation; `heard` knows how many rows of a turn are done.
    pub(crate) fn converse(
        &self,
        mut begun: Vec<Begun<'_>>,
        world: Option<&mut Opened>,
        heard: &mut dyn FnMut(usize) -> Result<(), StageError>,
    ) -> Result<Vec<Said>, StageError> {
        let mut world = world;
        let later: Vec<Stream> = match &world {
            Some(_) => begun.iter_mut().map(|it| it.draws.named("turns")).collect(),
            None => Vec::new(),
        };
        let openings = self.openings(&begun, world.as_deref_mut(), heard)?;
        let mut all: Vec<Said> =
            begun.iter().zip(&openings).map(|(it, opening)| Said::begin(it, opening)).collect();
        let first: Vec<usize> = (0..all.len()).collect();
        let budgets: Vec<usize> =
            begun.iter().map(|it| self.max_new_tokens - it.given.len()).collect();
        let starts: Vec<usize> = begun.iter().map(|it| it.prompt.len()).collect();
        let draws = begun.into_iter().map(|it| it.draws).collect();
        let mut replies = self.speak(&mut all, &first, &budgets, draws, 0, heard)?;
        if let Some(world) = &mut world {
            let mut later: Vec<Option<Stream>> = later.into_iter().map(Some).collect();
            let mut live = first;
            for turn in 1.. {
                live = self.answered(&mut all, &live, replies, turn, world, heard)?;
                if live.is_empty() {
                    break;
                }
                let budgets = vec![self.max_new_tokens; live.len()];
                let draws = live.iter().filter_map(|at| Some(later[*at].as_mut()?.at(turn)));
                replies = self.speak(&mut all, &live, &budgets, draws.collect(), turn, heard)?;
            }
        }
        for (said, start) in all.iter_mut().zip(starts) {
            let (prompt, rest) = said.ids.split_at(start);
            said.text = self.policy.codec.continued(prompt, rest)?;
        }
        Ok(all)
    }

    /// What the world says before the first replies.
    fn openings(
        &self,
        begun: &[Begun<'_>],
        world: Option<&mut Opened>,
        heard: &mut dyn FnMut(usize) -> Result<(), StageError>,
    ) -> Result<Vec<Vec<u32>>, StageError> {
        let Some(world) = world else { return Ok(vec![Vec::new(); begun.len()]) };
        let question = |it: &Begun<'_>| Question {
            prompt: it.asked.prompt.clone(),
            columns: of_prompt(it.asked.extra.clone()),
        };
        let questions = begun.iter().map(question).collect();
        let openings = world.world.reset(questions, &mut || heard(0))?;
        let mut all = Vec::new();
        for (it, opening) in begun.iter().zip(openings) {
            let ids = self.policy.codec.encode_bare(&opening)?;
            if !self.has_room(it.prompt.len() + ids.len()) {
                return Err(StageError::refused(format!(
                    "the prompt {:?} and the {} tokens with which its environment begins leave no room for a reply of {} in \
                     the policy's context: lower `max_new_tokens`, or let it say less",
                    it.asked.prompt,
                    ids.len(),
                    self.max_new_tokens
                )));
            }
            all.push(ids);
        }
        Ok(all)
    }

    fn has_room(&self, tokens: usize) -> bool {
        tokens + self.max_new_tokens <= self.policy.model.context()
    }

    /// Has the policy say something in the conversations `live`; gives its replies as texts.
    fn speak(
        &self,
        all: &mut [Said],
        live: &[usize],
        budgets: &[usize],
        draws: Vec<Stream>,
        turn: usize,
        heard: &mut dyn FnMut(usize) -> Result<(), StageError>,
    ) -> Result<Vec<String>, StageError> {
        let Self { policy, sampling, beams, steering, max_new_tokens, rows, page } = *self;
        let eos = policy.model.config.eos.as_slice();
        let limits = Limits { max_new_tokens, budgets: Some(budgets), eos, rows, steering };
        let before: Vec<&[u32]> = live.iter().map(|at| all[*at].ids.as_slice()).collect();
        let found = if beams > 1 {
            beam::search(&policy.model, &before, beams, &limits, page, heard)?
        } else {
            generate(&policy.model, &before, draws, sampling, &limits, page, heard)?
        };
        let mut replies = Vec::new();
        for (at, Completion { ids, log_probs, sampling_log_probs }) in live.iter().zip(found) {
            let said = &mut all[*at];
            // What others have begun is part of the reply.
            let given = said.spans.last().filter(|it| it.author == Author::Others);
            let start = said.ids.len() - given.map_or(0, |it| it.tokens);
            said.add(Author::Policy, turn, &ids);
            said.log_probs.extend(log_probs);
            said.sampling_log_probs.extend(sampling_log_probs);
            said.ended = ids.last().is_some_and(|last| eos.contains(last));
            replies.push(policy.codec.continued(&said.ids[..start], &said.ids[start..])?);
        }
        Ok(replies)
    }

    /// Hears what the world says to `replies`, before `turn`; gives those conversations that go on.
    fn answered(
        &self,
        all: &mut [Said],
        live: &[usize],
        replies: Vec<String>,
        turn: usize,
        world: &mut Opened,
        heard: &mut dyn FnMut(usize) -> Result<(), StageError>,
    ) -> Result<Vec<usize>, StageError> {
        let replies: Vec<(usize, String)> = live.iter().copied().zip(replies).collect();
        let outcomes = world.world.step(&replies, &mut || heard(0))?;
        let mut going = Vec::new();
        for ((at, reply), outcome) in replies.into_iter().zip(outcomes) {
            let said = &mut all[at];
            let observation = outcome.observation;
            if let Some(text) = observation.as_ref().filter(|_| turn < world.turns) {
                let ids = self.policy.codec.encode_bare(text)?;
                if self.has_room(said.ids.len() + ids.len()) {
                    said.add(Author::Environment, turn, &ids);
                    going.push(at);
                }
            }
            let (reward, columns) = (outcome.reward, outcome.columns);
            said.turns.push(Turn { reply, observation, reward, columns });
        }
        Ok(going)
    }
}
