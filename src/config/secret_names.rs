//! Which secrets a configuration names: for edges that must fetch secrets before the configuration is checked.

use super::document::{Table, Value};

/// The names in every `{ secret = "name" }` of the text, and the two that are read without being written. None where the text is no TOML.
#[must_use]
pub fn secret_names(text: &str) -> Vec<String> {
    let mut names = vec!["admin_token".to_owned(), "read_token".to_owned()];
    if let Ok(table) = Table::parse(text) {
        collect(&Value::Table(table), &mut names);
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn collect(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Table(table) => match table.get("secret") {
            Some(Value::String(name)) if table.len() == 1 => names.push(name.clone()),
            _ => table.pairs().for_each(|(_, inner)| collect(inner, names)),
        },
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::secret_names;

    #[test]
    fn every_secret_of_the_text_is_named_once() {
        let text = "[gateway]\nadmin_token = { secret = \"a\" }\n[[product]]\nkeys = [{ secret_key = { secret = \"b\" } }, { secret_key = { secret = \"b\" } }]";
        assert_eq!(secret_names(text), ["a", "admin_token", "b", "read_token"]);
        assert_eq!(secret_names("no toml ["), ["admin_token", "read_token"]);
    }
}
