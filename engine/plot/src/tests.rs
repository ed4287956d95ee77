//! Figures as comparisons and curves make them: one for each crowd that a picture must bear.

use crate::{Figure, Level, Look, Point, Series};

fn point(name: &str, x: f64, y: f64, half: f64) -> Point {
    Point { x, y, interval: (half > 0.0).then_some((y - half, y + half)), name: name.to_owned() }
}

/// A policy at several strengths, with reward that grows with distance ever more slowly.
fn path(name: &str, values: &[f64], best: f64) -> Series {
    let one = |(i, value): (usize, &f64)| {
        let x = 12.0 / (1.0 + 20.0 * value) + 0.3 * i as f64;
        point(&format!("beta={value}"), x, best * (1.0 - (-x / 4.0).exp()), 0.05)
    };
    let points = values.iter().enumerate().map(one).collect();
    Series { name: name.to_owned(), points, look: Look::Path }
}

fn frontier(series: Vec<Series>) -> Figure {
    let before = Series {
        name: "sft (baseline)".to_owned(),
        points: vec![point("", 0.0, 0.1, 0.05)],
        look: Look::Hollow,
    };
    Figure {
        title: "Reward against KL to the SFT policy".to_owned(),
        x: "KL from the reference, nats per completion".to_owned(),
        y: "mean true reward, 95 % interval over prompts".to_owned(),
        from_zero: true,
        series: series.into_iter().chain([before]).collect(),
        level: None,
    }
}

fn of_two() -> Figure {
    let one = point("", 3.2, 0.74, 0.033);
    frontier(vec![Series { name: "dpo".to_owned(), points: vec![one], look: Look::Marks }])
}

fn of_nine() -> Figure {
    let values = [0.05, 0.1, 0.5, 1.0];
    frontier(vec![path("dpo", &values, 1.2), path("ipo", &values, 0.9)])
}

fn of_twenty_four() -> Figure {
    let values = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
    let names = ["dpo[loss=sigmoid]", "dpo[loss=ipo]", "dpo[loss=hinge]", "ppo"];
    let best = [1.2, 1.1, 1.15, 0.8];
    let series = names.iter().zip(best).map(|(name, best)| path(name, &values, best)).collect();
    let level = Some(Level { name: "a policy without KL".to_owned(), y: 0.5 });
    Figure { level, ..frontier(series) }
}

fn curve(name: &str, of: impl Fn(f64) -> f64) -> Series {
    let point = |step: u32| point("", step.into(), of(step.into()), 0.0);
    Series { name: name.to_owned(), points: (1..=50).map(point).collect(), look: Look::Curve }
}

fn curves(series: Vec<Series>) -> Figure {
    Figure {
        title: "loss".to_owned(),
        x: "step".to_owned(),
        y: "loss".to_owned(),
        from_zero: false,
        series,
        level: None,
    }
}

fn decay() -> Series {
    curve("sft", |step| (-step / 12.0).exp())
}

#[test]
fn one_curve_is_a_line_of_dots() {
    insta::assert_snapshot!(curves(vec![decay()]).letters());
}

#[test]
fn several_curves_have_a_letter_each() {
    let rising = curve("dpo[beta=0.1]", |step| step / 50.0);
    insta::assert_snapshot!(curves(vec![rising, curve("dpo[beta=1]", |_| 0.25)]).letters());
}

#[test]
fn every_point_has_a_letter_and_its_interval() {
    insta::assert_snapshot!(of_two().letters());
    insta::assert_snapshot!(of_nine().letters());
    insta::assert_snapshot!(of_twenty_four().letters());
}

#[test]
fn every_line_fits_the_terminal() {
    let wide = curves(vec![curve("a", |step| step * 1e9), curve("b", |step| -step * 1e-9)]);
    for figure in [wide, curves(vec![decay()]), of_twenty_four()] {
        let text = figure.letters();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}

#[test]
fn what_is_not_finite_is_left_out() {
    let gap = curves(vec![curve("gap", |step| if step < 40.0 { step } else { f64::NAN })]);
    assert!(!gap.svg().unwrap().contains("NaN"));
    assert_eq!(curves(vec![curve("none", |_| f64::NAN)]).letters(), "loss: no value is finite\n");
    let huge = curve("huge", |step| if step < 25.0 { f64::MIN } else { f64::MAX });
    let huge = curves(vec![huge, decay()]);
    assert!(huge.letters().contains("1.798e308") && huge.svg().unwrap().ends_with("</svg>\n"));
    for empty in [curves(Vec::new()), frontier(Vec::new())] {
        assert!(empty.svg().unwrap().starts_with("<svg "));
        assert!(!empty.png().unwrap().is_empty());
    }
}

#[test]
fn names_are_text_in_the_picture_and_break_nothing() {
    let mut figure = of_nine();
    figure.title = "a < b & \u{1b}c".to_owned();
    let drawn = figure.svg().unwrap();
    assert!(drawn.contains("a &lt; b &amp;  c") && !drawn.contains('\u{1b}'), "{drawn}");
    for words in ["beta=0.05", "sft (baseline)", "ipo", "nats"] {
        assert!(drawn.contains(words), "{words}");
    }
}

#[test]
fn with_many_points_names_stand_in_the_legend_and_numbers_beside_points() {
    let drawn = of_twenty_four().svg().unwrap();
    let shown = |words: &str| drawn.lines().filter(|line| line.trim() == words).count();
    assert_eq!((shown("beta=0.05"), shown("17"), shown("a policy without KL")), (4, 2, 1));
}

#[test]
fn a_picture_is_the_same_bytes_again() {
    assert_eq!(of_nine().svg().unwrap(), of_nine().svg().unwrap());
    let png = of_nine().png().unwrap();
    assert!(png.starts_with(b"\x89PNG") && png == of_nine().png().unwrap());
}

/// Writes all of them below `GRADUS_PLOTS`, for whoever wants to look.
#[test]
#[ignore = "for looking at"]
fn pictures_to_look_at() {
    let folder = std::env::var_os("GRADUS_PLOTS").map(std::path::PathBuf::from).unwrap();
    let two_curves = curves(vec![decay(), curve("dpo[beta=1]", |step| (step / 9.0).sin())]);
    for (name, figure) in [
        ("two", of_two()),
        ("nine", of_nine()),
        ("twenty_four", of_twenty_four()),
        ("curve", curves(vec![decay()])),
        ("curves", two_curves),
    ] {
        std::fs::write(folder.join(format!("{name}.svg")), figure.svg().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), figure.png().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), figure.letters()).unwrap();
    }
}
