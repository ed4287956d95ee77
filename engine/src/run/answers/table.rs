//! What runs were given beside what they measured: a row for each run and each point of its stages' axes.
//!
//! The stages that columns name are joined: of two of one run those variants stand in one row whose common axes
//! agree, so that β of a training stands beside the reward of its evaluation.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use gradus_cache::{Cache, Fingerprint};
use serde::Serialize;
use serde_json::Value;

use crate::{
    plan::points,
    run::{
        history::{RunRecord, StageRecord},
        made::Made,
    },
    spec::{Reference, nearest},
};

/// What is known of a run itself.
const OF_RUNS: [&str; 4] = ["run", "pipeline", "started", "outcome"];
/// What is known of every stage, besides its axes, parameters and metrics.
const OF_STAGES: [&str; 3] = ["status", "seconds", "kind"];
/// Rows of one run that columns may come to.
const MOST_ROWS: usize = 100_000;

/// What stands in one place; nothing where a stage did not get there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Nothing,
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// Which rows, and in which order.
#[derive(Debug, Clone, Default)]
pub struct Picked {
    /// `NAME<VALUE`, with `=`, `!=`, `<`, `<=`, `>` or `>=`.
    pub filters: Vec<String>,
    /// A column, with `-` before it the largest first.
    pub sort: Option<String>,
}

/// A column: a name of the run's or an axis, or a stage's.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    Run(&'static str),
    Axis(String),
    Of { stage: String, name: String },
}

type Axes = BTreeMap<String, Cell>;

/// One stage of one run, with what is known of it.
struct Known<'r> {
    axes: Axes,
    record: &'r StageRecord,
    params: Option<Value>,
}

/// The table of `columns` over `runs`; an error says which column or filter is at fault.
pub fn table(
    cache: &Cache,
    runs: &[&RunRecord],
    columns: &[String],
    picked: &Picked,
) -> Result<Table, String> {
    let mut memory = HashMap::new();
    let known: Vec<_> = runs.iter().map(|run| (*run, stages_of(cache, run, &mut memory))).collect();
    let filters: Vec<_> =
        picked.filters.iter().map(|it| condition(it)).collect::<Result<_, _>>()?;
    let (sorted, falling) = match picked.sort.as_deref() {
        Some(name) => (Some(name.trim_start_matches('-')), name.starts_with('-')),
        None => (None, false),
    };
    let shown = columns.len();
    let names: Vec<String> = columns
        .iter()
        .map(String::as_str)
        .chain(filters.iter().map(|(name, ..)| *name))
        .chain(sorted)
        .map(str::to_owned)
        .collect();
    let all: Vec<Column> =
        names.iter().map(|name| column(name, &known)).collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for (run, stages) in &known {
        rows.extend(rows_of(run, stages, &all)?);
    }
    rows.retain(|row: &Vec<Cell>| {
        let holds = |(at, (_, compare, value)): (usize, &Condition<'_>)| {
            compare.holds(&row[shown + at], value)
        };
        filters.iter().enumerate().all(holds)
    });
    if sorted.is_some() {
        let last = all.len() - 1;
        rows.sort_by(|a, b| order(&a[last], &b[last], falling));
    }
    for row in &mut rows {
        row.truncate(shown);
    }
    Ok(Table { columns: columns.to_vec(), rows })
}

/// The table of these stages, each a row: where it stands on its axes, and what it measured.
pub fn table_of(stages: &[&StageRecord]) -> Table {
    let axes_of = |stage: &StageRecord| -> Axes {
        let variant = Reference::parse(&stage.stage).and_then(|it| it.variant).unwrap_or_default();
        let points = points(variant).into_iter().filter(|(name, _)| !name.is_empty());
        points.map(|(name, value)| (name.to_owned(), cell_of(value))).collect()
    };
    let name_of = |stage: &StageRecord| {
        Reference::parse(&stage.stage).map_or(stage.stage.clone(), |it| it.stage.to_owned())
    };
    let mut axes: Vec<String> = Vec::new();
    let mut numbers: Vec<String> = Vec::new();
    for stage in stages {
        for (list, names) in [
            (&mut axes, axes_of(stage).into_keys().collect::<Vec<_>>()),
            (&mut numbers, stage.metrics.keys().cloned().collect()),
        ] {
            for name in names {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
    }
    let row = |stage: &&StageRecord| {
        let own = axes_of(stage);
        let number = |name: &String| match stage.metrics.get(name) {
            Some(Some(value)) => Cell::Number(*value),
            _ => Cell::Nothing,
        };
        let first = Cell::Text(name_of(stage));
        let axes = axes.iter().map(|name| own.get(name).cloned().unwrap_or(Cell::Nothing));
        std::iter::once(first).chain(axes).chain(numbers.iter().map(number)).collect()
    };
    let rows = stages.iter().map(row).collect();
    let columns = std::iter::once("stage".to_owned()).chain(axes.clone()).chain(numbers.clone());
    Table { columns: columns.collect(), rows }
}

fn stages_of<'r>(
    cache: &Cache,
    run: &'r RunRecord,
    memory: &mut HashMap<Fingerprint, Option<Value>>,
) -> BTreeMap<&'r str, Vec<Known<'r>>> {
    let mut stages: BTreeMap<&str, Vec<Known<'r>>> = BTreeMap::new();
    for record in &run.stages {
        let Some(reference) = Reference::parse(&record.stage) else { continue };
        let axes = points(reference.variant.unwrap_or_default()).into_iter();
        let axes = axes.filter(|(name, _)| !name.is_empty());
        let axes = axes.map(|(name, value)| (name.to_owned(), cell_of(value))).collect();
        let params = record.fingerprint.and_then(|it| {
            let read = || Made::of(&cache.action(&it).ok()??).map(|made| made.facts.table.0);
            memory.entry(it).or_insert_with(read).clone()
        });
        let params = params.map(|mut table| table["params"].take());
        stages.entry(reference.stage).or_default().push(Known { axes, record, params });
    }
    stages
}

fn cell_of(text: &str) -> Cell {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.map_or_else(|| Cell::Text(text.to_owned()), Cell::Number)
}

impl Known<'_> {
    fn cell(&self, name: &str) -> Option<Cell> {
        let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(number) = self.record.metrics.get(name) {
            return Some(number.map_or(Cell::Nothing, Cell::Number));
        }
        match name {
            "status" => {
                let value = serde_json::to_value(self.record.status).unwrap_or_default();
                return Some(Cell::Text(word(value)));
            }
            "seconds" => return Some(Cell::Number(self.record.seconds)),
            "kind" => return Some(Cell::Text(self.record.kind.clone())),
            _ => {}
        }
        let pointer = format!("/{}", name.replace('.', "/"));
        let value = self.params.as_ref()?.pointer(&pointer)?;
        Some(match value {
            Value::Null => Cell::Nothing,
            Value::Number(number) => number.as_f64().map_or(Cell::Nothing, Cell::Number),
            Value::String(text) => Cell::Text(text.clone()),
            other => Cell::Text(other.to_string()),
        })
    }

    fn names(&self) -> Vec<String> {
        let params = self.params.as_ref().and_then(Value::as_object).into_iter().flatten();
        let metrics = self.record.metrics.keys().cloned();
        metrics.chain(params.map(|(name, _)| name.clone())).collect()
    }
}

type Stages<'r> = BTreeMap<&'r str, Vec<Known<'r>>>;

/// What a name means: `run`, an axis, `STAGE.NAME`, or a name that one stage alone has.
fn column(name: &str, known: &[(&RunRecord, Stages<'_>)]) -> Result<Column, String> {
    if let Some(of_run) = OF_RUNS.into_iter().find(|it| *it == name) {
        return Ok(Column::Run(of_run));
    }
    let all = || known.iter().flat_map(|(_, stages)| stages.iter());
    // Names of stages may hold no dot, those of parameters and metrics may.
    if let Some((stage, inner)) = name.split_once('.') {
        let found: Vec<_> = all().filter(|(it, _)| **it == stage).collect();
        let has =
            |(_, list): &(&&str, &Vec<Known<'_>>)| list.iter().any(|it| it.cell(inner).is_some());
        if found.iter().any(has) {
            return Ok(Column::Of { stage: stage.to_owned(), name: inner.to_owned() });
        }
        if !found.is_empty() {
            let names: BTreeSet<_> =
                found.iter().flat_map(|(_, list)| list.iter().flat_map(Known::names)).collect();
            let near = nearest(inner, names.iter().map(String::as_str));
            let near = near.map_or_else(
                || format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{stage}.{near}`?"),
            );
            return Err(format!("`{stage}` has no parameter or metric `{inner}`: {near}"));
        }
    }
    if all().any(|(_, list)| list.iter().any(|it| it.axes.contains_key(name))) {
        return Ok(Column::Axis(name.to_owned()));
    }
    let has = |list: &[Known<'_>]| list.iter().any(|it| it.cell(name).is_some());
    let of: BTreeSet<&str> = all().filter(|(_, list)| has(list)).map(|(stage, _)| *stage).collect();
    match of.iter().copied().collect::<Vec<_>>()[..] {
        [stage] => Ok(Column::Of { stage: stage.to_owned(), name: name.to_owned() }),
        [] => {
            let stages: BTreeSet<&str> = all().map(|(stage, _)| *stage).collect();
            let stages = stages.into_iter().collect::<Vec<_>>().join(", ");
            Err(format!(
                "no run has `{name}`: a column is `run`, `pipeline`, `started`, `outcome`, an axis of a matrix, or \
                 `STAGE.NAME` with a parameter, a metric, {}; stages are {stages}",
                OF_STAGES.map(|it| format!("`{it}`")).join(", ")
            ))
        }
        _ => {
            let of: Vec<_> = of.iter().map(|stage| format!("`{stage}.{name}`")).collect();
            Err(format!("several stages have `{name}`: say {}", of.join(" or ")))
        }
    }
}

/// A row for each way in which variants of the named stages agree on their axes.
fn rows_of(
    run: &RunRecord,
    stages: &Stages<'_>,
    columns: &[Column],
) -> Result<Vec<Vec<Cell>>, String> {
    let mut named: Vec<&str> = Vec::new();
    for column in columns {
        if let Column::Of { stage, .. } = column
            && !named.contains(&stage.as_str())
        {
            named.push(stage);
        }
    }
    let mut joined: Vec<(Axes, BTreeMap<&str, &Known<'_>>)> = vec![(Axes::new(), BTreeMap::new())];
    let axes =
        columns.iter().filter_map(|it| if let Column::Axis(name) = it { Some(name) } else { None });
    if named.is_empty() {
        // Axes alone: the points of whatever has them.
        let asked: Vec<&String> = axes.collect();
        let points: Vec<Axes> = stages
            .values()
            .flatten()
            .filter(|it| !asked.is_empty() && asked.iter().all(|name| it.axes.contains_key(*name)))
            .map(|it| asked.iter().map(|name| ((*name).clone(), it.axes[*name].clone())).collect())
            .collect();
        let mut seen: Vec<Axes> = Vec::new();
        for point in points {
            if !seen.contains(&point) {
                seen.push(point);
            }
        }
        if !asked.is_empty() {
            joined = seen.into_iter().map(|point| (point, BTreeMap::new())).collect();
        }
    }
    for stage in named {
        let Some(variants) = stages.get(stage) else { return Ok(Vec::new()) };
        let mut next = Vec::new();
        for (axes, so_far) in &joined {
            for variant in variants {
                let agrees =
                    |(name, value): (&String, &Cell)| axes.get(name).is_none_or(|it| it == value);
                if !variant.axes.iter().all(agrees) {
                    continue;
                }
                let mut axes = axes.clone();
                axes.extend(variant.axes.clone());
                let mut so_far = so_far.clone();
                so_far.insert(stage, variant);
                next.push((axes, so_far));
                if next.len() > MOST_ROWS {
                    return Err(format!(
                        "more than {MOST_ROWS} rows of one run: name fewer stages"
                    ));
                }
            }
        }
        joined = next;
    }
    let cell = |column: &Column, (axes, of): &(Axes, BTreeMap<&str, &Known<'_>>)| match column {
        Column::Run("run") => Cell::Text(run.run.clone()),
        Column::Run("pipeline") => Cell::Text(run.pipeline.clone()),
        Column::Run("started") => Cell::Number(run.started as f64),
        Column::Run(_) => {
            let value = serde_json::to_value(run.outcome).unwrap_or_default();
            value.as_str().map_or(Cell::Nothing, |it| Cell::Text(it.to_owned()))
        }
        Column::Axis(name) => axes.get(name).cloned().unwrap_or(Cell::Nothing),
        Column::Of { stage, name } => {
            of.get(stage.as_str()).and_then(|it| it.cell(name)).unwrap_or(Cell::Nothing)
        }
    };
    Ok(joined.iter().map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Is,
    IsNot,
    Below,
    AtMost,
    Above,
    AtLeast,
}

type Condition<'t> = (&'t str, Compare, Cell);

/// Reads `NAME<VALUE`.
fn condition(text: &str) -> Result<Condition<'_>, String> {
    let signs = [
        ("<=", Compare::AtMost),
        (">=", Compare::AtLeast),
        ("!=", Compare::IsNot),
        ("<", Compare::Below),
        (">", Compare::Above),
        ("=", Compare::Is),
    ];
    let found =
        signs.iter().filter_map(|(sign, compare)| Some((text.find(sign)?, *sign, *compare)));
    // The first in the text, and of two that begin there the longer, which comes first in the list.
    let Some((at, sign, compare)) = found.min_by_key(|(at, ..)| *at) else {
        return Err(format!("`{text}` is no condition: `NAME<VALUE`, with =, !=, <, <=, > or >="));
    };
    Ok((text[..at].trim(), compare, cell_of(text[at + sign.len()..].trim())))
}

impl Compare {
    /// Nothing fulfils no condition.
    fn holds(self, found: &Cell, value: &Cell) -> bool {
        if *found == Cell::Nothing {
            return false;
        }
        let order = match (found, value) {
            (Cell::Number(one), Cell::Number(other)) => one.total_cmp(other),
            (one, other) => in_words(one).cmp(&in_words(other)),
        };
        match self {
            Self::Is => order.is_eq(),
            Self::IsNot => order.is_ne(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

fn in_words(cell: &Cell) -> String {
    match cell {
        Cell::Nothing => String::new(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) => text.clone(),
    }
}

/// Numbers before words, nothing last, whichever way it is sorted.
fn order(one: &Cell, other: &Cell, falling: bool) -> Ordering {
    let turned = |order: Ordering| if falling { order.reverse() } else { order };
    match (one, other) {
        (Cell::Nothing, Cell::Nothing) => Ordering::Equal,
        (Cell::Nothing, _) => Ordering::Greater,
        (_, Cell::Nothing) => Ordering::Less,
        (Cell::Number(one), Cell::Number(other)) => turned(one.total_cmp(other)),
        (Cell::Number(_), Cell::Text(_)) => turned(Ordering::Less),
        (Cell::Text(_), Cell::Number(_)) => turned(Ordering::Greater),
        (Cell::Text(one), Cell::Text(other)) => turned(one.cmp(other)),
    }
}
