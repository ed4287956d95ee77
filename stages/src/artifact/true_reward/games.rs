//! Games of preferences: how often each of a prompt's replies is preferred to each other one, so that what people prefer need be no
//! matter of a reward (after Munos et al. 2023, "Nash Learning from Human Feedback").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GamePreference {
    /// Prompt → its game.
    pub(crate) games: BTreeMap<String, Replies>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replies {
    pub(crate) replies: Vec<String>,
    /// How often the reply of the row is preferred to that of the column.
    pub(crate) preference: Vec<Vec<f64>>,
}

impl Replies {
    /// Two replies of which the first is as far ahead of the second as `ahead` says: `σ(ahead)`, and the other way round what is left.
    pub(crate) fn of(replies: Vec<String>, ahead: impl Fn(usize, usize) -> f64) -> Self {
        let odds = |i: usize, j: usize| 1.0 / (1.0 + (-ahead(i, j)).exp());
        let won = |i: usize, j: usize| match i.cmp(&j) {
            std::cmp::Ordering::Less => odds(i, j),
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 1.0 - odds(j, i),
        };
        let all = 0..replies.len();
        let preference = all.clone().map(|i| all.clone().map(|j| won(i, j)).collect()).collect();
        Self { replies, preference }
    }

    fn place(&self, reply: &str) -> Option<usize> {
        self.replies.iter().position(|it| it == reply)
    }

    /// What makes it no game, if anything.
    fn fault(&self) -> Option<String> {
        let count = self.replies.len();
        if self.preference.len() != count || self.preference.iter().any(|row| row.len() != count) {
            return Some(format!("its `preference` is no table of {count} by {count}"));
        }
        let opposite = |i: usize, j: usize| {
            let (one, other) = (self.preference[i][j], self.preference[j][i]);
            (0.0..=1.0).contains(&one) && (one + other - 1.0).abs() < 1e-9
        };
        let apart = (0..count)
            .flat_map(|i| (0..count).map(move |j| (i, j)))
            .find(|(i, j)| !opposite(*i, *j));
        apart.map(|(i, j)| {
            format!(
                "{:?} is preferred to {:?} {} of the time and the other way round {}, which is not 1 together",
                self.replies[i], self.replies[j], self.preference[i][j], self.preference[j][i]
            )
        })
    }
}

impl GamePreference {
    /// What makes one of them no game, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = |(prompt, game): (&String, &Replies)| {
            game.fault().map(|why| format!("the game of {prompt:?}: {why}"))
        };
        self.games.iter().find_map(fault)
    }

    /// What is none of the replies loses to those that are.
    pub(super) fn preference(&self, prompt: &str, one: &str, other: &str) -> f64 {
        let Some(game) = self.games.get(prompt) else { return 0.5 };
        match (game.place(one), game.place(other)) {
            (Some(i), Some(j)) => game.preference[i][j],
            (Some(_), None) => 1.0,
            (None, Some(_)) => 0.0,
            (None, None) => 0.5,
        }
    }

    /// How often it is preferred to a reply drawn at random.
    pub(super) fn score(&self, prompt: &str, reply: &str) -> f64 {
        let all = self.replies(prompt);
        let won: f64 = all.iter().map(|other| self.preference(prompt, reply, other)).sum();
        won / all.len().max(1) as f64
    }

    pub(super) fn replies(&self, prompt: &str) -> Vec<&str> {
        let game = self.games.get(prompt);
        game.map_or(Vec::new(), |game| game.replies.iter().map(String::as_str).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rock_paper_scissors() -> GamePreference {
        let replies = ["rock", "scissors", "paper"].map(str::to_owned).to_vec();
        // Each beats the next, three times in four.
        let ahead = |i: usize, j: usize| if (i + 1) % 3 == j { 3_f64.ln() } else { -3_f64.ln() };
        GamePreference { games: [("A".to_owned(), Replies::of(replies, ahead))].into() }
    }

    #[test]
    fn three_replies_beat_each_other_in_a_circle_and_odds_are_opposite() {
        let world = rock_paper_scissors();
        let won = |one: &str, other: &str| world.preference("A", one, other);
        for (one, other) in [("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")] {
            assert!(
                (won(one, other) - 0.75).abs() < 1e-12 && (won(other, one) - 0.25).abs() < 1e-12
            );
        }
        assert!((won("rock", "rock") - 0.5).abs() < 1e-12);
        assert!(
            won("rock", "well") > 0.9
                && won("", "paper") < 0.1
                && (won("", "well") - 0.5).abs() < 1e-12
        );
        assert!((world.score("A", "paper") - 0.5).abs() < 1e-12);
        assert_eq!(world.fault(), None);
    }

    #[test]
    fn a_table_that_is_no_game_is_told_by_its_replies() {
        let mut world = rock_paper_scissors();
        world.games.get_mut("A").unwrap().preference[0][1] = 0.8;
        let fault = world.fault().unwrap();
        assert!(
            fault.contains("the game of \"A\": \"rock\" is preferred to \"scissors\" 0.8"),
            "{fault}"
        );
        world.games.get_mut("A").unwrap().preference.pop();
        assert!(world.fault().unwrap().contains("no table of 3 by 3"));
    }
}
