//! No value becomes a command, whatever way it takes to a program.

use crate::support::Project;

/// Quotes, substitutions and separators; each would make the file `hurt` if a shell read it.
const VALUE: &str = "$(touch hurt);'\"`touch hurt`|touch hurt & ${IFS} \\ \n* -rf ~";

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Runs the pipeline and returns what its stage `show` put out.
fn shown(pipeline: &str) -> String {
    let project = Project::new(pipeline);
    shown_by(&project)
}

fn shown_by(project: &Project) -> String {
    project.write("odd $(touch hurt);'\"`.txt", "content");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let hurt = project.files_below("").into_iter().filter(|path| path.ends_with("hurt"));
    assert_eq!(hurt.count(), 0, "a value became a command");
    let exported = project.gradus(&["export", "p.yaml", "show.text", "out"]);
    assert_eq!(exported.code, Some(0), "{exported}");
    project.read("out/text")
}

#[test]
fn in_an_argument_list() {
    let value = quoted(&VALUE.replace("${", "$${"));
    let text = shown(&format!(
        "
        params: {{ value: {value} }}
        stages:
          show:
            kind: exec
            outputs: {{ text: text }}
            with: {{ command: [sh, -c, 'printf %s \"$1\" > text', sh, '${{params.value}}'] }}
    "
    ));
    assert_eq!(text, VALUE);
}

#[test]
fn in_the_environment_of_a_shell() {
    let value = quoted(&VALUE.replace("${", "$${"));
    let text = shown(&format!(
        "
        params: {{ value: {value} }}
        stages:
          show:
            kind: exec
            outputs: {{ text: text }}
            with: {{ shell: 'printf %s \"$VALUE\" > text', env: {{ VALUE: '${{params.value}}' }} }}
    "
    ));
    assert_eq!(text, VALUE);
}

#[test]
fn a_shell_text_is_never_filled_in() {
    let text = shown(
        "
        params: { value: '; touch hurt' }
        stages:
          show:
            kind: exec
            outputs: { text: text }
            with: { shell: 'params=plain; printf %s \"${params}\" > text' }
    ",
    );
    assert_eq!(text, "plain");
}

#[test]
fn from_the_command_line_and_the_matrix() {
    let project = Project::new(
        "
        params: { values: [] }
        stages:
          make:
            kind: exec
            matrix: { value: '${params.values}' }
            outputs: { text: text }
            with: { command: [sh, -c, 'printf %s \"$1\" > text', sh, '${stage.name}'] }
          show:
            kind: exec
            inputs: { text: make }
            outputs: { text: text }
            with: { shell: 'cat \"$INPUT_TEXT\" > text' }
    ",
    );
    let pipeline = project.read("p.yaml");
    let value = VALUE.replace("${", "$${");
    project.write("p.yaml", pipeline.replace("[]", &format!("[{}]", quoted(&value))));
    assert_eq!(shown_by(&project), format!("make[value={}]", VALUE.replace('\n', "\\n")));
}

#[test]
fn from_the_persons_environment() {
    let mut project = Project::new(
        "
        env: [VALUE]
        stages:
          show:
            kind: exec
            outputs: { text: text }
            with: { command: [sh, -c, 'printf %s \"$1\" > text', sh, '${env.VALUE}'] }
    ",
    );
    project.set("VALUE", VALUE);
    assert_eq!(shown_by(&project), VALUE);
}

#[test]
fn in_the_name_of_a_file() {
    let text = shown(
        "
        stages:
          show:
            kind: exec
            inputs: { odd: \"./odd $(touch hurt);'\\\"`.txt\" }
            outputs: { text: text }
            with: { shell: 'cat $INPUT_ODD > text' }
    ",
    );
    assert_eq!(text, "content");
}

#[test]
fn a_program_sees_nothing_of_the_persons_environment() {
    let mut project = Project::new(
        "
        stages:
          show:
            kind: exec
            inputs: { a-b: p.yaml }
            outputs: { text: text }
            with: { shell: 'env | cut -d= -f1 | sort > text', env: { OWN: 1 } }
    ",
    );
    project.set("SECRET", "x");
    let names = shown_by(&project);
    let own = ["HOME", "INPUT_A_B", "LANG", "OUTPUT_TEXT", "OWN", "PATH"];
    // What `sh` itself sets is not ours to name.
    let names: Vec<_> =
        names.lines().filter(|name| own.contains(name) || *name == "SECRET").collect();
    assert_eq!(names, own);
}

#[test]
fn text_from_a_program_cannot_steer_the_terminal() {
    let project = Project::new(
        "
        stages:
          \"a\":
            kind: exec
            matrix: { x: [\"\\e[31mred\"] }
            with: { shell: 'printf \"\\033]0;title\\007\"; exit 1' }
    ",
    );
    let ran = project.gradus(&["run", "p.yaml"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    let plan = project.gradus(&["plan", "p.yaml"]);
    assert!(!plan.stdout.contains('\u{1b}'), "{:?}", plan.stdout);
}

#[test]
fn a_path_that_is_no_text_is_refused_before_anything_runs() {
    use std::os::unix::ffi::OsStrExt;
    let project = Project::new(
        "stages: { s: { kind: exec, outputs: { o: o }, with: { shell: 'echo > o' } } }",
    );
    let odd = project.path("").join(std::ffi::OsStr::from_bytes(b"p\xff.yaml"));
    std::fs::copy(project.path("p.yaml"), &odd).unwrap();
    let output = project.command(&["run"]).arg(&odd).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not UTF-8"), "{output:?}");
    assert!(!project.path(".gradus").exists());
}
