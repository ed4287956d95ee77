//! The points of a matrix, a stage's or an include's: every combination of its axes, less `exclude`, and then `include`.

use std::collections::BTreeSet;

use crate::spec::{
    At, Budget, Data, Entry, Mistakes, Node, Over, Pipeline, Problem, Scope, interpolate, nearest,
};

/// Points of one matrix.
const MOST_POINTS: usize = 10_000;
const EXCLUDE: &str = "exclude";
const INCLUDE: &str = "include";

/// One value for each axis.
pub(super) struct Point {
    pub(super) values: Vec<(String, Node)>,
    /// The stage, or the entry of `include` that adds the point.
    pub(super) at: At,
}

/// A matrix as it is written.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    /// The name of what has it.
    pub(super) of: &'a str,
    pub(super) axes: &'a [Entry],
    /// Where that stands.
    pub(super) at: At,
}

impl Matrix<'_> {
    /// All points; without axes there is one without values, a faulty matrix has none.
    pub(super) fn points(
        self,
        scope: &Scope<'_>,
        pipeline: &Pipeline,
        mistakes: &mut Mistakes,
    ) -> Vec<Point> {
        let before = mistakes.list.len();
        let points = Multiplier { matrix: self, pipeline, scope, mistakes }.points();
        if mistakes.list.len() > before { Vec::new() } else { points }
    }
}

struct Multiplier<'a> {
    matrix: Matrix<'a>,
    pipeline: &'a Pipeline,
    scope: &'a Scope<'a>,
    mistakes: &'a mut Mistakes,
}

impl Multiplier<'_> {
    fn points(&mut self) -> Vec<Point> {
        let (Matrix { of, axes: written, at }, before) = (self.matrix, self.mistakes.list.len());
        if written.is_empty() {
            return vec![Point { values: Vec::new(), at }];
        }
        let is_axis = |entry: &&Entry| entry.key != EXCLUDE && entry.key != INCLUDE;
        let mut axes: Vec<String> =
            written.iter().filter(is_axis).map(|entry| entry.key.clone()).collect();
        let product = self.product();
        let is_known = product.is_some();
        let product = product.unwrap_or_default();
        let (exclude, include) = (self.list(EXCLUDE), self.list(INCLUDE));
        let excluded = self.excluded(&exclude, &axes, &product);
        let made = product.into_iter().enumerate().filter(|(i, _)| !excluded.contains(i));
        let mut points: Vec<Point> = made.map(|(_, values)| Point { values, at }).collect();
        if axes.is_empty() {
            // Points that are only listed: the first of them says what the axes are.
            let first = include.first().map_or(&[][..], Node::entries);
            axes = first.iter().map(|entry| entry.key.clone()).collect();
        }
        points.extend(include.iter().filter_map(|node| self.included(node, &axes)));
        if points.len() > MOST_POINTS {
            self.add(at, Problem::TooManyVariants { most: MOST_POINTS });
        } else if points.is_empty() && is_known && self.mistakes.list.len() == before {
            let words = format!("the matrix of `{of}` leaves nothing of it");
            self.add(at, Problem::Matrix(words));
        }
        points
    }

    /// Every combination of the axes, and none without axes; `None` if they cannot be made out.
    fn product(&mut self) -> Option<Vec<Vec<(String, Node)>>> {
        let (mut points, mut weight) = (Vec::new(), 0);
        for entry in self.matrix.axes.iter().filter(|it| it.key != EXCLUDE && it.key != INCLUDE) {
            let values = self.fill(&entry.value)?;
            let values = match values.data {
                Data::List(values) if !values.is_empty() => values,
                _ => {
                    let problem = Problem::WrongType {
                        what: format!("the matrix's `{}`", entry.key),
                        expected: "a list with at least one value".to_owned(),
                        found: match &values.data {
                            Data::List(_) => "an empty list".to_owned(),
                            _ => values.sort().to_owned(),
                        },
                    };
                    self.add(entry.value.at, problem);
                    return None;
                }
            };
            let count = points.len().max(1).saturating_mul(values.len());
            if count > MOST_POINTS {
                self.add(entry.at, Problem::TooManyVariants { most: MOST_POINTS });
                return None;
            }
            // Every value stands in many points, and in the names of their stages.
            weight += values.iter().map(Node::weight).sum::<usize>() / values.len();
            self.spend(count, count.saturating_mul(weight), entry.at)?;
            if points.is_empty() {
                points.push(Vec::new());
            }
            let with = |point: &Vec<_>, value: &Node| {
                let mut point = point.clone();
                point.push((entry.key.clone(), value.clone()));
                point
            };
            points = points
                .iter()
                .flat_map(|point| values.iter().map(move |value| with(point, value)))
                .collect();
        }
        Some(points)
    }

    /// The entries of `exclude` or `include`.
    fn list(&mut self, key: &str) -> Vec<Node> {
        let Some(entry) = self.matrix.axes.iter().find(|entry| entry.key == key) else {
            return Vec::new();
        };
        let Some(value) = self.fill(&entry.value) else { return Vec::new() };
        let Data::List(items) = value.data else {
            self.no_axis(entry.at, key, &format!("`{key}` is a list of points"), value.sort());
            return Vec::new();
        };
        let (points, others): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| !item.entries().is_empty());
        if let Some(other) = others.first() {
            let rule = format!("each entry of `{key}` is a map from axes to values");
            self.no_axis(other.at, key, &rule, other.sort());
        }
        points
    }

    fn no_axis(&mut self, at: At, key: &str, rule: &str, found: &str) {
        let words = format!("{rule}, and this is {found}; no axis can be called `{key}`");
        self.add(at, Problem::Matrix(words));
    }

    /// The positions of points that an entry of `exclude` means.
    fn excluded(
        &mut self,
        exclude: &[Node],
        axes: &[String],
        product: &[Vec<(String, Node)>],
    ) -> BTreeSet<usize> {
        let mut excluded = BTreeSet::new();
        let work = exclude.len().saturating_mul(product.len());
        if exclude.first().is_some_and(|first| self.spend(0, work, first.at).is_none()) {
            return excluded;
        }
        for node in exclude {
            if !self.knows_axes(node, axes) || product.is_empty() {
                continue;
            }
            let is_meant = |point: &Vec<(String, Node)>| {
                let has = |entry: &Entry| {
                    point.iter().any(|(axis, it)| *axis == entry.key && it.equals(&entry.value))
                };
                node.entries().iter().all(has)
            };
            let before = excluded.len();
            let meant = product.iter().enumerate().filter(|(_, point)| is_meant(point));
            let meant: Vec<_> = meant.map(|(i, _)| i).collect();
            excluded.extend(&meant);
            if meant.is_empty() {
                let words = "this excludes nothing: the matrix makes no such point".to_owned();
                self.add(node.at, Problem::Matrix(words));
            } else if excluded.len() == before {
                let words = "this excludes what is excluded already".to_owned();
                self.add(node.at, Problem::Matrix(words));
            }
        }
        excluded
    }

    fn included(&mut self, node: &Node, axes: &[String]) -> Option<Point> {
        let knows = self.knows_axes(node, axes);
        let missing: Vec<_> = axes
            .iter()
            .filter(|axis| node.get(axis).is_none())
            .map(|it| format!("`{it}`"))
            .collect();
        if !missing.is_empty() {
            let words = format!(
                "a point in `include` gives every axis, and {} is missing",
                missing.join(", ")
            );
            self.add(node.at, Problem::Matrix(words));
        }
        let value = |axis: &String| Some((axis.clone(), node.get(axis)?.clone()));
        let values = axes.iter().map(value).collect::<Option<_>>()?;
        knows.then_some(Point { values, at: node.at })
    }

    fn knows_axes(&mut self, node: &Node, axes: &[String]) -> bool {
        let names = || axes.iter().map(String::as_str);
        let unknown = node.entries().iter().filter(|entry| !axes.contains(&entry.key));
        let mut sound = true;
        for entry in unknown {
            sound = false;
            let known = names().collect::<Vec<_>>().join(", ");
            let problem = Problem::UnknownKey {
                place: format!("the matrix of `{}`", self.matrix.of),
                key: entry.key.clone(),
                nearest: nearest(&entry.key, names()),
                known: if known.is_empty() { "nothing".to_owned() } else { known },
            };
            self.add(entry.at, problem);
        }
        sound
    }

    /// Takes what so many values come to from what the whole pipeline may.
    fn spend(&mut self, values: usize, bytes: usize, at: At) -> Option<()> {
        let spent = self.pipeline.budget.spend(values, bytes);
        if spent == Err(Over::First) {
            let what = "bytes that all values of the pipeline stand for";
            self.add(at, Problem::Limit { what, limit: Budget::LIMIT });
        }
        spent.ok()
    }

    fn fill(&mut self, node: &Node) -> Option<Node> {
        interpolate(node, self.scope, &self.pipeline.sources, self.mistakes)
    }

    fn add(&mut self, at: At, problem: Problem) {
        self.mistakes.add(&self.pipeline.sources, at, problem);
    }
}
