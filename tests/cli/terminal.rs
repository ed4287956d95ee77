//! Colours and bars: on a terminal alone, and not where they are unwanted.

use std::process::Command;

use crate::support::Project;

const PIPELINE: &str = "
    stages:
      one: { kind: exec, with: { shell: 'exit 1' } }
      tow: { kind: exec, inputs: { a: none }, with: { command: [ls] } }
";

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn there_are_no_colours_where_there_is_no_terminal() {
    let project = Project::new(PIPELINE);
    project.write(
        "sound.yaml",
        "stages: { one: { kind: exec, with: { shell: 'sleep 0.3; exit 1' } } }",
    );
    let all =
        [&["check", "p.yaml"][..], &["run", "sound.yaml"], &["stages"], &["--help"], &["doctor"]];
    for arguments in all {
        let mut command = project.command(arguments);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("COLORTERM", "truecolor");
        assert!(!output(command).contains('\u{1b}'), "{arguments:?}");
    }
}

/// Runs `gradus` on a terminal that `script` makes; `None` where there is no such program.
fn on_a_terminal(project: &Project, line: &str, plain: bool) -> Option<String> {
    Command::new("script").arg("--version").output().ok()?;
    let own = project.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qec", &format!("'{}' {line}", env!("CARGO_BIN_EXE_gradus")), "/dev/null"]);
    command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env("SHELL", "/bin/sh").current_dir(project.path(""));
    if !plain {
        command.env_remove("NO_COLOR");
    }
    command.stdin(std::process::Stdio::null());
    Some(output(command))
}

#[test]
fn there_are_colours_on_a_terminal_unless_they_are_unwanted() {
    let project = Project::new(PIPELINE);
    let Some(coloured) = on_a_terminal(&project, "check p.yaml", false) else { return };
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    let plain = on_a_terminal(&project, "check p.yaml", true).unwrap();
    assert!(plain.contains("gradus::") && !plain.contains("\u{1b}["), "{plain:?}");
}
