//! `${…}`: values from parameters, the matrix, declared environment variables and the stage itself.
//!
//! A text that is one `${…}` and nothing else takes the value with its type and its place; inside other
//! text the value is written out. `$${` stands for `${`.

use std::collections::BTreeMap;

use super::{
    budget::{Budget, Over},
    mistake::{Mistakes, Problem, nearest},
    module::Module,
    node::{Data, Entry, Node},
    place::{At, Sources},
};

/// A parameter may refer to a parameter, and so on, this many times.
const DEEPEST: usize = 16;
/// Values and bytes of text that one value may grow to.
const LARGEST: usize = 4 << 20;

/// What `${…}` can reach.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a> {
    /// What parameters and declared variables there are, by the file that names them.
    pub modules: &'a [Module],
    pub matrix: &'a [(String, Node)],
    /// The points of the includes that the stage came by.
    pub arms: &'a [Arm],
    /// What the stage's template was given.
    pub args: &'a [Entry],
    /// The instance's own name.
    pub stage: Option<&'a str>,
    /// The seed of the stage.
    pub seed: Option<u64>,
    /// What all values of the pipeline may still come to.
    pub budget: Option<&'a Budget>,
    /// Further words that stand for text: an `exec` stage's `inputs.NAME` and `outputs.NAME`.
    pub words: BTreeMap<String, String>,
}

/// A point of an include's matrix.
#[derive(Debug, Clone)]
pub struct Arm {
    /// The included file, among the modules.
    pub module: usize,
    /// The file that includes it. What that gives it stands there, and `${matrix…}` in it is this point.
    pub parent: usize,
    pub values: Vec<(String, Node)>,
}

/// `node` with every `${…}` filled in, or `None` if one could not be.
pub fn interpolate(
    node: &Node,
    scope: &Scope<'_>,
    sources: &Sources,
    mistakes: &mut Mistakes,
) -> Option<Node> {
    Filler { scope, sources, mistakes, left: LARGEST }.fill(node, 0)
}

struct Filler<'a> {
    scope: &'a Scope<'a>,
    sources: &'a Sources,
    mistakes: &'a mut Mistakes,
    /// What may still be written: parameters that refer to each other grow without end.
    left: usize,
}

impl<'a> Filler<'a> {
    fn fill(&mut self, node: &Node, depth: usize) -> Option<Node> {
        self.spend(node.as_text().map_or(1, |text| text.len() + 1), node.at)?;
        let data = match &node.data {
            Data::Text(text) if text.contains("${") => return self.text(text, node.at, depth),
            Data::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.fill(item, depth)).collect();
                Data::List(items.into_iter().collect::<Option<_>>()?)
            }
            Data::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        let value = self.fill(&entry.value, depth)?;
                        Some(Entry { key: entry.key.clone(), at: entry.at, value })
                    })
                    .collect();
                Data::Map(entries.into_iter().collect::<Option<_>>()?)
            }
            other => other.clone(),
        };
        Some(Node { data, at: node.at })
    }

    fn spend(&mut self, size: usize, at: At) -> Option<()> {
        if let Some(Err(over)) = self.scope.budget.map(|budget| budget.spend(1, size)) {
            if over == Over::First {
                let what = "bytes that all values of the pipeline stand for";
                let problem = Problem::Limit { what, limit: Budget::LIMIT };
                self.mistakes.add(self.sources, at, problem);
            }
            return None;
        }
        if let Some(left) = self.left.checked_sub(size) {
            self.left = left;
            return Some(());
        }
        // Said once: all that is still to be filled in would say the same.
        if self.left > 0 {
            self.left = 0;
            let what = "bytes that `${…}` stands for";
            self.mistakes.add(self.sources, at, Problem::Limit { what, limit: LARGEST });
        }
        None
    }

    fn text(&mut self, text: &str, at: At, depth: usize) -> Option<Node> {
        if let Some(expression) = whole(text) {
            return self.resolve(expression, at, depth);
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if let Some(before) = rest[..start].strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            filled.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                let written = rest[start..].to_owned();
                let why = "the closing `}` is missing".to_owned();
                let problem = Problem::Interpolation { written, why, nearest: None };
                self.mistakes.add(self.sources, at, problem);
                return None;
            };
            let value = self.resolve(&rest[start + 2..start + length], at, depth)?;
            self.spend(value.as_text().map_or(0, str::len), at)?;
            match value.data {
                Data::Text(text) => filled.push_str(&text),
                Data::List(_) | Data::Map(_) => {
                    let expression = &rest[start + 2..start + length];
                    let why = format!("it is {}, which does not fit into text", value.sort());
                    return self.fail(at, expression, why, None);
                }
                _ => filled.push_str(&value.as_typed(self.sources)),
            }
            rest = &rest[start + length + 1..];
        }
        filled.push_str(rest);
        Some(Node { data: Data::Text(filled), at })
    }

    fn resolve(&mut self, expression: &str, at: At, depth: usize) -> Option<Node> {
        let expression = expression.trim();
        if depth == DEEPEST {
            let why = "the values refer to each other in a circle".to_owned();
            return self.fail(at, expression, why, None);
        }
        if let Some(word) = self.scope.words.get(expression) {
            return Some(Node { data: Data::Text(word.clone()), at });
        }
        let (root, path) = expression.split_once('.').unwrap_or((expression, ""));
        match root {
            "params" => {
                let found = self.walk(&self.module(at)?.params, path, expression, at)?;
                self.fill(&found, depth + 1)
            }
            "args" => {
                let (name, rest) = path.split_once('.').unwrap_or((path, ""));
                let args = self.scope.args;
                if let Some(arg) = args.iter().find(|arg| arg.key == name) {
                    let found = self.walk(&arg.value, rest, expression, at)?;
                    return self.fill(&found, depth + 1);
                }
                let near = nearest(name, args.iter().map(|arg| arg.key.as_str()));
                let near = near.map(|near| format!("args.{near}"));
                let why = if args.is_empty() {
                    "`args.` is for what a template is given".to_owned()
                } else {
                    format!("the template has no argument `{name}`")
                };
                self.fail(at, expression, why, near)
            }
            "matrix" => {
                let (name, rest) = path.split_once('.').unwrap_or((path, ""));
                let module = self.sources.get(at).module;
                let arm = self.scope.arms.iter().find(|arm| arm.parent == module);
                let matrix = arm.map_or(self.scope.matrix, |arm| &arm.values);
                if let Some((_, value)) = matrix.iter().find(|(known, _)| known == name) {
                    return self.walk(value, rest, expression, at);
                }
                let near = nearest(name, matrix.iter().map(|(name, _)| name.as_str()));
                let near = near.map(|near| format!("matrix.{near}"));
                let whose = if arm.is_some() { "the include's" } else { "this stage's" };
                let why = format!("{whose} matrix has no `{name}`");
                self.fail(at, expression, why, near)
            }
            "env" if !self.module(at)?.env.iter().any(|name| name == path) => {
                let why = format!("declare the variable first: `env: [{path}]`");
                self.fail(at, expression, why, None)
            }
            "env" => {
                if let Ok(value) = std::env::var(path) {
                    return Some(Node { data: Data::Text(value), at });
                }
                let why = format!("the environment variable `{path}` is not set");
                self.fail(at, expression, why, None)
            }
            "stage" if path == "name" && self.scope.stage.is_some() => {
                let name = self.scope.stage.unwrap_or_default().to_owned();
                Some(Node { data: Data::Text(name), at })
            }
            "seed" if path.is_empty() && self.scope.seed.is_some() => {
                let seed = self.scope.seed.unwrap_or_default();
                Some(Node { data: Data::Number(seed.into()), at })
            }
            _ => {
                let words = self.scope.words.keys().map(String::as_str);
                let near = nearest(expression, words.chain(["stage.name", "seed"])).or_else(|| {
                    let root = nearest(root, ["params", "matrix", "env", "args"])?;
                    Some(if path.is_empty() { root } else { format!("{root}.{path}") })
                });
                let why = match root {
                    "inputs" | "outputs" => {
                        format!("`{root}.` is for what an `exec` stage itself declares")
                    }
                    _ => "it must begin with `params.`, `matrix.`, `env.`, or be `stage.name` or `seed`"
                        .to_owned(),
                };
                self.fail(at, expression, why, near)
            }
        }
    }

    /// The file that a text stands in decides what its names mean.
    fn module(&self, at: At) -> Option<&'a Module> {
        self.scope.modules.get(self.sources.get(at).module)
    }

    /// Follows `a.b.0` from `node`.
    fn walk(&mut self, node: &Node, path: &str, expression: &str, at: At) -> Option<Node> {
        let mut node = node;
        let mut walked = expression.len() - path.len();
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let next = match &node.data {
                Data::List(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
                _ => node.get(part),
            };
            let Some(next) = next else {
                let near = nearest(part, node.entries().iter().map(|entry| entry.key.as_str()));
                let near = near.map(|near| format!("{}{near}", &expression[..walked]));
                let parent = expression[..walked].trim_end_matches('.');
                let why = format!("`{parent}` has no `{part}`");
                return self.fail(at, expression, why, near);
            };
            node = next;
            walked += part.len() + 1;
        }
        Some(node.clone())
    }

    fn fail(
        &mut self,
        at: At,
        expression: &str,
        why: String,
        nearest: Option<String>,
    ) -> Option<Node> {
        let written = format!("${{{expression}}}");
        self.mistakes.add(self.sources, at, Problem::Interpolation { written, why, nearest });
        None
    }
}

/// The expression of a text that is one `${…}` and nothing else.
fn whole(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?.strip_suffix('}')?;
    (!inner.contains(['{', '}'])).then_some(inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::spec::{place::SourceText, read::read};

    /// Fills `text` in with the parameters of `params`, or says what is wrong.
    fn filled(params: &str, text: &str) -> Result<Value, String> {
        let (mut sources, mut mistakes) = (Sources::default(), Mistakes::default());
        let mut parse = |name: &str, text: &str| {
            let source = sources.add(SourceText {
                name: name.to_owned(),
                text: Arc::from(text),
                base: std::path::PathBuf::new(),
                trusted: false,
                module: 0,
            });
            read(&sources, source, &mut mistakes).unwrap()
        };
        let (params, node) = (parse("params", params), parse("text", text));
        let matrix =
            [("beta".to_owned(), Node { data: Data::Text("hot".to_owned()), at: node.at })];
        let modules = [Module { params, ..Module::default() }];
        let scope = Scope {
            modules: &modules,
            matrix: &matrix,
            stage: Some("dpo[beta=hot]"),
            ..Scope::default()
        };
        match interpolate(&node, &scope, &sources, &mut mistakes) {
            Some(node) if mistakes.list.is_empty() => Ok(node.to_value()),
            _ => Err(mistakes.list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    const PARAMS: &str = "
        whole: 3
        half: 0.5
        yes: true
        none: null
        word: text
        list: [1, two]
        deep: { er: [{ est: 7 }] }
        other: '${params.whole}'
        circle: '${params.circle}'
    ";

    #[test]
    fn a_value_that_is_nothing_else_keeps_its_type() {
        let of = |name: &str| filled(PARAMS, &format!("'${{params.{name}}}'")).unwrap();
        assert_eq!(of("whole"), json!(3));
        assert_eq!(of("half"), json!(0.5));
        assert_eq!(of("yes"), json!(true));
        assert_eq!(of("none"), json!(null));
        assert_eq!(of("word"), json!("text"));
        assert_eq!(of("list"), json!([1, "two"]));
        assert_eq!(of("deep.er.0.est"), json!(7));
        assert_eq!(of("other"), json!(3));
    }

    #[test]
    fn inside_other_text_a_value_is_written_out() {
        let text = "'${params.whole} of ${params.half}, ${params.yes}: ${ params.word }'";
        assert_eq!(filled(PARAMS, text).unwrap(), json!("3 of 0.5, true: text"));
        assert!(filled(PARAMS, "'a ${params.list}'").unwrap_err().contains("it is a list"));
    }

    #[test]
    fn the_matrix_and_the_stage_are_in_reach() {
        assert_eq!(
            filled(PARAMS, "'${matrix.beta}-${stage.name}'"),
            Ok(json!("hot-dpo[beta=hot]"))
        );
    }

    #[test]
    fn two_dollars_stand_for_one() {
        assert_eq!(filled(PARAMS, "'$${params.whole}'"), Ok(json!("${params.whole}")));
        assert_eq!(filled(PARAMS, "'$$ $1 {x}'"), Ok(json!("$$ $1 {x}")));
    }

    #[test]
    fn what_was_filled_in_is_not_read_again() {
        let params = "a: '$${params.b}'\nb: secret";
        assert_eq!(filled(params, "'${params.a}'"), Ok(json!("${params.b}")));
    }

    #[test]
    fn values_inside_lists_and_maps_are_filled_in_and_keys_are_not() {
        let filled =
            filled(PARAMS, "{ '${params.word}': ['${params.whole}', { a: '${params.half}' }] }");
        assert_eq!(filled, Ok(json!({ "${params.word}": [3, { "a": 0.5 }] })));
    }

    #[test]
    fn values_that_refer_to_each_other_end() {
        assert!(filled(PARAMS, "'${params.circle}'").unwrap_err().contains("in a circle"));
    }

    #[test]
    fn values_that_grow_are_stopped() {
        let mut params = "a0: 0123456789".to_owned();
        for i in 1..10 {
            let before = format!("${{params.a{}}}", i - 1).repeat(10);
            params += &["\na", &i.to_string(), ": '", &before, "'"].concat();
        }
        assert_eq!(filled(&params, "'${params.a4}'").unwrap().as_str().unwrap().len(), 100_000);
        assert!(filled(&params, "'${params.a9}'").unwrap_err().contains("over a limit"));
    }
}
