//! Checks that the doc comments of public items have the sections that readers look for.
//!
//! Modules are exempt, because the examples stand at their items. Re-exports from other crates are exempt, because
//! those crates document them. Fields and variants are exempt, because their type has the example. So are
//! implementations of traits, because the trait documents its methods and associated types.

use std::fmt::Write as _;

use serde_json::Value;

use crate::public_items::Item;

/// The required sections that the doc comment of an item lacks. The item is in the form of rustdoc's JSON.
pub(crate) fn missing_sections(item: &Value) -> Vec<&'static str> {
    let docs = item["docs"].as_str().unwrap_or_default();
    let mut sections = required_sections(&item["inner"]);
    sections.retain(|section| !docs.lines().any(|line| line == *section));
    sections
}

fn required_sections(inner: &Value) -> Vec<&'static str> {
    let function = &inner["function"];
    let output = function["sig"]["output"]["resolved_path"]["path"].as_str().unwrap_or_default();
    let is_kind = |kind: &&str| !inner[*kind].is_null();
    let required = [
        (EXAMPLES, KINDS.iter().any(is_kind)),
        (ERRORS, output.rsplit("::").next() == Some("Result")),
        (CANCEL_SAFETY, function["header"]["is_async"] == true),
    ];
    required.into_iter().filter(|(_, is_required)| *is_required).map(|(section, _)| section).collect()
}

/// Lists each item that lacks a section, one per line.
pub(crate) fn report(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items.iter().filter(|item| !item.missing_sections.is_empty()) {
        let _ = writeln!(text, "no `{}`: {}", item.missing_sections.join("`, no `"), item.line);
    }
    text
}

pub(crate) const EXAMPLES: &str = "# Examples";
const ERRORS: &str = "# Errors";
const CANCEL_SAFETY: &str = "# Cancel safety";

/// The kinds of items that need an example.
const KINDS: [&str; 8] = ["struct", "enum", "union", "trait", "function", "constant", "static", "macro"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(docs: &str, is_async: bool, output: &str) -> Value {
        let output = json!({ "resolved_path": { "path": output } });
        let inner = json!({ "header": { "is_async": is_async }, "sig": { "output": output } });
        json!({ "docs": docs, "inner": { "function": inner } })
    }

    #[test]
    fn a_function_needs_a_section_for_each_of_its_properties() {
        let docs = "Does it.\n\n# Examples\n\n```\nf();\n```";
        let missing = |is_async, output| missing_sections(&function(docs, is_async, output));
        assert!(missing(false, "Vec").is_empty());
        assert_eq!(missing(false, "Result"), [ERRORS]);
        assert_eq!(missing(false, "io::Result"), [ERRORS]);
        assert_eq!(missing(true, "Vec"), [CANCEL_SAFETY]);
        assert_eq!(missing(true, "Result"), [ERRORS, CANCEL_SAFETY]);
        let docs = "Does it.\n\n# Errors\n\nNone.\n\n# Cancel safety\n\nFull.";
        assert_eq!(missing_sections(&function(docs, true, "Result")), [EXAMPLES]);
    }

    #[test]
    fn types_need_an_example_and_fields_variants_modules_and_reexports_do_not() {
        let missing = |kind: &str| missing_sections(&json!({ "docs": "It.", "inner": { kind: {} } }));
        for kind in ["struct", "enum", "trait", "constant"] {
            assert_eq!(missing(kind), [EXAMPLES], "{kind}");
        }
        for kind in ["struct_field", "variant", "module", "use", "impl", "assoc_type"] {
            assert!(missing(kind).is_empty(), "{kind}");
        }
    }

    #[test]
    fn the_report_names_each_item_without_a_section() {
        let item = |line: &str, missing_sections| Item { line: line.to_owned(), missing_sections };
        let items = [item("pub fn a()", vec![]), item("pub fn b()", vec![EXAMPLES, ERRORS])];
        assert_eq!(report(&items), "no `# Examples`, no `# Errors`: pub fn b()\n");
    }
}
