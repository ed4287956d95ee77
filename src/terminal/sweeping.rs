//! What a sweep takes, and what is kept from it.

use std::time::Duration;

use gradus_cache::Swept;
use serde_json::json;

use super::{
    paint::{duration, pad, size},
    screen::Terminal,
};

impl Terminal {
    pub(crate) fn swept(&self, swept: &Swept, deleted: bool, grace: Duration) {
        if self.json {
            return self.value(&json!({ "deleted": deleted, "swept": swept }));
        }
        let rows = [
            ("results of stages", swept.results),
            ("objects", swept.objects),
            ("left by dead processes", swept.attempts),
            ("checkpoints", swept.checkpoints),
            ("computed row by row", swept.ledger),
            ("damaged files", swept.quarantine),
            ("runs", swept.runs),
        ];
        for (name, count) in rows.iter().filter(|(_, count)| count.number > 0) {
            let number = pad(&count.number.to_string(), 8);
            self.line(&format!("  {}  {number}  {}", pad(name, 22), size(count.bytes)));
        }
        let (freed, kept) = (size(swept.bytes()), size(swept.kept.bytes));
        let grace = duration(grace.as_secs_f64());
        let number = swept.kept.number;
        let stays =
            format!("{kept} in {number} objects stay, with all that was used within {grace}");
        match (deleted, swept.bytes()) {
            (_, 0) => self.line(&format!("nothing to delete; {stays}")),
            (true, _) => self.line(&format!("freed {freed}; {stays}")),
            (false, _) => {
                self.line(&format!("would free {freed}; {stays}"));
                self.line(&self.out.dim("nothing was deleted yet: `--delete` does it"));
            }
        }
    }

    pub(crate) fn pinned(&self, run: &str, pinned: bool) {
        if self.json {
            return self.value(&json!({ "run": run, "pinned": pinned }));
        }
        let word = if pinned { "stays, with all that it uses" } else { "is no longer pinned" };
        self.line(&format!("run {run} {word}"));
    }
}
