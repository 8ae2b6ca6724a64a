//! The description of the API, held against the API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::{elsewhere, ended, made_and_listed, worked_on};
use crate::support::TestHub;

/// Where the paths are given to their handlers.
const ROUTER: &str = include_str!("../../src/http/mod.rs");

fn concrete(path: &str) -> String {
    let path = path.replace("{org}", "default").replace("{project}", "main");
    path.replace("{id}", "1").replace("{verb}", "cancel")
}

#[tokio::test]
async fn every_path_and_method_is_described_and_no_other() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let description = a.get("/openapi.json").await;
    let paths = description["paths"].as_object().expect("paths");
    for (path, item) in paths {
        for method in ["get", "post", "patch", "put", "delete"] {
            let verb = method.to_uppercase().parse().expect("a method");
            let request = a.http.request(verb, format!("{}{}", a.base, concrete(path)));
            let answer = request.header("x-actor-id", "a").body("{}").send().await.expect("an answer");
            let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
            assert!(!text.contains("nothing at this path"), "{path}");
            assert_eq!(status != 405, item.get(method).is_some(), "{method} {path}: {status} {text}");
        }
    }
    for route in ROUTER.split(".route(\"").skip(1) {
        let route = route.split('"').next().unwrap_or_default().trim_end_matches('/');
        assert!(paths.keys().any(|path| path.ends_with(route)), "{route} is not described");
    }
}

#[tokio::test]
async fn answers_are_what_the_description_says() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let description = a.get("/openapi.json").await;
    let refused = vec![
        ("no such task", Method::GET, "/99", None, 404, ""),
        ("no title", Method::POST, "", Some(json!({})), 400, ""),
        ("ended already", Method::POST, "/2/cancel", None, 409, ""),
        ("alive", Method::GET, "/health/live", None, 200, ""),
    ];
    for (what, method, path, body, status, _) in
        [made_and_listed(), worked_on(), ended(), elsewhere(), refused].concat()
    {
        let is_elsewhere = ["/tasks", "/orgs", "/health"].iter().any(|start| path.starts_with(start));
        let path = if is_elsewhere { path.to_owned() } else { format!("/tasks{path}") };
        let (answered, answer) = a.call(method.clone(), &path, body).await;
        assert_eq!(answered, status, "{what}: {answer}");
        let operation = &operation(&description, &path)[method.as_str().to_lowercase()];
        let response = resolved(&description, &operation["responses"][status.to_string()]);
        let schema = &response["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{what}: {status} of {method} {path} is not described");
        if let Err(problem) = matches(&description, schema, &answer) {
            panic!("{what}: {problem} in {answer}");
        }
    }
}

/// What the description says of the path of a request; a name in a path gives way to the path that is spelt
/// out.
fn operation<'a>(description: &'a Value, path: &str) -> &'a Value {
    let path = path.split('?').next().unwrap_or_default();
    let paths = description["paths"].as_object().expect("paths");
    let is_like = |template: &str| {
        let (named, asked): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let fits = |(named, asked): (&&str, &&str)| named == asked || named.starts_with('{');
        named.len() == asked.len() && named.iter().zip(&asked).all(fits)
    };
    let like = paths.iter().filter(|(template, _)| is_like(template));
    let (_, item) = like.min_by_key(|(template, _)| template.matches('{').count()).expect("described");
    item
}

fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => description.pointer(pointer).expect("what is referred to"),
        None => value,
    }
}

/// Whether a value is what a schema says, with no field that it does not name. This knows as much of JSON
/// Schema as the description uses.
fn matches(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolved(description, schema);
    if let Some(all) = schema["allOf"].as_array() {
        let merged = merge(all.iter().map(|part| resolved(description, part)));
        return matches(description, &merged, value);
    }
    let types = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("a schema without a type: {schema}")),
    };
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        other => panic!("an unknown type {other}"),
    };
    if !types.into_iter().any(is) {
        return Err(format!("{value} is not {schema}"));
    }
    for item in value.as_array().into_iter().flatten() {
        if schema["items"].is_object() {
            matches(description, &schema["items"], item)?;
        }
    }
    let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        fields.get(name).ok_or_else(|| format!("{name} is missing"))?;
    }
    for (name, field) in fields {
        let property = properties.get(name).ok_or_else(|| format!("{name} is not described"))?;
        matches(description, property, field)?;
    }
    Ok(())
}

fn merge<'a>(parts: impl Iterator<Item = &'a Value>) -> Value {
    let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
    for part in parts {
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    json!({ "type": "object", "properties": properties, "required": required })
}
