//! Who imports whom: in every crate files never in a circle, and its rooms in one order. What stands in a crate's root
//! file itself everybody may use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A crate, and its rooms from below: a room imports from those before it and from itself. Those of one line stand side
/// by side and import nothing from each other. A room is a file or a folder, or a file within one.
struct House {
    root: &'static str,
    order: &'static [&'static [&'static str]],
    /// Compiled for tests alone.
    tests: &'static [&'static str],
}

const WORKER: House = House {
    root: "stages/src",
    order: &[
        &["error"],
        &["schema"],
        &["rules"],
        &["port"],
        &["verifier"],
        &["artifact"],
        &["nn"],
        &["prepare"],
        &["context"],
        &["stage"],
        &["program"],
        &["environment"],
        &["rollout"],
        &["reward"],
        &["data", "model", "train", "feedback", "policy", "tabular", "evaluate"],
        &["families"],
        &["take", "look", "device", "memory"],
        &["catalog"],
        &["serve"],
        &["main"],
    ],
    tests: &[
        "oracles.rs",
        "end_to_end/",
        "oracle_tests/",
        "nn/coverage.rs",
        "nn/plain.rs",
        "prepare/oracle_tests.rs",
    ],
};

const ENGINE: House = House {
    root: "engine/src",
    order: &[
        &["error", "event"],
        &["spec"],
        &["plan"],
        &["plugin"],
        &["run/process"],
        &["run/made", "run/history", "run/session"],
        &["run/asked"],
        &["run/execution"],
        &["run/answers"],
        &["run"],
        &["project"],
        &["lib"],
    ],
    tests: &["plan/composed.rs"],
};

/// Small enough to need no rooms.
const fn flat(root: &'static str) -> House {
    House { root, order: &[], tests: &[] }
}

const HOUSES: [House; 7] = [
    WORKER,
    ENGINE,
    flat("src"),
    flat("cache/src"),
    flat("cache/remote/src"),
    flat("engine/protocol/src"),
    flat("engine/plot/src"),
];

type Module = Vec<String>;

impl House {
    /// Every file by its module path, with the text that is compiled outside of tests.
    fn files(&self) -> BTreeMap<Module, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.root);
        let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "rs")
                    && !self.tests.iter().any(|test| name.starts_with(test))
                {
                    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
                    let module = name.split('/').map(str::to_owned).collect();
                    found.insert(module, compiled(&fs::read_to_string(path).unwrap()));
                }
            }
        }
        found
    }

    fn graph(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let all = self.files();
        all.iter().map(|(module, text)| (module.clone(), imports(module, text, &all))).collect()
    }

    /// The room of a file, as its name and its place in the order: the innermost that is listed.
    fn room(&self, module: &Module) -> (String, usize) {
        let place = |path: &str| self.order.iter().position(|side| side.contains(&path));
        (1..=module.len())
            .rev()
            .map(|n| module[..n].join("/"))
            .find_map(|path| place(&path).map(|at| (path, at)))
            .unwrap_or_else(|| panic!("`{}` has no place in the order", module.join("::")))
    }
}

/// Without comments and without what is for tests.
fn compiled(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let item = lines.next().unwrap_or_default();
            if item.contains("mod tests {") {
                break;
            }
            if item.ends_with('{') {
                let indent = item.len() - item.trim_start().len();
                let end = format!("{}}}", " ".repeat(indent));
                lines.by_ref().find(|line| *line == end);
            }
        } else {
            out += line;
            out.push('\n');
        }
    }
    out
}

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn tree(text: &str, so_far: &[String]) -> Vec<Module> {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
        for (at, letter) in inner.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    paths.extend(tree(&inner[start..at], so_far));
                    start = at + 1;
                    if letter == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
        return paths;
    }
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() {
        return Vec::new();
    }
    let path = [so_far, std::slice::from_ref(&word)].concat();
    match text[word.len()..].strip_prefix("::") {
        Some(rest) => tree(rest, &path),
        None => vec![path],
    }
}

/// The modules that `module` imports from or declares.
fn imports(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let is_root = ["lib", "main"].contains(&&*module.join("/"));
    let own = if is_root { &[] } else { module.as_slice() };
    let parent = &module[..module.len() - 1];
    let mut paths = Vec::new();
    for (word, base) in [("crate::", &[][..]), ("super::", parent), ("self::", own)] {
        for (at, _) in text.match_indices(word) {
            paths.extend(tree(&text[at + word.len()..], base));
        }
    }
    for line in text.lines() {
        let line = ["pub ", "pub(crate) ", "pub(super) "]
            .iter()
            .find_map(|seen| line.trim_start().strip_prefix(seen))
            .unwrap_or(line.trim_start());
        if let Some(child) = line.strip_prefix("mod ").and_then(|it| it.strip_suffix(';')) {
            paths.push([own, &[child.to_owned()]].concat());
        }
    }
    let file = |path: Module| {
        (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|path| all.contains_key(path))
    };
    paths.into_iter().filter_map(file).filter(|file| file != module).collect()
}

#[test]
fn rooms_import_in_one_order() {
    let mut against = Vec::new();
    for house in HOUSES.iter().filter(|house| !house.order.is_empty()) {
        for (module, imported) in house.graph() {
            let (own, place) = house.room(&module);
            for other in imported {
                let (room, at) = house.room(&other);
                if room != own && at >= place {
                    against.push(format!("{} imports {}", module.join("::"), other.join("::")));
                }
            }
        }
    }
    assert_eq!(against, [""; 0]);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for house in HOUSES {
        let mut graph = house.graph();
        let found = graph.values().map(BTreeSet::len).sum::<usize>();
        assert!(found >= graph.len() - 1, "{}: {found} imports are found", house.root);
        // Take away whoever imports nobody or is imported by nobody: what is left goes round in circles.
        loop {
            let wanted: BTreeSet<Module> = graph.values().flatten().cloned().collect();
            let free = |(module, it): (&Module, &BTreeSet<Module>)| {
                (it.is_empty() || !wanted.contains(module)).then(|| module.clone())
            };
            let free: BTreeSet<Module> = graph.iter().filter_map(free).collect();
            if free.is_empty() {
                break;
            }
            graph.retain(|module, _| !free.contains(module));
            for imported in graph.values_mut() {
                imported.retain(|it| !free.contains(it));
            }
        }
        let left = graph.iter().map(|(module, it)| {
            let it: Vec<_> = it.iter().map(|it| it.join("::")).collect();
            format!("{} imports {}", module.join("::"), it.join(", "))
        });
        assert_eq!(left.collect::<Vec<_>>(), [""; 0], "in {}", house.root);
    }
}
