//! `gradus cache`, without a server: keys, the table in `gradus.toml`, and whether all is sound.

use std::fs;

use insta::assert_snapshot;

use crate::support::Project;

const PIPELINE: &str = "
    stages:
      first: { kind: exec, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
";

#[test]
fn mistakes_in_the_table_are_shown_where_they_are() {
    let project = Project::new(PIPELINE);
    let said = |table: &str| {
        project.write("gradus.toml", table);
        let ran = project.gradus(&["run", "p.yaml"]);
        assert_eq!(ran.code, Some(2), "{ran}");
        ran.stderr
    };
    let mistakes = [
        said("[remote]\nurl = \"s3://b\"\nwrites = true\n"),
        said("[remote]\nurl = \"ftp://b\"\n"),
        said("[remote]\nurl = \"https://me:secret@b/x\"\n"),
        said("[remote]\nurl = \"s3://b\"\ntrusted = [\"ed25519:12\"]\n"),
        said("[remote]\nwrite = true\n"),
        said("[remote]\nurl = \"s3://b\"\n"),
        said("[remote]\nurl = \"s3://b\"\nwrite = true\n"),
        said("[remote]\nurl = \"s3://b\"\nwrite = true\nkey = \"nowhere\"\n"),
        said("[remote]\nurl = \"s3://b\"\nwrite = true\nkey = \"p.yaml\"\n"),
    ];
    assert_snapshot!(mistakes.join("\n"));
    project.write("gradus.toml", "[remote]\nurl = \"s3://b\"\n");
    assert_eq!(project.gradus(&["run", "p.yaml", "--no-remote"]).code, Some(0));
    project.write("gradus.toml", "");
    assert_snapshot!(project.gradus(&["cache", "push", "--all"]));
}

#[test]
fn a_key_is_made_once() {
    let project = Project::new("");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("ed25519:[0-9a-f]{64}", "ed25519:[key]");
    let _filters = settings.bind_to_scope();
    assert_snapshot!(project.gradus(&["cache", "key", "key"]));
    assert_snapshot!(project.gradus(&["cache", "key", "key"]));
    assert_snapshot!(project.gradus(&["cache", "key", "other", "--format", "json"]));
}

#[test]
fn a_cache_is_verified_to_the_last_byte() {
    let project = Project::new(
        "
        stages:
          large: { kind: exec, outputs: { a: a }, with: { shell: 'head -c 9000000 /dev/zero > a' } }
          small: { kind: exec, inputs: { a: large }, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
    ",
    );
    assert_eq!(project.events(&[]).code, Some(0));
    assert_snapshot!(project.gradus(&["cache", "verify"]));
    let blobs = project.files_below(".gradus/blobs");
    let large = blobs.iter().find(|path| fs::metadata(path).unwrap().len() > 1000).unwrap();
    let mut bytes = fs::read(large).unwrap();
    bytes[8_999_999] ^= 1;
    fs::remove_file(large).unwrap();
    fs::write(large, bytes).unwrap();
    let found = project.gradus(&["cache", "verify", "--format", "json"]);
    assert_eq!(found.code, Some(1), "{found}");
    assert_eq!(found.json()["damaged_blobs"].as_array().unwrap().len(), 1);
    let action = &project.files_below(".gradus/actions")[0];
    fs::remove_file(action).unwrap();
    fs::write(action, "no action").unwrap();
    let found = project.gradus(&["cache", "verify"]);
    assert_eq!(found.code, Some(1), "{found}");
    assert!(found.stdout.contains("1 damaged file set aside in quarantine"), "{found}");
    assert_eq!(project.gradus(&["cache", "verify"]).code, Some(0));
    assert_eq!(project.events(&[]).ran(), ["large", "small"]);
}

/// Changes the last byte of the one large blob, as a disk might.
fn damage(project: &Project) {
    let blobs = project.files_below(".gradus/blobs");
    let large = blobs.iter().find(|path| fs::metadata(path).unwrap().len() > 8_999_000).unwrap();
    let mut bytes = fs::read(large).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(large).unwrap();
    fs::write(large, bytes).unwrap();
}

const LARGE: &str = "
    params: { word: one }
    stages:
      large: { kind: exec, outputs: { a: a/ }, with: { shell: 'mkdir a; head -c 9000000 /dev/zero > a/a' } }
      reader: { kind: exec, inputs: { a: large }, outputs: { a: a }, with: { shell: 'b2sum < inputs/a/a > a', env: { W: '${params.word}' } } }
      other: { kind: exec, outputs: { a: a }, with: { shell: 'echo > a' } }
";

#[test]
fn a_large_file_that_was_damaged_is_noticed_before_it_is_read() {
    let project = Project::new(LARGE);
    project.events(&[]);
    let sum = project.read(".gradus/outputs/p/reader.a");
    damage(&project);
    // Nobody reads it.
    assert_eq!(project.events(&[]).ran(), [""; 0]);
    let again = project.events(&["--set", "word=two"]);
    assert_eq!(again.ran(), ["large", "reader"]);
    assert_eq!(project.read(".gradus/outputs/p/reader.a"), sum);
}

#[test]
fn what_read_a_damaged_file_is_made_again() {
    let project = Project::new(LARGE);
    project.events(&[]);
    damage(&project);
    let found = project.gradus(&["cache", "verify", "--format", "json"]);
    assert_eq!(found.json()["suspects"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(project.events(&[]).ran(), ["large", "reader"]);
}
