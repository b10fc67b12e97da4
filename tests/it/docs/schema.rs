//! The real JSON outputs match docs/output.schema.json: every key is described, and every required key is
//! there, with a value of its type.

use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY};
use serde_json::{Value, json};

use crate::support::binary::ends;
use crate::support::docs::read;
use crate::support::place::{Place, data, manifest, question};

/// The differences between `value` and `schema`, each with its path.
fn differences(value: &Value, schema: &Value, all: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = &all["$defs"][name.trim_start_matches("#/$defs/")];
        return differences(value, target, all, path, found);
    }
    if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = |option: &Value| {
            let mut wrong = Vec::new();
            differences(value, option, all, path, &mut wrong);
            wrong.is_empty()
        };
        if !options.iter().any(fits) {
            found.push(format!("{path}: {value} fits none of {schema}"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_of = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !kinds.is_empty() && !kinds.iter().any(is_of) {
        found.push(format!("{path}: {value} is none of {kinds:?}"));
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        differences(item, &schema["items"], all, &format!("{path}[{at}]"), found);
    }
    let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for (key, value) in fields {
        match known.get(key) {
            Some(schema) => differences(value, schema, all, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key} is not in the schema")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(
        required
            .filter(|key| !fields.contains_key(*key))
            .map(|key| format!("{path}.{key} is absent")),
    );
}

fn wrong(name: &str, text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&read("docs/output.schema.json")).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let mut found = Vec::new();
    differences(&value, &schema["$defs"][name], &schema, name, &mut found);
    found
}

#[test]
fn json_outputs_match_the_schema() {
    let place = Place::new();
    let ids = ["a", "b", "missing1", "preset1"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "delete"))));
    let deskbatch = |args: &str, code: i32| {
        let words: Vec<&str> = args.split(' ').collect();
        let mut command = place.deskbatch(&words);
        command.env("DESKBATCH_ON_FINISH", "cat >finish.json");
        data(&ends(command, code))
    };
    let check =
        |name: &str, text: &str| assert_eq!(wrong(name, text), Vec::<String>::new(), "{name}");
    check("plan", &deskbatch("plan jobs.csv --sandbox --json", 0));
    deskbatch("run jobs.csv --sandbox", 1);
    check("on_finish", &place.read("finish.json"));
    deskbatch("run --sandbox", 0);
    check("on_finish", &place.read("finish.json"));
    deskbatch("run absent.csv --sandbox", 2);
    check("on_finish", &place.read("finish.json"));
    check("plan", &deskbatch("plan jobs.csv --sandbox --json", 0));
    check("status", &deskbatch("status --sandbox --json", 0));
    check("report", &deskbatch("report --sandbox --format json", 0));
    check("doctor", &deskbatch("doctor --sandbox --offline --json", 0));
    check("config", &deskbatch("config show --json", 0));
}

#[test]
fn schema_check_finds_wrong_outputs() {
    let place = Place::new();
    let mut command = place.deskbatch(&["config", "show", "--json"]);
    command
        .env("DESKBATCH_IDENTIFIER", SANDBOX_IDENTIFIER)
        .env("DESKBATCH_SECRET_KEY", SANDBOX_KEY);
    let text = data(&ends(command, 0));
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["extra"] = json!(1);
    config["schema"] = json!("1");
    config["settings"][0].as_object_mut().unwrap().remove("from");
    let found = wrong("config", &config.to_string());
    assert_eq!(found.len(), 3, "{found:#?}");
}
