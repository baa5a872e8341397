//! Lists the public API of the library `quorlock`, one item per line, and compares it with the checked-in
//! list.
//!
//! The input is the JSON that rustdoc writes. Types that `quorlock` re-exports from `quorlock-proto` are
//! listed with all their items, under the names in `quorlock`. So a path that begins with `quorlock_proto` in
//! the list is a type that a user meets and cannot name.
//!
//! Methods of trait implementations are left out, because the trait determines them. Auto traits and blanket
//! implementations are left out, because they differ between releases of Rust.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use public_api::Builder;
use serde_json::Value;

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
        return if differences.is_empty() {
            Ok(format!("public API: {} items, as listed in {}", items.len(), list.display()))
        } else {
            Err(format!("public API: differs from {}; {REWRITE}\n\n{differences}", list.display()).into())
        };
    }
    let items = public_items(&library, &core)?;
    fs::write(list, format!("{header}\n{}\n", items.join("\n")))?;
    Ok(format!("public API: {} items written to {}", items.len(), list.display()))
}

/// The JSON of rustdoc for one crate.
struct Docs {
    format: u64,
    reexports: Vec<Reexport>,
    /// The public items, one per line, in the order of their paths.
    items: Result<Vec<String>, public_api::Error>,
}

struct Reexport {
    name: String,
    /// The path in the `use` statement.
    source: String,
    /// The path of the definition, which may lead through private modules. Signatures show this one.
    definition: String,
}

impl Docs {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let json: Value = serde_json::from_str(&text)?;
        let format = json["format_version"].as_u64().ok_or("the JSON of rustdoc has no format_version")?;
        let uses = json["index"].as_object().into_iter().flatten().map(|(_, item)| &item["inner"]["use"]);
        let reexports = uses.filter_map(|item| {
            let definition = json["paths"][item["id"].to_string()]["path"].as_array().into_iter().flatten();
            Some(Reexport {
                name: item["name"].as_str()?.to_owned(),
                source: item["source"].as_str()?.to_owned(),
                definition: definition.filter_map(Value::as_str).collect::<Vec<_>>().join("::"),
            })
        });
        let reexports = reexports.collect();
        let items =
            Builder::from_rustdoc_json(path).omit_blanket_impls(true).omit_auto_trait_impls(true).build();
        let items = items.map(|api| api.items().map(ToString::to_string).collect());
        Ok(Self { format, reexports, items })
    }

    fn items(&self) -> Result<&[String], Failure> {
        self.items.as_deref().map_err(|error| {
            let format = self.format;
            format!(
                "the public API cannot be read from rustdoc's format {format}: {error}; {CHANGE_TOOLCHAIN}"
            )
            .into()
        })
    }
}

/// The items of `library`, with each re-export from `core` replaced by the items of the re-exported type.
fn public_items(library: &Docs, core: &Docs) -> Result<Vec<String>, Failure> {
    let mut public = Vec::new();
    let mut names = Vec::new();
    for item in library.items()? {
        let reexported = item.strip_prefix("pub use ").and_then(|path| {
            let name = path.rsplit("::").next();
            let from_core = |each: &&Reexport| each.source.starts_with("quorlock_proto::");
            let all = library.reexports.iter().filter(from_core);
            Some((path, all.into_iter().find(|each| Some(each.name.as_str()) == name)?))
        });
        let Some((path, Reexport { source, definition, .. })) = reexported else {
            public.push(item.clone());
            continue;
        };
        let before = public.len();
        public.extend(core.items()?.iter().filter(|item| belongs_to(item, source)).cloned());
        if public.len() == before {
            return Err(
                format!("`{path}` is re-exported from `{source}`, where quorlock-proto has no item").into()
            );
        }
        names.extend([(source, path), (definition, path)]);
    }
    // Generated by the compiler for a derived `PartialEq`.
    public.retain(|item| !item.starts_with("impl core::marker::StructuralPartialEq for "));
    let mut public = without_trait_methods(public);
    for item in &mut public {
        for (source, name) in &names {
            *item = replace_path(item, source, name);
        }
    }
    Ok(public)
}

/// Whether the line `item` declares `path`, something inside it, or an implementation for it.
fn belongs_to(item: &str, path: &str) -> bool {
    let subject = match implementation(item) {
        Some((_, subject)) => subject,
        None => item.find("quorlock_proto::").map_or("", |at| &item[at..]),
    };
    subject.strip_prefix(path).is_some_and(|rest| !rest.starts_with(is_in_name))
}

/// For an `impl` line: whether it implements a trait, and the type it is for.
fn implementation(item: &str) -> Option<(bool, &str)> {
    let rest = item.strip_prefix("impl")?;
    match rest.rsplit_once(" for ") {
        Some((_, subject)) => Some((true, subject)),
        None => Some((false, rest.find("quorlock").map_or("", |at| &rest[at..]))),
    }
}

fn without_trait_methods(items: Vec<String>) -> Vec<String> {
    let mut implemented = None;
    let mut kept = Vec::new();
    for item in items {
        if let Some((is_of_trait, subject)) = implementation(&item) {
            let path = subject.split('<').next().unwrap_or(subject);
            implemented = is_of_trait.then(|| format!("fn {path}::"));
        } else if implemented.as_ref().is_some_and(|method| item.contains(method)) {
            continue;
        }
        kept.push(item);
    }
    kept
}

/// Replaces each whole path `from` in `item` by `to`.
fn replace_path(item: &str, from: &str, to: &str) -> String {
    let mut replaced = String::new();
    let mut rest = item;
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let is_whole = !after.starts_with(is_in_name) && !before.ends_with(is_in_name);
        replaced += before;
        replaced += if is_whole { to } else { from };
        rest = after;
    }
    replaced + rest
}

fn is_in_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
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
fn differences(listed: &str, items: &[String]) -> String {
    let listed: Vec<&str> = listed.lines().skip(1).collect();
    let mut text = String::new();
    for line in listed.iter().filter(|line| !items.iter().any(|item| item == *line)) {
        let _ = writeln!(text, "- {line}");
    }
    for item in items.iter().filter(|item| !listed.contains(&item.as_str())) {
        let _ = writeln!(text, "+ {item}");
    }
    if text.is_empty() && listed.iter().ne(items) {
        text.push_str("the order of the lines differs\n");
    }
    text
}

const REWRITE: &str = "write it with `scripts/api --write`, and commit it with the change";
const CHANGE_TOOLCHAIN: &str =
    "use the release of Rust that wrote it (RUSTUP_TOOLCHAIN), or write it again with `scripts/api --write`";

#[cfg(test)]
mod tests {
    use super::*;

    fn docs(items: &[&str], reexports: &[[&str; 3]]) -> Docs {
        let reexports = reexports.iter().map(|[name, source, definition]| Reexport {
            name: (*name).to_owned(),
            source: (*source).to_owned(),
            definition: (*definition).to_owned(),
        });
        Docs {
            format: 57,
            reexports: reexports.collect(),
            items: Ok(items.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_core_type_is_listed_under_its_name_in_the_library() {
        let library = docs(
            &[
                "pub use quorlock::Vote",
                "pub fn quorlock::last(&quorlock_proto::vote::inner::Vote) -> quorlock_proto::Votes",
            ],
            &[["Vote", "quorlock_proto::vote::Vote", "quorlock_proto::vote::inner::Vote"]],
        );
        let core = docs(
            &[
                "#[non_exhaustive] pub enum quorlock_proto::vote::Vote",
                "pub quorlock_proto::vote::Vote::Granted",
                "impl quorlock_proto::vote::Vote",
                "pub const fn quorlock_proto::vote::Vote::is_granted(&self) -> bool",
                "impl core::fmt::Display for quorlock_proto::vote::Vote",
                "pub fn quorlock_proto::vote::Vote::fmt(&self) -> core::fmt::Result",
                "pub struct quorlock_proto::vote::VoteCount",
                "pub fn quorlock_proto::vote::count(quorlock_proto::vote::Vote)",
            ],
            &[],
        );
        let items = public_items(&library, &core).expect("a list");
        assert_eq!(
            items,
            [
                "#[non_exhaustive] pub enum quorlock::Vote",
                "pub quorlock::Vote::Granted",
                "impl quorlock::Vote",
                "pub const fn quorlock::Vote::is_granted(&self) -> bool",
                "impl core::fmt::Display for quorlock::Vote",
                "pub fn quorlock::last(&quorlock::Vote) -> quorlock_proto::Votes",
            ]
        );
    }

    #[test]
    fn a_reexport_without_an_item_is_an_error() {
        let library = docs(&["pub use quorlock::Vote"], &[["Vote", "quorlock_proto::vote::Vote", ""]]);
        assert!(public_items(&library, &docs(&[], &[])).is_err());
    }

    #[test]
    fn differences_are_shown_line_by_line() {
        let items = ["pub fn a()".to_owned(), "pub fn c()".to_owned()];
        assert_eq!(differences("# header\npub fn a()\npub fn b()\n", &items), "- pub fn b()\n+ pub fn c()\n");
        assert_eq!(differences("# header\npub fn a()\npub fn c()\n", &items), "");
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
