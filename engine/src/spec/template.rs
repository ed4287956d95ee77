//! `templates`: stages that are written once and used with other arguments.
//!
//! A stage that uses one is its body with the stage's own keys laid over. What comes of it is an ordinary
//! stage: nothing of the template stands in its fingerprint.

use super::{
    mistake::{Problem, nearest},
    node::{Data, Entry, Node},
    place::At,
    reader::{Reader, STAGE_KEYS, Template},
    reference::is_name,
};

/// Keys whose maps are joined entry by entry; of all others a stage's own stands.
const JOINED: [&str; 5] = ["with", "inputs", "outputs", "env", "resources"];
/// Bytes that stages may take from templates, all together.
const MOST_EXPANDED: usize = 32 << 20;

impl Reader<'_> {
    /// Reads an entry of `templates`.
    pub(super) fn template(&mut self, entry: &Entry, prefix: &str) {
        let place = format!("the template `{}`", entry.key);
        if !is_name(&entry.key) {
            self.add(entry.at, Problem::BadName { what: format!("`{}`", entry.key) });
        }
        let Some(node) = self.body(entry, &place) else { return };
        let mut known: Vec<&str> = STAGE_KEYS.to_vec();
        known.retain(|key| *key != "template");
        known.push("required");
        self.keys(&node, &place, &known);
        let defaults = self.entries(node.get("args"), "`args`");
        let required = self.list_of_text(node.get("required"), "`required`");
        let names = defaults.iter().map(|entry| (&entry.key, entry.at));
        let at = node.get("required").map_or(entry.at, |node| node.at);
        for (name, at) in names.chain(required.iter().map(|name| (name, at))) {
            if !is_name(name) {
                self.add(at, Problem::BadName { what: format!("`{name}`") });
            }
        }
        if let Some(twice) = defaults.iter().find(|entry| required.contains(&entry.key)) {
            // What has a default is not required.
            self.add(twice.at, Problem::DuplicateKey(twice.key.clone()));
        }
        if node.get("kind").is_none() {
            self.add(entry.at, Problem::MissingKey { place, key: "kind" });
        }
        let is_body = |entry: &&Entry| {
            known.contains(&entry.key.as_str()) && entry.key != "args" && entry.key != "required"
        };
        let body = node.entries().iter().filter(is_body).cloned().collect();
        let body = Node { data: Data::Map(body), at: node.at };
        self.templates.push(Template {
            name: format!("{prefix}{}", entry.key),
            at: entry.at,
            used: false,
            body,
            defaults,
            required,
        });
    }

    /// The keys of a stage with those of its template beneath, and what the template is given.
    pub(super) fn expanded_stage(&mut self, stage: &str, own: Node) -> Option<(Node, Vec<Entry>)> {
        let Some(named) = own.get("template").cloned() else {
            if let Some(args) = own.entries().iter().find(|entry| entry.key == "args") {
                let place = format!("stage `{stage}`");
                self.add(args.at, Problem::MissingKey { place, key: "template" });
            }
            return Some((own, Vec::new()));
        };
        let name = self.text(Some(&named), "`template`")?;
        if let Some(kind) = own.entries().iter().find(|entry| entry.key == "kind") {
            self.add(kind.at, Problem::KindAndTemplate(stage.to_owned()));
        }
        let given = self.entries(own.get("args"), "`args`");
        let index = self.find_template(&name, named.at)?;
        self.templates[index].used = true;
        if !self.accepts(stage, &name, index, &given, named.at) {
            return None;
        }
        let template = &self.templates[index];
        let before = self.expanded;
        self.expanded = before.saturating_add(template.body.weight());
        if self.expanded > MOST_EXPANDED {
            // Said once, for the stage that breaks the limit.
            if before <= MOST_EXPANDED {
                let what = "bytes that stages take from templates";
                self.add(named.at, Problem::Limit { what, limit: MOST_EXPANDED });
            }
            return None;
        }
        let defaults = template.defaults.iter();
        let rest = defaults.filter(|it| given.iter().all(|given| given.key != it.key)).cloned();
        let args = rest.collect::<Vec<_>>();
        let node = laid_over(&template.body, &own);
        Some((node, args.into_iter().chain(given).collect()))
    }

    /// The template that `name`, written at `at`, means.
    fn find_template(&mut self, name: &str, at: At) -> Option<usize> {
        let module = self.sources.get(at).module;
        let prefix = self.modules.get(module).map_or("", |module| module.prefix.as_str());
        let full = format!("{prefix}{name}");
        let found = self.templates.iter().position(|template| template.name == full);
        let unread = self.modules.iter().any(|it| !it.sound && full.starts_with(&it.prefix));
        if found.is_none() && !unread {
            let names: Vec<&str> =
                self.templates.iter().filter_map(|it| it.name.strip_prefix(prefix)).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let nearest = nearest(name, names);
            self.add(at, Problem::UnknownTemplate { name: name.to_owned(), nearest, known });
        }
        found
    }

    /// Whether all is given that a template needs; says what is missing, and what is too much.
    fn accepts(&mut self, stage: &str, name: &str, index: usize, given: &[Entry], at: At) -> bool {
        let template = &self.templates[index];
        let known = template.required.iter().chain(template.defaults.iter().map(|it| &it.key));
        let known: Vec<String> = known.cloned().collect();
        let is_given = |name: &String| given.iter().any(|entry| entry.key == *name);
        let missing: Vec<_> =
            template.required.iter().filter(|it| !is_given(it)).cloned().collect();
        for entry in given.iter().filter(|entry| !known.contains(&entry.key)) {
            let problem = Problem::UnknownParameter {
                kind: name.to_owned(),
                name: entry.key.clone(),
                nearest: nearest(&entry.key, known.iter().map(String::as_str)),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            };
            self.add(entry.at, problem);
        }
        for name_of in &missing {
            let problem = Problem::MissingParameter {
                stage: stage.to_owned(),
                kind: name.to_owned(),
                name: name_of.clone(),
                doc: "an argument of the template that has no default".to_owned(),
            };
            self.add(at, problem);
        }
        missing.is_empty()
    }
}

/// A stage's own keys over those of its template.
fn laid_over(body: &Node, own: &Node) -> Node {
    let mut entries = body.entries().to_vec();
    let keys = own.entries().iter();
    for entry in keys.filter(|entry| !["template", "args", "kind"].contains(&entry.key.as_str())) {
        match entries.iter_mut().find(|it| it.key == entry.key) {
            Some(below) if JOINED.contains(&entry.key.as_str()) => {
                below.value = joined(&below.value, &entry.value);
            }
            Some(below) => *below = entry.clone(),
            None => entries.push(entry.clone()),
        }
    }
    Node { data: Data::Map(entries), at: own.at }
}

/// Both maps in one, and so on below; anything else of `over` stands.
fn joined(below: &Node, over: &Node) -> Node {
    let (Data::Map(below), Data::Map(new)) = (&below.data, &over.data) else { return over.clone() };
    let mut entries = below.clone();
    for entry in new {
        match entries.iter_mut().find(|it| it.key == entry.key) {
            Some(it) => {
                let value = joined(&it.value, &entry.value);
                *it = Entry { value, ..entry.clone() };
            }
            None => entries.push(entry.clone()),
        }
    }
    Node { data: Data::Map(entries), at: over.at }
}
