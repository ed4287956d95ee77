//! `templates`: stages that are written once and used with other arguments.
//!
//! A stage that uses one is its body with the stage's own keys laid over, and so is a template that builds on another.
//! What comes of it is an ordinary stage: nothing of the template stands in its fingerprint.

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
    /// Reads all `templates` of a file, in whatever order they build on each other.
    pub(super) fn templates_of(&mut self, entries: Vec<Entry>, prefix: &str) {
        let mut waiting = entries;
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.iter().map(|entry| entry.key.clone()).collect();
            let waits = |entry: &Entry| built_on(entry).is_some_and(|it| names.contains(&it));
            let (later, mut ready): (Vec<_>, Vec<_>) = waiting.into_iter().partition(waits);
            if ready.is_empty() {
                self.circle(&later, prefix);
                return;
            }
            // An error names those that are known: first all that need no other.
            ready.sort_by_key(|entry| built_on(entry).is_some());
            for entry in &ready {
                self.template(entry, prefix);
            }
            waiting = later;
        }
    }

    /// Says that `entries`, each of which builds on another, have no beginning.
    fn circle(&mut self, entries: &[Entry], prefix: &str) {
        let next = |entry: &Entry| {
            let base = built_on(entry)?;
            entries.iter().find(|it| it.key == base)
        };
        let mut path: Vec<&Entry> = entries.first().into_iter().collect();
        while let Some(entry) = path.last().and_then(|entry| next(entry)) {
            let start = path.iter().position(|it| it.key == entry.key);
            path.push(entry);
            if let Some(start) = start {
                path.drain(..start);
                break;
            }
        }
        let names: Vec<&str> = path.iter().map(|entry| entry.key.as_str()).collect();
        self.add(path[0].at, Problem::TemplateCycle(names.join(" → ")));
        for entry in entries {
            // To use one of them is no mistake of its own.
            let name = format!("{prefix}{}", entry.key);
            let body = Node { data: Data::Null, at: entry.at };
            let (defaults, required) = (Vec::new(), Vec::new());
            let template =
                Template { name, at: entry.at, used: true, sound: false, body, defaults, required };
            self.templates.push(template);
        }
    }

    /// Reads an entry of `templates`.
    fn template(&mut self, entry: &Entry, prefix: &str) {
        let place = format!("the template `{}`", entry.key);
        if !is_name(&entry.key) {
            self.add(entry.at, Problem::BadName { what: format!("`{}`", entry.key) });
        }
        let Some(node) = self.body(entry, &place) else { return };
        let mut known: Vec<&str> = STAGE_KEYS.to_vec();
        known.push("required");
        self.keys(&node, &place, &known);
        let mut defaults = self.entries(node.get("args"), "`args`");
        let mut required = self.list_of_text(node.get("required"), "`required`");
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
        if node.get("kind").is_none() && node.get("template").is_none() {
            let place = place.clone();
            self.add(entry.at, Problem::MissingKey { place, key: "kind" });
        }
        let is_body = |entry: &&Entry| {
            known.contains(&entry.key.as_str()) && entry.key != "args" && entry.key != "required"
        };
        let body = node.entries().iter().filter(is_body).cloned().collect();
        let mut body = Node { data: Data::Map(body), at: node.at };
        let mut sound = true;
        if let Some(named) = body.get("template").cloned() {
            let base = self.base(&place, &body, &named);
            sound = base.is_some_and(|index| self.templates[index].sound);
            if let Some(base) = base.map(|index| &self.templates[index]) {
                let own = |name: &str| {
                    required.iter().any(|it| it == name) || defaults.iter().any(|it| it.key == name)
                };
                let further = base.defaults.iter().filter(|it| !own(&it.key)).cloned();
                let further: Vec<_> = further.collect();
                let needed: Vec<_> = base.required.iter().filter(|it| !own(it)).cloned().collect();
                body = laid_over(&base.body, &body);
                defaults.splice(0..0, further);
                required.splice(0..0, needed);
            }
        }
        self.templates.push(Template {
            name: format!("{prefix}{}", entry.key),
            at: entry.at,
            used: false,
            sound,
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
        let given = self.entries(own.get("args"), "`args`");
        let index = self
            .base(&format!("stage `{stage}`"), &own, &named)
            .filter(|it| self.templates[*it].sound)?;
        if !self.accepts(stage, index, &given, &named) {
            return None;
        }
        let template = &self.templates[index];
        let defaults = template.defaults.iter();
        let rest = defaults.filter(|it| given.iter().all(|given| given.key != it.key)).cloned();
        let args = rest.collect::<Vec<_>>();
        let node = laid_over(&template.body, &own);
        Some((node, args.into_iter().chain(given).collect()))
    }

    /// The template that `own`, which is `of` (in words), names, with its weight taken from what all may take.
    fn base(&mut self, of: &str, own: &Node, named: &Node) -> Option<usize> {
        let name = self.text(Some(named), "`template`")?;
        if let Some(kind) = own.entries().iter().find(|entry| entry.key == "kind") {
            self.add(kind.at, Problem::KindAndTemplate(of.to_owned()));
        }
        let index = self.find_template(&name, named.at)?;
        let template = &mut self.templates[index];
        template.used = true;
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
        Some(index)
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
    fn accepts(&mut self, stage: &str, index: usize, given: &[Entry], named: &Node) -> bool {
        let (name, at) = (named.as_text().unwrap_or_default(), named.at);
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

/// The template that an entry of `templates` builds on.
fn built_on(entry: &Entry) -> Option<String> {
    entry.value.get("template").and_then(Node::as_text).map(str::to_owned)
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
