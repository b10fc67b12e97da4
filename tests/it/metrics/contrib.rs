//! The metrics page, the alert rules and the dashboard name only existing metrics. Prometheus' own tool
//! validates the files.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use deskbatch::metrics::catalogue;
use serde_json::Value;

use crate::support::metrics::{has_promtool, promtool};
use crate::support::place::Place;

const RULES: &str = "contrib/prometheus/deskbatch.rules.yml";
const DASHBOARD: &str = "contrib/grafana/deskbatch.json";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// Every metric name in `text`.
fn named(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("deskbatch_").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
    });
    let name = |(at, _)| -> String {
        let text: &str = &text[at..];
        text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
    };
    starts.map(name).collect()
}

/// Every name that a query may use.
fn known() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, kind) in catalogue() {
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
        names.insert(name);
    }
    names
}

/// Every query of the dashboard with its variables replaced.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(query) if name == "expr" => found.push(query.clone()),
                        value => collect(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(&read(DASHBOARD)).unwrap(), &mut found);
    let filled = |query: &String| {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        query.replace("$queue", ".*")
    };
    found.iter().map(filled).collect()
}

#[test]
fn metrics_page_lists_exactly_the_exported_metrics() {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `deskbatch_"));
    let listed: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let name = format!("deskbatch_{}", cells.next().unwrap().trim_end_matches('`'));
            (name, cells.next().unwrap().to_owned())
        })
        .collect();
    let there: Vec<(String, String)> =
        catalogue().into_iter().map(|(name, kind)| (name, kind.to_owned())).collect();
    assert!(there.len() >= 20, "{there:?}");
    assert_eq!(listed, there, "docs/metrics.md, in the order of the text");
}

#[test]
fn every_query_names_existing_metrics() {
    let known = known();
    let rules = read(RULES);
    let page = read("docs/metrics.md");
    let dashboard = queries().join("\n");
    let unused =
        ["deskbatch_last_run_start_timestamp_seconds", "deskbatch_last_response_timestamp_seconds"];
    assert!(named(&rules).is_superset(&unused.map(str::to_owned).into()), "in a pattern too");
    for (file, text) in [(RULES, &rules), (DASHBOARD, &dashboard), ("docs/metrics.md", &page)] {
        let mut named = named(text);
        // The dashboard's variables match metrics by this prefix.
        named.remove("deskbatch_");
        assert!(named.len() >= 10, "{file}: {named:?}");
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    // Every metric must appear in the dashboard.
    let shown = named(&dashboard);
    for (name, _) in catalogue() {
        let shown = shown.iter().any(|shown| shown.starts_with(&name));
        assert!(
            shown || name == "deskbatch_last_response_timestamp_seconds",
            "{name} has no panel"
        );
    }
}

#[test]
fn every_alert_is_described_documented_and_tested() {
    let rules = read(RULES);
    let (page, tests) =
        (read("docs/metrics.md"), read("contrib/prometheus/deskbatch.rules.test.yml"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 7, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["expr: ", "severity: ", "summary: ", "description: >-\n"] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
        let (_, description) = alert.split_once("description: >-\n").unwrap();
        assert!(description.contains('`') || description.contains("Read"), "{name}: what to do");
        assert!(page.contains(&format!("| `{name}` |")), "docs/metrics.md has no row for {name}");
        assert!(tests.contains(name), "{name} has no test");
    }
}

#[test]
fn grafana_dashboard_imports_without_data_source() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    assert_eq!(dashboard["id"], Value::Null);
    assert_eq!(
        (&dashboard["uid"], &dashboard["title"]),
        (&"deskbatch".into(), &"deskbatch".into())
    );
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "queue"]);
    assert_eq!(variables[0]["query"], "prometheus");
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| place[side].as_u64().unwrap());
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cell.0 < 24 && places.insert(cell), "{title} lies over another one");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().unwrap().len() > 10, "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().unwrap();
            let metrics = query.matches("deskbatch_").count();
            assert_eq!(query.matches("queue=~\"$queue\"").count(), metrics, "{title}: {query}");
        }
    }
}

#[test]
fn alerts_pass_promtool_rule_tests() {
    if !has_promtool() {
        return;
    }
    let folder = path("contrib/prometheus");
    promtool(&folder, &["check", "rules", "deskbatch.rules.yml"], "");
    promtool(&folder, &["test", "rules", "deskbatch.rules.test.yml"], "");
}

#[test]
fn every_documented_query_is_valid_promql() {
    if !has_promtool() {
        return;
    }
    let page = read("docs/metrics.md");
    let block = page.split("## Queries").nth(1).unwrap().split("```").nth(1).unwrap();
    let of_page = block.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rules = String::from("groups:\n  - name: queries\n    rules:\n");
    let queries = queries();
    assert!(queries.len() > 20 && of_page.clone().count() > 8, "{}", queries.len());
    for (n, query) in queries.iter().map(String::as_str).chain(of_page).enumerate() {
        let query = query.replace('\'', "''");
        writeln!(rules, "      - record: q:{n}\n        expr: '{query}'").unwrap();
    }
    let place = Place::new();
    place.write("queries.yml", rules);
    promtool(place.folder.path(), &["check", "rules", "queries.yml"], "");
}
