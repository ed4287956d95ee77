//! What went to another machine or came from there, and whether all here is sound.

use std::path::Path;

use gradus_cache::{Fingerprint, Verified};
use gradus_engine::run::Moved;
use gradus_remote::Place;
use serde_json::json;

use super::{
    paint::{harmless, size},
    screen::Terminal,
};

impl Terminal {
    pub(crate) fn moved(&self, word: &str, place: &Place, moved: &Moved) {
        if self.json {
            return self.value(&json!({ "remote": place.as_str(), word: moved }));
        }
        let results = count(moved.moved, "result");
        let files = match moved.sent.number {
            0 => String::new(),
            number => format!(" ({}, {})", count(number, "file"), size(moved.sent.bytes)),
        };
        let (to, there) = if word == "pushed" { ("to", "there") } else { ("from", "here") };
        let place = harmless(place.as_str());
        self.line(&format!("{word} {results}{files} {to} {place}; {} {there} before", moved.there));
        if !moved.missing.is_empty() {
            let missing = if word == "pushed" { "not cached here" } else { "not on the remote" };
            let stages = moved.missing.join(", ");
            self.line(&self.out.dim(&format!("{missing}: {}", harmless(&stages))));
        }
    }

    pub(crate) fn verified(&self, verified: &Verified, suspects: &[Fingerprint]) {
        if self.json {
            let mut value = json!(verified);
            value["suspects"] = json!(suspects);
            return self.value(&value);
        }
        for digest in &verified.damaged_blobs {
            self.line(&format!("{} blob {digest} is damaged", self.out.red("✗")));
        }
        for fingerprint in &verified.damaged_actions {
            self.line(&format!("{} result {fingerprint} is damaged", self.out.red("✗")));
        }
        for fingerprint in &verified.incomplete {
            let mark = self.out.yellow("-");
            self.line(&format!("{mark} result {fingerprint} lacks files: it will be made again"));
        }
        for fingerprint in suspects {
            let mark = self.out.yellow("-");
            let why = "was computed from what is damaged, perhaps when it was already";
            self.line(&format!("{mark} result {fingerprint} {why}: it will be made again"));
        }
        let blobs = count(verified.blobs.number, "blob");
        let actions = count(verified.actions.number, "result");
        let bytes = size(verified.blobs.bytes);
        let damaged = verified.damaged_blobs.len() + verified.damaged_actions.len();
        let rest = match damaged {
            0 => String::new(),
            number => format!("; {} set aside in quarantine", count(number, "damaged file")),
        };
        self.line(&format!("{blobs} ({bytes}) and {actions} are sound{rest}"));
    }

    pub(crate) fn key(&self, file: &Path, public: &str) {
        if self.json {
            return self.value(&json!({ "file": file, "public": public }));
        }
        self.line(public);
        self.aside(&format!(
            "the secret half is in {}: keep it there, and name it as `key` in gradus.toml or in\n\
             GRADUS_SIGNING_KEY. The line above goes into `trusted` of everybody who is to believe it",
            file.display()
        ));
    }
}

fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}
