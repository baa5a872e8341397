//! Lists the public API of the library `quorlock`, one item per line, and compares it with the checked-in
//! list. Also checks that the doc comment of each item has the sections that it needs.

mod doc_sections;
mod public_items;

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use public_items::{Docs, Item, public_items};

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match run() {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (docs, list, write) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [docs, list] => (Path::new(docs), Path::new(list), false),
        [docs, list, "--write"] => (Path::new(docs), Path::new(list), true),
        _ => return Err("usage: release-checks FOLDER_OF_JSON LIST [--write]".into()),
    };

    let library = Docs::read(&docs.join("quorlock.json"))?;
    let core = Docs::read(&docs.join("quorlock_proto.json"))?;
    let header = header(library.format);
    if !write {
        let listed =
            fs::read_to_string(list).map_err(|error| format!("{}: {error}; {REWRITE}", list.display()))?;
        if let Some(message) = format_mismatch(&listed, &header) {
            // A developer may use any toolchain. Continuous integration uses a fixed one, so there a mismatch
            // is an error.
            return if env::var_os("CI").is_some() { Err(message.into()) } else { Ok(message) };
        }
        let items = public_items(&library, &core)?;
        let differences = differences(&listed, &items);
        if !differences.is_empty() {
            let list = list.display();
            return Err(format!("public API: differs from {list}; {REWRITE}\n\n{differences}").into());
        }
        let sections = doc_sections::report(&items);
        if !sections.is_empty() {
            return Err(format!("public API: doc comments lack sections; add them\n\n{sections}").into());
        }
        return Ok(format!("public API: {} items, as listed in {}", items.len(), list.display()));
    }
    let items = public_items(&library, &core)?;
    fs::write(list, format!("{header}\n{}\n", lines(&items).join("\n")))?;
    Ok(format!("public API: {} items written to {}", items.len(), list.display()))
}

fn header(format: u64) -> String {
    format!(
        "# Public API of quorlock with all features. Written by `scripts/api --write` from rustdoc's format {format}."
    )
}

/// A message, if the list is from another format of rustdoc, which may show the same API differently.
fn format_mismatch(listed: &str, header: &str) -> Option<String> {
    let written = listed.lines().next().unwrap_or_default();
    let format = |line: &str| line.trim_end_matches('.').rsplit(' ').next().unwrap_or_default().to_owned();
    (written != header).then(|| {
        let (current, listed) = (format(header), format(written));
        format!("public API: not compared: this rustdoc writes format {current}, the list is from {listed}; {CHANGE_TOOLCHAIN}")
    })
}

/// The lines that are in only one of the two lists, in the form of a diff.
fn differences(listed: &str, items: &[Item]) -> String {
    let listed: Vec<&str> = listed.lines().skip(1).collect();
    let current = lines(items);
    // A line may occur more than once, so each is matched with one line of the other list.
    let mut unmatched = current.clone();
    let mut text = String::new();
    for line in &listed {
        match unmatched.iter().position(|candidate| candidate == line) {
            Some(index) => {
                unmatched.remove(index);
            }
            None => {
                let _ = writeln!(text, "- {line}");
            }
        }
    }
    for line in unmatched {
        let _ = writeln!(text, "+ {line}");
    }
    if text.is_empty() && listed != current {
        text.push_str("the order of the lines differs\n");
    }
    text
}

fn lines(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.line.as_str()).collect()
}

const REWRITE: &str = "write it with `scripts/api --write`, and commit it with the change";
const CHANGE_TOOLCHAIN: &str =
    "use the release of Rust that wrote it (RUSTUP_TOOLCHAIN), or write it again with `scripts/api --write`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_line_by_line() {
        let items = ["pub fn a()", "pub fn c()"]
            .map(|line| Item { line: line.to_owned(), missing_sections: Vec::new() });
        assert_eq!(differences("# header\npub fn a()\npub fn b()\n", &items), "- pub fn b()\n+ pub fn c()\n");
        assert_eq!(differences("# header\npub fn a()\npub fn c()\n", &items), "");
        assert_eq!(differences("# header\npub fn a()\npub fn a()\npub fn c()\n", &items), "- pub fn a()\n");
        assert_eq!(
            differences("# header\npub fn c()\npub fn a()\n", &items),
            "the order of the lines differs\n"
        );
    }

    #[test]
    fn lists_of_another_format_are_not_compared() {
        assert_eq!(format_mismatch(&header(57), &header(57)), None);
        let message = format_mismatch(&header(57), &header(61)).expect("a message");
        assert!(message.contains("writes format 61, the list is from 57"), "{message}");
    }
}
