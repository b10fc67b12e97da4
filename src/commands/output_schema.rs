//! Holds docs/output.md and docs/output.schema.json to the types of the JSON outputs.

use std::fmt::Write as _;
use std::{env, fs};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use strum::VariantArray as _;

use super::Exit;
use super::config::ConfigJson;
use super::doctor::DoctorJson;
use super::plan::PlanJson;
use super::run::PayloadJson;
use super::status::StatusJson;
use crate::report::{COLUMNS, JsonRecord};
use crate::util::atomic_file::{IfExists, write_atomic};

const PAGE: &str = "docs/output.md";
const SCHEMA: &str = "docs/output.schema.json";

/// The generated part of the page is between these lines.
const MARKS: [&str; 2] = ["<!-- begin generated -->\n", "<!-- end generated -->\n"];

const TABLE: &str = "| field | type | meaning |\n| --- | --- | --- |\n";

/// The outputs: the name in the schema, the heading, and the schema itself.
fn outputs(generator: &mut SchemaGenerator) -> Vec<(&'static str, &'static str, Value)> {
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
        T::json_schema(generator).to_value()
    }
    vec![
        ("report", "`deskbatch report --format json`", of::<JsonRecord<'_>>(generator)),
        ("status", "`deskbatch status --json`", of::<StatusJson<'_>>(generator)),
        ("plan", "`deskbatch plan --json`", of::<PlanJson<'_>>(generator)),
        ("on_finish", "The stdin of `--on-finish`", of::<PayloadJson<'_>>(generator)),
        ("doctor", "`deskbatch doctor --json`", of::<DoctorJson<'_>>(generator)),
        ("config", "`deskbatch config show --json`", of::<ConfigJson<'_>>(generator)),
    ]
}

/// Appends the rows of the fields of `schema`, and below each those of its own fields.
fn write_fields(schema: &Value, defs: &Map<String, Value>, path: &str, text: &mut String) {
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, field) in fields {
        let path = format!("{path}{name}");
        let (kind, inner) = kind_of(field, defs);
        let meaning = field.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(!meaning.is_empty(), "{path} has no doc comment");
        let _ = writeln!(text, "| `{path}` | {kind} | {} |", meaning.replace('\n', " "));
        if let Some(inner) = inner {
            let below = if kind.starts_with("array") { "[]." } else { "." };
            write_fields(inner, defs, &format!("{path}{below}"), text);
        }
    }
}

/// The type of a field in words, and the schema of the object in it.
fn kind_of<'a>(field: &'a Value, defs: &'a Map<String, Value>) -> (String, Option<&'a Value>) {
    if let Some(name) = field.get("$ref").and_then(Value::as_str) {
        let target = &defs[name.trim_start_matches("#/$defs/")];
        return kind_of(target, defs);
    }
    if let Some(options) = field.get("anyOf").and_then(Value::as_array) {
        let (kind, inner) = kind_of(&options[0], defs);
        return (format!("{kind} or null"), inner);
    }
    if let Some(words) = words_of(field) {
        return (words.join(", "), None);
    }
    match field.get("type") {
        Some(Value::Array(kinds)) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            (kinds.join(" or "), None)
        }
        Some(Value::String(kind)) if kind == "array" => {
            let (of, inner) = kind_of(&field["items"], defs);
            (format!("array of {of}"), inner)
        }
        Some(Value::String(kind)) if kind == "object" => (kind.clone(), Some(field)),
        Some(Value::String(kind)) => (kind.clone(), None),
        _ => ("any".to_owned(), None),
    }
}

/// The words of an enum.
fn words_of(field: &Value) -> Option<Vec<String>> {
    let quoted = |value: &Value| value.as_str().map(|word| format!("`{word}`"));
    if let Some(words) = field.get("enum").and_then(Value::as_array) {
        return words.iter().map(quoted).collect();
    }
    let options = field.get("oneOf").and_then(Value::as_array)?;
    options.iter().map(|option| option.get("const").and_then(quoted)).collect()
}

/// Compares `text` with the file `name`, or rewrites the file.
fn hold(name: &str, text: &str) {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    if env::var_os("DESKBATCH_UPDATE_DOCS").is_some_and(|value| value == "1") {
        write_atomic(path.as_ref(), text.as_bytes(), None, IfExists::Replace).expect("writable");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{name} is outdated: DESKBATCH_UPDATE_DOCS=1 cargo test docs");
}

#[test]
fn docs_describe_every_json_output() {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let outputs = outputs(&mut generator);
    let defs = generator.take_definitions(true);

    let mut text = String::from("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for exit in Exit::VARIANTS {
        let _ = writeln!(text, "| {} | {} |", *exit as u8, exit.meaning());
    }
    for (name, heading, schema) in &outputs {
        let _ = write!(text, "\n## {heading}\n\n");
        if *name == "report" {
            let fields = schema["properties"].as_object().expect("has fields");
            assert_eq!(fields.len(), COLUMNS.len());
            text.push_str(
                "An array of objects, one per line. The CSV has the same columns, in this order; true is \
                 1, false is 0, null is empty.\n\n| column | type | meaning |\n| --- | --- | --- |\n",
            );
            for column in COLUMNS {
                let (kind, _) = kind_of(&fields[column], &defs);
                let meaning = fields[column]["description"].as_str().expect("has a doc comment");
                let _ = writeln!(text, "| `{column}` | {kind} | {} |", meaning.replace('\n', " "));
            }
            continue;
        }
        text.push_str(TABLE);
        write_fields(schema, &defs, "", &mut text);
    }
    text.push('\n');
    let page =
        fs::read_to_string(format!("{}/{PAGE}", env!("CARGO_MANIFEST_DIR"))).expect("is there");
    let (head, rest) = page.split_once(MARKS[0]).expect("has the first mark");
    let (_, tail) = rest.split_once(MARKS[1]).expect("has the second mark");
    hold(PAGE, &format!("{head}{}{text}{}{tail}", MARKS[0], MARKS[1]));

    let mut all = defs;
    for (name, _, mut schema) in outputs {
        if name == "report" {
            schema = json!({ "type": "array", "items": schema });
        }
        all.insert(name.to_owned(), schema);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "JSON outputs of deskbatch",
        "description": "Each output is one definition: report, status, plan, on_finish, doctor, config.",
        "$defs": all,
    });
    hold(SCHEMA, &format!("{schema:#}\n"));
}
