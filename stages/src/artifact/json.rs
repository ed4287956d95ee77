//! JSON in which every key stands once: `serde_json` keeps the last of two and says nothing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, error::Category};

/// The entries of an object, in the order that they were written in.
pub(crate) type Object = Map<String, Value>;

/// Reads a JSON object; `None` for any other value.
pub(crate) fn object(text: &[u8]) -> Result<Option<Object>, String> {
    match serde_json::from_slice(text) {
        Ok(Once(Value::Object(entries))) => Ok(Some(entries)),
        Ok(_) => Ok(None),
        Err(error) => {
            // serde_json counts lines from the start of what it was given: always 1.
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let column = error.column();
            Err(match error.classify() {
                Category::Data => format!("{words} (at column {column})"),
                _ => format!("not JSON ({words} at column {column})"),
            })
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Array(_) => "a list",
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Object(_) => "an object",
    }
}

/// A value whose objects, however deep, have every key once.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands there twice")));
            }
            let Once(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_stand_and_in_their_order() {
        let text = r#"{"z":[1,-2,0.1,true,null],"a":{"ü":"\n"}}"#;
        let read = object(text.as_bytes()).unwrap().unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(object(b"[1]").unwrap(), None);
    }

    #[test]
    fn a_key_that_stands_there_twice_is_refused_however_deep() {
        let error = |text: &str| object(text.as_bytes()).unwrap_err();
        insta::assert_snapshot!(error(r#"{"a":1,"a":2}"#), @"the key `a` stands there twice (at column 10)");
        insta::assert_snapshot!(error(r#"{"b":[{"a":1,"a":1}]}"#), @"the key `a` stands there twice (at column 16)");
        insta::assert_snapshot!(error("{"), @"not JSON (EOF while parsing an object at column 1)");
    }
}
