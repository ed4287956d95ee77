//! What is wrong with a file: rows with their reasons, as many as a person wants to see.

/// Rows that are named of those with one and the same mistake.
const NAMED: usize = 5;

pub(crate) struct Mistakes {
    most: usize,
    count: usize,
    /// Reasons in the order that they came up in, each with its rows.
    found: Vec<(String, Vec<u64>)>,
}

impl Mistakes {
    /// Gathers `most` of them.
    pub(crate) fn up_to(most: usize) -> Self {
        Self { most: most.max(1), count: 0, found: Vec::new() }
    }

    /// Takes one in; says whether these are enough.
    pub(crate) fn add(&mut self, place: u64, why: String) -> bool {
        self.count += 1;
        match self.found.iter_mut().find(|(known, _)| *known == why) {
            Some((_, places)) => places.push(place),
            None => self.found.push((why, vec![place])),
        }
        self.count >= self.most
    }

    /// A line for every reason; `None` if there was none.
    pub(crate) fn words(&self) -> Option<String> {
        let lines = self.found.iter().map(|(why, places)| {
            let named: Vec<_> = places.iter().take(NAMED).map(u64::to_string).collect();
            let rows = if places.len() > 1 { "rows" } else { "row" };
            let more = match places.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{rows} {}{more}: {why}", named.join(", "))
        });
        let mut lines: Vec<_> = lines.collect();
        if self.count >= self.most {
            lines.push(format!("and perhaps more: `max_errors` is {}", self.most));
        }
        (!lines.is_empty()).then(|| lines.join("\n  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_one_reason_share_a_line_and_the_last_line_says_where_the_reading_stopped() {
        let mut mistakes = Mistakes::up_to(8);
        assert_eq!(mistakes.words(), None);
        let mut enough = Vec::new();
        for place in 2..=9 {
            let why = if place == 3 { "no text" } else { "no prompt" };
            enough.push(mistakes.add(place, why.to_owned()));
        }
        assert_eq!(enough, [[false; 4], [false, false, false, true]].concat());
        insta::assert_snapshot!(mistakes.words().unwrap(), @"
        rows 2, 4, 5, 6, 7 and 2 more: no prompt
          row 3: no text
          and perhaps more: `max_errors` is 8
        ");
    }
}
