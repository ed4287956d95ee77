//! The promises that the shape of the source keeps.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::Project;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this extension, by its path from the root.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The source files of all rooms that name `word` outside of comments.
fn that_name(word: &str) -> Vec<String> {
    let rooms = [
        "src",
        "engine/src",
        "engine/plot/src",
        "engine/protocol/src",
        "cache/src",
        "cache/remote/src",
        "stages/src",
    ];
    let sources = rooms.iter().flat_map(|room| files(room, "rs"));
    let names = |path: &PathBuf| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word))
    };
    sources.filter(names).map(|path| path.display().to_string()).collect()
}

#[test]
fn gradus_builds_without_libtorch() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-p", "gradus", "-e", "normal,build", "--offline", "--locked"])
        // For other targets cargo would have to fetch what nothing here is built of.
        .args(["--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("gradus-engine"), "{tree}");
    let of_torch = tree.lines().filter(|line| line.contains("torch") || line.starts_with("tch "));
    assert_eq!(of_torch.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_stage_file_is_in_the_catalogue() {
    let text = fs::read_to_string(root().join("stages/catalog.json")).unwrap();
    let catalog: Value = serde_json::from_str(&text).unwrap();
    let kinds = catalog["kinds"].as_array().unwrap().iter();
    let listed: BTreeSet<_> = kinds.map(|kind| kind["kind"].as_str().unwrap().to_owned()).collect();
    let mut written = BTreeSet::new();
    for path in files("stages/src", "rs") {
        let text = fs::read_to_string(root().join(path)).unwrap();
        // The trait itself declares the constant without a value.
        let values =
            text.lines().filter_map(|line| line.trim().split_once("const KIND: &'static str = \""));
        written.extend(values.map(|(_, rest)| rest.trim_end_matches("\";").to_owned()));
    }
    assert_eq!(written, listed);
}

#[test]
fn every_pipeline_is_sound() {
    let project = Project::new("");
    // A part is checked with the pipelines that include it.
    for path in files("pipelines", "yaml").iter().filter(|it| !it.starts_with("pipelines/parts")) {
        let ran = project.gradus(&["check", root().join(path).to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran}");
    }
}

#[test]
fn only_one_room_reads_yaml() {
    let outside = that_name("serde_yaml").into_iter().chain(that_name("saphyr"));
    assert_eq!(outside.filter(|path| !path.starts_with("engine/src/spec/")).count(), 0);
}

#[test]
fn only_one_file_knows_petgraph_and_one_knows_sled() {
    assert_eq!(that_name("petgraph"), ["engine/src/plan/graph.rs"]);
    let uses: Vec<_> = that_name("sled::");
    assert_eq!(uses, ["cache/src/index.rs"]);
}

#[test]
fn only_one_room_asks_servers() {
    for word in ["object_store::", "reqwest::", "rustls::"] {
        let outside: Vec<_> = that_name(word);
        assert!(outside.iter().all(|path| path.starts_with("cache/remote/src/")), "{outside:?}");
    }
}

#[test]
fn only_one_room_draws() {
    for word in ["plotters::", "png::", "dejavu::"] {
        let outside: Vec<_> = that_name(word);
        assert!(outside.iter().all(|path| path.starts_with("engine/plot/src/")), "{outside:?}");
    }
}

#[test]
fn only_one_room_starts_processes() {
    let outside = that_name("process::Command").into_iter().chain(that_name("tokio::process"));
    let outside: Vec<_> = outside.filter(|path| !path.starts_with("engine/src/run/")).collect();
    assert_eq!(outside, [""; 0]);
}

#[test]
fn only_the_terminal_prints() {
    for word in ["println!(", "print!(", "eprintln!(", "eprint!(", "io::stdout()", "io::stderr()"] {
        let mut printing = that_name(word);
        printing.retain(|path| !path.starts_with("src/terminal/") && !path.starts_with("stages/"));
        assert_eq!(printing, [""; 0], "{word}");
    }
}

#[test]
fn errors_have_types() {
    for word in ["anyhow", "eyre"] {
        assert_eq!(that_name(word), [""; 0], "{word}");
    }
}
