//! The same pipeline with as little work as each kind can do, to see whether it runs through.

use serde_json::Value;

use super::checked::Plan;

/// Tells a program that it is rehearsed.
const VARIABLE: &str = "GRADUS_REHEARSAL";

impl Plan {
    /// With the parameters that kinds name for a rehearsal: of two numbers the smaller, and what is left out is
    /// given. What a model or a batch needs of memory stays what it is.
    #[must_use]
    pub fn rehearsed(mut self) -> Self {
        for stage in &mut self.stages {
            for (name, least) in &stage.kind.rehearsal {
                let value = &mut stage.params[name];
                let less = match (value.as_f64(), least.as_f64()) {
                    (Some(given), Some(least)) => least < given,
                    _ => true,
                };
                if less {
                    value.clone_from(least);
                }
            }
            if let Some(exec) = &mut stage.exec {
                exec.env.insert(VARIABLE.to_owned(), "1".to_owned());
                stage.params["env"][VARIABLE] = Value::from("1");
            }
        }
        self
    }
}
