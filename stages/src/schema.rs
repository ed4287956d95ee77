//! Parameter structs as the catalogue describes them.
//!
//! They become [`Param`]s through their JSON schema, so that a field's doc, default and range are written once.

use gradus_protocol::catalog::{Choice, Param, Range, Shape};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// A doc comment as plain text: no leading blanks, no blank line at the end.
pub(crate) fn plain(doc: &str) -> String {
    let lines: Vec<_> = doc.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}

/// The parameters that `P` reads.
pub(crate) fn params<P: JsonSchema>() -> Vec<Param> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    fields(&settings.into_generator().into_root_schema_for::<P>().to_value())
}

fn fields(schema: &Value) -> Vec<Param> {
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| Param {
            name: name.clone(),
            doc: plain(schema["description"].as_str().unwrap_or_default()),
            shape: shape(schema),
            default: match schema.get("default") {
                Some(default) => Some(default.clone()),
                None if required.contains(&name.as_str()) => None,
                None => Some(Value::Null),
            },
            neutral: schema.get("neutral").cloned(),
        })
        .collect()
}

fn shape(schema: &Value) -> Shape {
    if let Some(inner) = without_null(schema) {
        return Shape::Optional { of: Box::new(shape(&inner)) };
    }
    if let Some(options) = choices(schema) {
        return Shape::Choice { options };
    }
    match schema["type"].as_str() {
        Some("boolean") => Shape::Boolean,
        Some("integer") => Shape::Integer(range(schema)),
        Some("number") => Shape::Number(range(schema)),
        Some("string") if schema["format"] == "path" => Shape::Path,
        Some("string") => Shape::Text,
        Some("array") => Shape::List { of: Box::new(shape(&schema["items"])) },
        Some("object") if schema.get("properties").is_some() => {
            Shape::Record { fields: fields(schema) }
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            Shape::Map { of: Box::new(shape(&schema["additionalProperties"])) }
        }
        _ => Shape::Any,
    }
}

fn range(schema: &Value) -> Range {
    Range {
        min: schema["minimum"].as_f64(),
        above: schema["exclusiveMinimum"].as_f64(),
        max: schema["maximum"].as_f64(),
    }
}

/// The schema of `T` when this is the schema of `Option<T>`, in either way of writing that.
fn without_null(schema: &Value) -> Option<Value> {
    if let Some(types) = schema["type"].as_array() {
        let rest: Vec<_> = types.iter().filter(|name| *name != "null").collect();
        if rest.len() == 1 && types.len() == 2 {
            let mut inner = schema.clone();
            inner["type"] = rest[0].clone();
            return Some(inner);
        }
    }
    let any = schema["anyOf"].as_array()?;
    let rest: Vec<_> = any.iter().filter(|one| one["type"] != "null").collect();
    (rest.len() == 1 && any.len() == 2).then(|| rest[0].clone())
}

/// The words of an enum whose variants carry nothing, with or without docs.
fn choices(schema: &Value) -> Option<Vec<Choice>> {
    let choice = |value: &Value, doc: &str| {
        Some(Choice { value: value.as_str()?.to_owned(), doc: plain(doc) })
    };
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter(|word| !word.is_null()).map(|word| choice(word, "")).collect();
    }
    let mut options = Vec::new();
    for one in schema["oneOf"].as_array()? {
        let doc = one["description"].as_str().unwrap_or_default();
        match (one.get("const"), one["enum"].as_array()) {
            (Some(word), _) => options.push(choice(word, doc)?),
            (None, Some(words)) => {
                for word in words {
                    options.push(choice(word, doc)?);
                }
            }
            (None, None) => return None,
        }
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only described")]
    struct Named {
        names: BTreeMap<String, String>,
        weights: Option<BTreeMap<String, f64>>,
    }

    #[test]
    fn a_map_has_keys_of_ones_own_and_values_of_one_shape() {
        let [names, weights] = params::<Named>().try_into().unwrap();
        let map = |of| Shape::Map { of: Box::new(of) };
        assert_eq!(names.shape, map(Shape::Text));
        let inner = Box::new(map(Shape::Number(Range::default())));
        assert_eq!(weights.shape, Shape::Optional { of: inner });
    }
}
