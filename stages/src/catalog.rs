//! The catalogue of this worker: every kind, described from its code.

use gradus_protocol::catalog::Catalog;

use crate::{families, take};

/// Every kind, sorted by name.
pub(crate) fn catalog() -> Catalog {
    let mut kinds: Vec<_> = families::stages().map(|stage| (stage.describe)()).collect();
    kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
    Catalog { kinds, takes: take::TYPES.map(str::to_owned).into() }
}

#[cfg(test)]
mod tests {
    use gradus_protocol::catalog::Shape;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_committed_catalogue_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/catalog.json");
        let committed: Catalog =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(
            committed == catalog(),
            "stages/catalog.json is out of date: make catalog, and commit it"
        );
    }

    #[test]
    fn every_kind_and_parameter_and_port_is_documented() {
        for kind in catalog().kinds {
            assert!(!kind.doc.is_empty(), "{}", kind.kind);
            for param in &kind.params {
                assert!(!param.doc.is_empty(), "{}: parameter {}", kind.kind, param.name);
            }
            for port in kind.inputs.iter().chain(&kind.outputs) {
                assert!(!port.doc.is_empty(), "{}: port {}", kind.kind, port.name);
            }
        }
    }

    #[test]
    fn only_an_optional_parameter_defaults_to_null() {
        // Any other null is a default that serde has and the schema does not: derive `Serialize`.
        for kind in catalog().kinds {
            for param in &kind.params {
                let null = param.default == Some(Value::Null);
                let optional = matches!(param.shape, Shape::Optional { .. });
                assert!(!null || optional, "{}: parameter {}", kind.kind, param.name);
            }
        }
    }
}
