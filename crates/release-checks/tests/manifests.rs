//! Checks the manifests of the published crates, beyond the checks of `cargo package`.

use std::env;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PUBLISHED: [&str; 4] = ["quorlock", "quorlock-chaos", "quorlock-cli", "quorlock-proto"];

fn packages() -> Vec<Value> {
    let cargo = env::var_os("CARGO").expect("cargo runs the test");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON of cargo metadata");
    metadata["packages"].as_array().expect("packages").clone()
}

fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

#[test]
fn exactly_four_crates_are_published() {
    let mut names: Vec<String> = packages()
        .iter()
        .filter(|package| is_published(package))
        .map(|package| package["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    assert_eq!(names, PUBLISHED);
}

#[test]
fn published_manifests_have_all_fields_and_files() {
    for package in packages().iter().filter(|package| is_published(package)) {
        let name = &package["name"];
        for field in ["description", "license", "documentation", "readme", "rust_version"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        // A registry rejects more than five.
        for field in ["keywords", "categories"] {
            let count = package[field].as_array().expect("a list").len();
            assert!((1..=5).contains(&count), "{name} has {count} {field}");
        }
        let folder =
            Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
        let readme = package["readme"].as_str().expect("a readme");
        for file in [readme, "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(folder.join(file).is_file(), "{name} has no file {file}");
        }
    }
}

/// Development dependencies have only a path. Packaging drops them, which breaks the dependency cycle between
/// the crates.
#[test]
fn workspace_dependencies_have_versions_unless_they_are_for_development() {
    for package in packages().iter().filter(|package| is_published(package)) {
        let dependencies = package["dependencies"].as_array().expect("a list");
        for dependency in dependencies.iter().filter(|dependency| dependency["path"].is_string()) {
            let has_version = dependency["req"] != "*";
            let is_for_development = dependency["kind"] == "dev";
            let (name, on) = (&package["name"], &dependency["name"]);
            assert_eq!(has_version, !is_for_development, "{name} on {on}: version {}", dependency["req"]);
        }
    }
}
