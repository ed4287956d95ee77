//! What is said besides the mistake itself: what was meant, what is written for nothing, what will fail later.

use insta::assert_snapshot;

use super::check;
use crate::support::{Project, Ran};

/// The lines that say what is wrong and what to do.
fn told(ran: &Ran) -> String {
    let lines = ran.stderr.lines().map(str::trim);
    let kept = lines.filter(|line| line.starts_with(['×', '⚠', '│']) || line.starts_with("help"));
    kept.filter(|line| line.len() > 4).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_kind_is_found_by_its_last_word_and_with_letters_swapped() {
    let (_project, ran) = check(
        "
        stages:
          a: { kind: dpo }
          b: { kind: stf }
          c: { kind: reward_modle }
          d: { kind: trian.sft }
          e: { kind: nothing_like_it }
    ",
    );
    assert_snapshot!(told(&ran), @"
    × there is no kind `dpo`
    help: did you mean `policy.dpo`?
    × there is no kind `stf`
    help: did you mean `train.sft`?
    × there is no kind `reward_modle`
    help: did you mean `feedback.reward_model`?
    × there is no kind `trian.sft`
    help: did you mean `train.sft`?
    × there is no kind `nothing_like_it`
    help: `gradus stages` lists the kinds there are
    ");
}

#[test]
fn what_yaml_reads_as_its_own_is_to_be_quoted() {
    for (line, meant) in [
        ("with: { task: ${params.task} }", "\"${params.task}\""),
        ("inputs: { candidates: sft[*] }", "\"sft[*]\""),
        ("inputs: { a: [sft[seed=0], b] }", "\"sft[seed=0]\""),
    ] {
        let (_project, ran) =
            check(&format!("stages:\n  s: {{ kind: evaluate.compare, {line} }}\n"));
        let help = format!("in `{{ … }}` and `[ … ]` it needs quotes: {meant}");
        assert!(ran.stderr.contains(&help), "{ran}");
    }
    let (_project, ran) = check("stages:\n  s: { kind: x, with: { a: \"${params.a}\" }\n");
    assert!(!ran.stderr.contains("quotes"), "{ran}");
}

#[test]
fn what_is_used_nowhere_is_a_warning() {
    let project = Project::new(
        "
        params: { task: reviews, spare: 1, deep: { used: 1, spare: 2 } }
        include: { lib: lib.yaml, full: full.yaml }
        templates:
          used: { kind: data.synthetic, with: { task: '${params.task}', text: '${params.deep.used}' } }
          spare: { kind: data.synthetic }
        stages:
          rows: { template: used }
    ",
    );
    project.write(
        "lib.yaml",
        "params: { a: 1 }\ntemplates:\n  t: { kind: data.synthetic }\nstages: {}\n",
    );
    project.write("full.yaml", "params: { t: reviews }\nstages:\n  r: { kind: data.synthetic, with: { task: '${params.t}' } }\n");
    let ran = project.gradus(&["check", "p.yaml"]);
    assert_eq!(ran.code, Some(0));
    assert_snapshot!(ran);
    let json = project.gradus(&["check", "p.yaml", "--format", "json"]).stdout;
    assert_eq!(json.matches("gradus::pipeline::unused").count(), 5, "{json}");
    assert!(project.gradus(&["plan", "p.yaml"]).stderr.contains("`spare` is used nowhere"));
}

#[test]
fn who_reads_what_is_empty_hears_it_before_anything_runs() {
    let pipeline = |test: &str| {
        format!(
            "
        stages:
          pairs: {{ kind: data.load, with: {{ path: rows.jsonl, format: text{test} }} }}
          tokenizer: {{ kind: data.tokenizer, matrix: {{ vocab_size: [258, 259, 260] }}, inputs: {{ rows: pairs.test }}, with: {{ vocab_size: '${{matrix.vocab_size}}' }} }}
          program: {{ kind: exec, inputs: {{ rows: pairs.test }}, outputs: {{ o: o }}, with: {{ shell: 'echo > o' }} }}
    "
        )
    };
    let project = Project::new(&pipeline(""));
    project.write("rows.jsonl", "{\"text\": \"a\"}\n");
    let ran = project.gradus(&["check", "p.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert_snapshot!(ran);
    for sound in [", test: 0.5", ", test_path: rows.jsonl"] {
        project.write("p.yaml", pipeline(sound).replace("\n        ", "\n"));
        let ran = project.gradus(&["check", "p.yaml"]);
        assert_eq!(ran.code, Some(0), "{ran}");
    }
}

#[test]
fn a_list_on_the_command_line_is_shown_as_it_is_written() {
    let project = Project::new(
        "
        params: { betas: [0.1, 0.2] }
        stages:
          rows: { kind: data.synthetic, matrix: { noise: '${params.betas}' }, with: { task: reviews, label_noise: '${matrix.noise}' } }
    ",
    );
    let ran = project.gradus(&["check", "p.yaml", "--set", "betas=0.3,0.4"]);
    assert_snapshot!(told(&ran), @"× `betas` must be a list: `--set 'betas=[0.3,0.4]'`, and this is text");
    assert_eq!(project.gradus(&["check", "p.yaml", "--set", "betas=[0.3,0.4]"]).code, Some(0));
}
