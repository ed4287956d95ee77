//! What reads bytes of strangers, and what must hold whatever they are.
//!
//! One function per target; `targets/` hands them what libFuzzer makes up, the test below the corpus. Besides
//! panics, libFuzzer reports what takes more than its limits of time and memory (see `run.sh`).

use std::{
    fs,
    path::{Component, Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use gradus_cache::{Artifact, Cache, Digest, Fingerprint, Form};
use gradus_engine::{
    plan::{Known, Table, plan},
    spec::{At, Data, Entry, Mistakes, Module, Node, Overrides, Scope, SourceText, Sources, interpolate, load},
};
use gradus_protocol::{
    Checkpoint, Reply, Request,
    catalog::{Catalog, Length},
    read_frame, write_frame,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

#[allow(dead_code, reason = "its own tests are run with the worker's")]
#[path = "../../stages/src/nn/header.rs"]
mod header;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../stages/catalog.json")).expect("it is committed")
});

/// A folder and a cache in it, for one input at a time.
struct Place {
    folder: TempDir,
    cache: Cache,
}

fn place() -> MutexGuard<'static, Place> {
    static PLACE: LazyLock<Mutex<Place>> = LazyLock::new(|| {
        let folder = TempDir::new().expect("a folder for the fuzzer");
        let cache = Cache::open(&folder.path().join("cache")).expect("a cache for the fuzzer");
        Mutex::new(Place { folder, cache })
    });
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(path: &Path, data: &[u8]) {
    fs::create_dir_all(path.parent().expect("a path in a folder")).expect("a folder");
    // What was read before may be read-only, or gone to the quarantine.
    let _ = fs::remove_file(path);
    fs::write(path, data).expect("a file for the fuzzer");
}

/// A pipeline is understood, or every mistake in it is said.
pub fn pipeline(data: &[u8]) {
    let place = place();
    let path = place.folder.path().join("p.yaml");
    write(&path, data);
    let mut mistakes = Mistakes::default();
    let overrides = Overrides { folder: place.folder.path().to_owned(), ..Overrides::default() };
    let Some(pipeline) = load(&path, &overrides, &mut mistakes) else {
        assert!(mistakes.or(()).is_err(), "nothing was read and no mistake said");
        return;
    };
    if let Ok(plan) = plan(&pipeline, &CATALOG, mistakes) {
        for stage in &plan.stages {
            Table::of(stage, &Known::default()).fingerprint();
        }
    }
}

/// Text is filled in or refused; without `${` it stays as it is, and what is escaped comes back.
pub fn interpolation(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else { return };
    let (value, text) = data.split_once('\n').unwrap_or(("", data));
    fill(value, text);
    if !text.contains("${") {
        assert_eq!(fill(value, text), Some(json!(text)));
    }
    assert_eq!(fill(value, &text.replace("${", "$${")), Some(json!(text)));
}

/// Fills in `text` where `params.a` is `value` and `params.b` a list.
fn fill(value: &str, text: &str) -> Option<Value> {
    let mut sources = Sources::default();
    let source = sources.add(SourceText {
        name: "text".to_owned(),
        text: text.into(),
        base: PathBuf::new(),
        trusted: false,
        module: 0,
    });
    let at = At { source, start: 0, end: text.len() };
    let node = |data| Node { data, at };
    let entry = |key: &str, data| Entry { key: key.to_owned(), at, value: node(data) };
    let list = vec![node(Data::Null), node(Data::Number(7.into())), node(Data::Text(value.into()))];
    let params = node(Data::Map(vec![
        entry("a", Data::Text(value.to_owned())),
        entry("b", Data::List(list)),
    ]));
    let matrix = [("m".to_owned(), node(Data::Boolean(true)))];
    let env = vec!["PATH".to_owned(), "GRADUS_UNSET".to_owned()];
    let modules = [Module { params, env, ..Module::default() }];
    let args = [entry("x", Data::Text(value.to_owned()))];
    let scope = Scope {
        modules: &modules,
        matrix: &matrix,
        args: &args,
        stage: Some("stage"),
        ..Scope::default()
    };
    let mut mistakes = Mistakes::default();
    let filled = interpolate(&node(Data::Text(text.to_owned())), &scope, &sources, &mut mistakes);
    assert_eq!(filled.is_some(), mistakes.list.is_empty(), "a mistake is said, or there is none");
    filled.map(|node| node.to_value())
}

/// A frame is read or refused, and what was read is written and read again as the same.
pub fn frame(data: &[u8]) {
    round::<Request>(data);
    round::<Reply>(data);
    let framed = [&u32::try_from(data.len()).expect("a short input").to_le_bytes(), data].concat();
    round::<Request>(&framed);
    round::<Reply>(&framed);
}

fn round<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(Some(message)) = read_frame::<T>(&mut &*data) else { return };
    let mut written = Vec::new();
    write_frame(&mut written, &message).expect("what was read can be written");
    let again: T = read_frame(&mut &*written).expect("a frame").expect("a message");
    assert_eq!(json!(message), json!(again));
}

/// An action with a right check sum is read or set aside, and is what it was asked for.
pub fn action(data: &[u8]) {
    let place = place();
    let wanted = Fingerprint::of(b"fuzz");
    let hex = wanted.to_string();
    let path = place.cache.root().join("actions").join(&hex[..2]).join(&hex[2..]);
    let body = [data.split(|byte| *byte == b'\n').next().unwrap_or_default(), b"\n"].concat();
    let footer = format!("{}\n", blake3::hash(&body));
    for content in [data, &[&body, footer.as_bytes()].concat()] {
        write(&path, content);
        let read = place.cache.action(&wanted).expect("a file that can be read");
        assert_eq!(path.exists(), read.is_some(), "what is no action is set aside");
        if let Some(action) = read {
            assert_eq!(action.fingerprint, wanted);
            let _ = place.cache.recall(&wanted);
        }
    }
    let _ = fs::remove_dir_all(place.cache.root().join("quarantine"));
    fs::create_dir(place.cache.root().join("quarantine")).expect("an empty quarantine");
}

/// A manifest is refused, or names plain files only, and what it brings stays in its folder.
pub fn manifest(data: &[u8]) {
    let place = place();
    let digest = Digest::of(data);
    let path = place.cache.file(&digest);
    write(&path, data);
    if let Ok(files) = place.cache.tree(&digest) {
        for name in files.keys() {
            let plain = |part| matches!(part, Component::Normal(_));
            assert!(Path::new(name).components().all(plain), "`{name}` leads elsewhere");
        }
        let (inner, outer) = (place.folder.path().join("in/out"), place.folder.path().join("in"));
        let bytes = files.values().map(|it| it.bytes).sum();
        let _ = place.cache.materialise(&Artifact { form: Form::Tree, ..Artifact::blob(digest, bytes) }, &inner);
        let beside = fs::read_dir(&outer).into_iter().flatten().flatten();
        assert!(beside.into_iter().all(|entry| entry.path() == inner), "it wrote elsewhere");
        let _ = fs::remove_dir_all(outer);
    }
    fs::remove_file(path).expect("the file is there");
}

/// A lease is somebody's or nobody's.
pub fn lease(data: &[u8]) {
    let place = place();
    let wanted = Fingerprint::of(b"fuzz");
    let path = place.cache.root().join("leases").join(wanted.to_string());
    write(&path, data);
    let _ = place.cache.claimant(&wanted);
    let _ = place.cache.live_runs();
}

/// What a checkpoint says is read or refused.
pub fn checkpoint(data: &[u8]) {
    let place = place();
    let folder = place.folder.path().join("checkpoints");
    let state = Checkpoint::place(&folder, 3);
    write(&state.join("checkpoint.json"), data);
    assert_eq!(Checkpoint::all(&folder), [(3, state.clone())]);
    if let Ok(checkpoint) = Checkpoint::read(&state) {
        let length = Length { params: vec!["steps".to_owned()], ..Length::default() };
        checkpoint.leads_to(&json!({ "steps": 3 }), &length);
        checkpoint.write(&state).expect("what was read can be written");
        assert_eq!(json!(Checkpoint::read(&state).expect("it was just written")), json!(checkpoint));
    }
}

/// A safetensors file is refused, or all its tensors lie inside.
pub fn safetensors(data: &[u8]) {
    let Ok(stored) = header::open(data) else { return };
    for (name, view) in stored.tensors() {
        assert!(name.len() <= 256 && !name.contains(['/', '\\', '\0']), "`{name}` is not plain");
        let elements: usize = view.shape().iter().product();
        assert_eq!(view.data().len() * 8, elements * view.dtype().bitsize());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file of the corpus, also what libFuzzer once found, holds.
    #[test]
    fn the_corpus_holds() {
        let targets: [(&str, fn(&[u8])); 8] = [
            ("pipeline", pipeline),
            ("interpolation", interpolation),
            ("frame", frame),
            ("action", action),
            ("manifest", manifest),
            ("lease", lease),
            ("checkpoint", checkpoint),
            ("safetensors", safetensors),
        ];
        for (name, target) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let mut count = 0;
            for file in fs::read_dir(folder).expect("a corpus").flatten() {
                target(&fs::read(file.path()).expect("a file of the corpus"));
                count += 1;
            }
            assert!(count > 0, "{name} has no corpus");
        }
    }
}
