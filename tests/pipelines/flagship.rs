//! The whole of it in one pipeline, with the real worker, smaller than it ships.

use crate::{assert_as_shipped, metric, project, run};

const SMALL: [&str; 9] = [
    "text=300",
    "warmup=0",
    "demonstrations=64",
    "preferences=64",
    "prompts=16",
    "max_new_tokens=8",
    "iterations=2",
    "steps_per_point=1",
    "critic_first=1",
];

#[test]
fn four_ways_to_what_people_prefer_stand_side_by_side_on_one_page() {
    let Some(project) = project("alignment") else { return };
    let settings: Vec<&str> = SMALL.iter().flat_map(|it| ["--set", it]).collect();
    let events = run(&project, &settings);
    assert!((metric(&events, "page", "policies") - 11.0).abs() < 1e-9);
    let held = metric(&events, "conditioned", "holds");
    assert!((metric(&events, "page", "claims_holding") - held).abs() < 1e-9);
    let page = project.read(".gradus/outputs/alignment/page.page.html");
    for part in ["<h2>Policies</h2>", "<h2>Curves</h2>", "<h2>Samples</h2>", "nash_md[tau=0.01]"] {
        assert!(page.contains(part), "{part}");
    }
    // All that methods have in common is computed once.
    assert_eq!(events.list.iter().filter(|it| it["event"] == "finished").count(), 42);
    assert_as_shipped(&project, "alignment", &settings);
}
