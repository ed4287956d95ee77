//! Results shared between machines: a project here, one elsewhere, and a server between them.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use insta::assert_snapshot;

use crate::support::{
    Project, Ran,
    servers::{S3, Web},
};

const PIPELINE: &str = "
    stages:
      first: { kind: exec, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
      tree: { kind: exec, inputs: { a: first }, outputs: { f: f/ }, with: { shell: 'mkdir f; cp inputs/a f/x; echo 2 > f/y' } }
      last: { kind: exec, inputs: { f: tree }, outputs: { a: a }, with: { shell: 'cat inputs/f/* > a' } }
";
const ALL: [&str; 3] = ["first", "last", "tree"];
const URL: &str = "s3://results/team";

/// A project that writes to `url`, and the public key of what it writes.
fn writer(pipeline: &str, url: &str) -> (Project, String) {
    let project = Project::new(pipeline);
    let made = project.gradus(&["cache", "key", "key"]);
    assert_eq!(made.code, Some(0), "{made}");
    let key = made.stdout.trim().to_owned();
    let table = format!("[remote]\nurl = \"{url}\"\nwrite = true\nkey = \"key\"\n");
    project.write("gradus.toml", table);
    (project, key)
}

/// A project on another machine, which believes `key`.
fn reader(pipeline: &str, url: &str, key: &str) -> Project {
    let project = Project::new(pipeline);
    project.write("gradus.toml", format!("[remote]\nurl = \"{url}\"\ntrusted = [\"{key}\"]\n"));
    project
}

/// A server that has the results of `PIPELINE`, and a machine that has none.
fn shared() -> (S3, Project, Project) {
    let s3 = S3::start();
    let (mut here, key) = writer(PIPELINE, URL);
    s3.let_in(&mut here);
    assert_eq!(here.events(&[]).ran(), ALL);
    let mut there = reader(PIPELINE, URL, &key);
    s3.let_in(&mut there);
    (s3, here, there)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn forget(project: &Project) {
    // One that was killed early has none.
    let _ = fs::remove_dir_all(project.path(".gradus"));
}

/// Asserts that `last` is what it should be.
fn assert_right(project: &Project) {
    let ran = project.gradus(&["export", "p.yaml", "last", "out"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(project.read("out/a"), "1\n2\n");
    fs::remove_dir_all(project.path("out")).unwrap();
}

/// The lines of a run that are about the remote.
fn warnings(ran: &Ran) -> Vec<&str> {
    let about = |line: &&str| line.contains("remote") || line.contains("upload");
    ran.stderr.lines().filter(about).collect()
}

#[test]
fn what_a_run_made_another_machine_finds_and_keeps() {
    let (mut s3, _here, there) = shared();
    assert_snapshot!(there.gradus(&["plan", "p.yaml"]));
    assert!(files(&there.path(".gradus/actions")).is_empty(), "a plan fetches nothing");
    let events = there.events(&[]);
    assert_eq!((events.ran(), events.cached()), (vec![], ALL.to_vec()));
    assert!(events.of("cached").all(|it| it["remote"] == true));
    assert_right(&there);
    let show = there.gradus(&["show", "p.yaml", "--format", "json"]).json();
    assert!(show.to_string().contains(r#""remote":true"#), "{show}");
    s3.stop();
    let again = there.events(&[]);
    assert_eq!(again.cached(), ALL);
    assert!(again.of("cached").all(|it| it["remote"].is_null()));
    assert_eq!(again.of("note").count(), 0, "nothing was asked");
}

#[test]
fn people_see_what_was_fetched() {
    let (_s3, _here, there) = shared();
    assert_snapshot!(there.gradus(&["run", "p.yaml"]));
}

#[test]
fn what_is_pushed_can_be_pulled() {
    let s3 = S3::start();
    let (mut here, key) = writer(PIPELINE, URL);
    s3.let_in(&mut here);
    assert_eq!(here.gradus(&["run", "p.yaml", "--no-remote"]).code, Some(0));
    assert!(files(&s3.bucket()).is_empty());
    assert_snapshot!(here.gradus(&["cache", "push", "p.yaml"]));
    assert_snapshot!(here.gradus(&["cache", "push", "--all"]));
    let mut there = reader(PIPELINE, URL, &key);
    s3.let_in(&mut there);
    assert_snapshot!(there.gradus(&["cache", "pull", "p.yaml", "tree"]));
    assert_snapshot!(there.gradus(&["cache", "pull", "p.yaml", "--format", "json"]));
    assert_eq!(there.gradus(&["run", "p.yaml", "--no-remote"]).stderr.matches("cached").count(), 4);
    assert_right(&there);
}

#[test]
fn a_remote_is_read_only_unless_the_project_says_otherwise() {
    let s3 = S3::start();
    let (mut here, key) = writer(PIPELINE, URL);
    s3.let_in(&mut here);
    let table = format!("[remote]\nurl = \"{URL}\"\ntrusted = [\"{key}\"]\nkey = \"key\"\n");
    here.write("gradus.toml", table);
    assert_eq!(here.events(&[]).ran(), ALL);
    assert!(files(&s3.bucket()).is_empty());
    fs::remove_file(here.path("key")).unwrap();
    assert_snapshot!(here.gradus(&["cache", "push", "--all"]));
    assert!(files(&s3.bucket()).is_empty());
}

#[test]
fn with_a_wrong_secret_the_run_goes_on_alone_and_says_so_once() {
    let (_s3, mut here, mut there) = shared();
    there.set("AWS_SECRET_ACCESS_KEY", "another");
    let ran = there.gradus(&["run", "p.yaml"]);
    assert_snapshot!(ran);
    assert_right(&there);
    here.set("AWS_SECRET_ACCESS_KEY", "another");
    forget(&here);
    assert_snapshot!(here.gradus(&["run", "p.yaml"]).stderr.lines().last().unwrap());
}

#[test]
fn a_server_that_is_gone_costs_one_warning() {
    let (mut s3, here, there) = shared();
    s3.stop();
    let ran = there.gradus(&["run", "p.yaml"]);
    assert_eq!((ran.code, warnings(&ran).len()), (Some(0), 1), "{ran}");
    assert!(warnings(&ran)[0].contains("`s3://results/team` cannot be used"), "{ran}");
    assert_right(&there);
    forget(&there);
    let plan = there.gradus(&["plan", "p.yaml"]);
    assert_eq!((plan.code, warnings(&plan).len()), (Some(0), 1), "{plan}");
    forget(&here);
    let ran = here.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let said = warnings(&ran).join("\n");
    assert!(said.contains("3 results did not get to the remote"), "{ran}");
    assert!(said.contains("`gradus cache push p.yaml` uploads what is missing"), "{ran}");
    assert_eq!(here.gradus(&["cache", "push", "p.yaml"]).code, Some(1));
    let alone = there.gradus(&["run", "p.yaml", "--no-remote"]);
    assert!(warnings(&alone).is_empty(), "{alone}");
}

#[test]
fn a_flipped_bit_in_any_object_gives_the_right_bytes() {
    let (s3, _here, there) = shared();
    let objects = files(&s3.bucket());
    assert!(objects.len() >= 7, "{objects:?}");
    for path in objects {
        let sound = fs::read(&path).unwrap();
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let ran = there.gradus(&["run", "p.yaml"]);
            assert_eq!(ran.code, Some(0), "{path:?} at {at}: {ran}");
            assert!(ran.stderr.contains("not used"), "{path:?} at {at}: {ran}");
            assert_right(&there);
            assert!(there.files_below(".gradus/quarantine").is_empty());
            forget(&there);
        }
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(there.events(&[]).cached(), ALL);
}

#[test]
fn actions_that_changed_places_are_misses() {
    let (s3, _here, there) = shared();
    let actions = files(&s3.bucket().join("team/ac"));
    let bytes: Vec<_> = actions.iter().map(|path| fs::read(path).unwrap()).collect();
    for (place, path) in actions.iter().enumerate() {
        fs::write(path, &bytes[(place + 1) % bytes.len()]).unwrap();
    }
    let ran = there.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.stderr.matches("its signature is of something else").count(), 3, "{ran}");
    assert_right(&there);
}

#[test]
fn what_a_stranger_signed_is_a_miss() {
    let (s3, _here, _there) = shared();
    let (_, stranger) = writer(PIPELINE, URL);
    let mut there = reader(PIPELINE, URL, &stranger);
    s3.let_in(&mut there);
    assert_snapshot!(there.gradus(&["run", "p.yaml"]));
    assert_right(&there);
}

#[test]
fn stages_are_uploaded_while_others_run() {
    let pipeline = "
        stages:
          first: { kind: exec, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
          slow:
            kind: exec
            inputs: { a: first }
            outputs: { a: a }
            with: { shell: 'until [ -e \"$HOME/go\" ]; do sleep 0.02; done; cp inputs/a a' }
    ";
    let s3 = S3::start();
    let (mut here, key) = writer(pipeline, URL);
    s3.let_in(&mut here);
    here.set("HOME", here.path("").to_str().unwrap());
    let run = here.start(&["run", "p.yaml"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while files(&s3.bucket().join("team/ac")).is_empty() {
        assert!(Instant::now() < deadline, "nothing was uploaded");
        sleep(Duration::from_millis(5));
    }
    let mut there = reader(pipeline, URL, &key);
    s3.let_in(&mut there);
    let plan = there.gradus(&["plan", "p.yaml", "--format", "json"]).json();
    let states = [&plan["stages"][0]["state"], &plan["stages"][1]["state"]];
    assert_eq!(states, ["remote", "would_run"]);
    here.write("go", "");
    assert_eq!(run.wait().code, Some(0));
    assert_eq!(there.events(&[]).cached(), ["first", "slow"]);
}

#[test]
fn whenever_a_writer_is_killed_no_action_is_there_without_its_files() {
    let shared = tempfile::tempdir().unwrap();
    let folder = shared.path().display().to_string();
    let (here, key) = writer(PIPELINE, &folder);
    let there = reader(PIPELINE, &folder, &key);
    for after in 0..12 {
        let run = here.start(&["run", "p.yaml", "--format", "json"]);
        sleep(Duration::from_millis(after * 12));
        run.signal("KILL");
        drop(run.wait());
        let ran = there.gradus(&["run", "p.yaml"]);
        assert!(ran.code == Some(0) && warnings(&ran).is_empty(), "after {after}: {ran}");
        assert_right(&there);
        forget(&there);
        forget(&here);
    }
}

#[test]
fn ctrl_c_leaves_uploads_for_later() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut here, _) = writer(PIPELINE, URL);
    let s3 = S3::start();
    s3.let_in(&mut here);
    // Nothing is asked of it before the first upload.
    here.set("AWS_ENDPOINT_URL", &format!("http://{}", deaf.local_addr().unwrap()));
    let mut run = here.start(&["run", "p.yaml", "--force", "--format", "json"]);
    run.wait_for("uploading 3 results to `s3://results/team`");
    let began = Instant::now();
    run.signal("INT");
    let ran = run.wait();
    assert!(began.elapsed() < Duration::from_secs(3), "{ran}");
    assert!(ran.stdout.contains("3 results did not get to the remote"), "{ran}");
    assert_eq!(ran.code, Some(0), "all stages are done: {ran}");
}

#[test]
fn ctrl_c_is_heard_while_a_result_is_asked_for() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_s3, _here, mut there) = shared();
    there.set("AWS_ENDPOINT_URL", &format!("http://{}", deaf.local_addr().unwrap()));
    let mut run = there.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("run_started");
    deaf.accept().unwrap();
    let began = Instant::now();
    run.signal("INT");
    let ran = run.wait();
    assert!(began.elapsed() < Duration::from_secs(3), "{ran}");
    assert!(ran.stdout.contains(r#""outcome":"cancelled""#), "{ran}");
    assert!(there.files_below(".gradus/leases").is_empty(), "{ran}");
}

#[test]
fn a_file_of_several_parts_comes_back_as_it_was() {
    let pipeline = "
        stages:
          large: { kind: exec, outputs: { a: a }, with: { shell: 'head -c 20000000 /dev/urandom > a' } }
    ";
    let s3 = S3::start();
    let (mut here, key) = writer(pipeline, URL);
    s3.let_in(&mut here);
    assert_eq!(here.events(&[]).ran(), ["large"]);
    let mut there = reader(pipeline, URL, &key);
    s3.let_in(&mut there);
    assert_eq!(there.events(&[]).cached(), ["large"]);
    let content = |project: &Project| fs::read(project.path(".gradus/outputs/p/large.a")).unwrap();
    assert!(content(&here).len() == 20_000_000 && content(&here) == content(&there));
}

#[test]
fn a_folder_and_a_web_server_are_remotes_too() {
    let shared = tempfile::tempdir().unwrap();
    let folder = format!("file://{}", shared.path().display());
    let (here, key) = writer(PIPELINE, &folder);
    assert_eq!(here.events(&[]).ran(), ALL);
    let there = reader(PIPELINE, &folder, &key);
    assert_eq!(there.events(&[]).cached(), ALL);
    assert_right(&there);
    let web = Web::of(shared.path());
    let url = format!("http://{}", web.address);
    let elsewhere = reader(PIPELINE, &url, &key);
    let events = elsewhere.events(&[]);
    assert_eq!(events.cached(), ALL);
    assert!(events.of("cached").all(|it| it["remote"] == true));
    assert_right(&elsewhere);
    let asked = web.asked();
    assert!(asked >= 7);
    assert_eq!(elsewhere.events(&[]).cached(), ALL);
    assert_eq!(web.asked(), asked, "what is here is not asked for");
    elsewhere.write("gradus.toml", format!("[remote]\nurl = \"{url}\"\nwrite = true\n"));
    let refused = elsewhere.gradus(&["run", "p.yaml"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("a web server is only read"), "{refused}");
}
