//! Who imports whom in the worker: rooms in one order, files never in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A room imports from those before it and, but for families, from itself.
const ORDER: [&str; 8] =
    ["error", "schema", "port", "artifact", "nn", "prepare", "context", "stage"];
const FAMILIES: [&str; 6] = ["data", "model", "train", "feedback", "policy", "evaluate"];
/// What joins everything.
const TOP: [&str; 5] = ["families", "catalog", "device", "serve", "main"];
/// Compiled for tests alone.
const TESTS: [&str; 4] = ["oracles.rs", "end_to_end.rs", "oracle_tests/", "nn/plain.rs"];

type Module = Vec<String>;

/// Every file of the worker by its module path, with the text that is compiled outside of tests.
fn files() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/src");
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !TESTS.iter().any(|test| name.starts_with(test)) {
                let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
                let module = name.split('/').map(str::to_owned).collect();
                found.insert(module, compiled(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
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
    let children = all.keys().any(|it| it.len() > module.len() && it.starts_with(module));
    let own = if children { module.as_slice() } else { &module[..module.len() - 1] };
    let parent = &module[..module.len() - 1];
    let mut paths = Vec::new();
    for (word, base) in [("crate::", &[][..]), ("super::", parent), ("self::", own)] {
        for (at, _) in text.match_indices(word) {
            paths.extend(tree(&text[at + word.len()..], base));
        }
    }
    for line in text.lines() {
        let line = line.trim_start().trim_start_matches("pub(crate) ");
        if let Some(child) = line.strip_prefix("mod ").and_then(|it| it.strip_suffix(';')) {
            paths.push([own, &[child.to_owned()]].concat());
        }
    }
    let file = |path: Module| {
        (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|path| all.contains_key(path))
    };
    paths.into_iter().filter_map(file).filter(|file| file != module).collect()
}

fn graph() -> BTreeMap<Module, BTreeSet<Module>> {
    let all = files();
    all.iter().map(|(module, text)| (module.clone(), imports(module, text, &all))).collect()
}

#[test]
fn rooms_of_the_worker_import_in_one_order() {
    let rank = |room: &str| {
        let place = |rooms: &[&str]| rooms.iter().position(|it| *it == room);
        place(&ORDER)
            .or(place(&FAMILIES).map(|_| ORDER.len()))
            .or(place(&TOP).map(|_| ORDER.len() + 1))
            .unwrap_or_else(|| panic!("`{room}` has no place in the order"))
    };
    let mut against = Vec::new();
    for (module, imported) in graph().into_iter().filter(|(module, _)| !TOP.contains(&&*module[0]))
    {
        let wrong = |it: &&Module| it[0] != module[0] && rank(&it[0]) >= rank(&module[0]);
        let wrong = imported.iter().filter(wrong).map(|it| it.join("::"));
        against.extend(wrong.map(|it| format!("{} imports {it}", module.join("::"))));
    }
    assert_eq!(against, [""; 0]);
}

#[test]
fn no_files_of_the_worker_import_each_other_in_a_circle() {
    let mut graph = graph();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 100, "imports are found");
    // Take away whoever imports nobody, until nobody is left or all that are left import each other.
    loop {
        let free: Vec<Module> = graph
            .iter()
            .filter(|(_, it)| it.is_empty())
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            graph.remove(&module);
            graph.values_mut().for_each(|imported| drop(imported.remove(&module)));
        }
    }
    assert!(graph.is_empty(), "{graph:#?}");
}
