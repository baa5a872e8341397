//! The rules of this repository as tests. Every failure names file, line and rule.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

/// What breaks a rule, one line each.
#[derive(Default)]
struct Findings(String);

impl Findings {
    fn add(&mut self, path: &str, line: usize, what: &str) {
        let _ = write!(self.0, "\n  {path}:{line}: {what}");
    }

    #[track_caller]
    fn check(self) {
        assert!(self.0.is_empty(), "breaks a repository rule:{}", self.0);
    }
}

impl Source {
    /// The numbered lines of code, without comments and without the unit tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(place, line)| (place + 1, line));
        let own = lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        own.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The layer: its folder below `src/`. Empty for the crate root.
    fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split_once('/').map_or("", |(layer, _)| layer))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that git tracks or would add; ignored files, such as build output, are left out.
fn tracked() -> Vec<String> {
    let git = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output();
    match git {
        Ok(output) if output.status.success() => {
            let list = String::from_utf8(output.stdout).expect("paths in UTF-8");
            let mut paths: Vec<String> = list.split_terminator('\0').map(ToOwned::to_owned).collect();
            paths.retain(|path| root().join(path).is_file());
            paths
        }
        // A copy without a git repository, such as an unpacked crate.
        _ => walk(root()),
    }
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder that can be read") {
            let path: PathBuf = entry.expect("an entry that can be read").path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if path.is_file() {
                let inside = path.strip_prefix(root()).expect("below the root");
                found.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// The tracked text files whose path `wanted` accepts.
fn sources(wanted: impl Fn(&str) -> bool) -> Vec<Source> {
    let paths = tracked().into_iter().filter(|path| wanted(path));
    let read = |path: String| Some(Source { text: fs::read_to_string(root().join(&path)).ok()?, path });
    let found: Vec<Source> = paths.filter_map(read).collect();
    assert!(!found.is_empty(), "no file matches: the rule checks nothing; fix its path filter");
    found
}

fn has_extension(path: &str, wanted: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == wanted)
}

fn is_rust(path: &str) -> bool {
    has_extension(path, "rs")
}

/// Whether the line contains this word as a whole identifier.
fn says(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Whether the line contains this lower-case word in prose or as a part of a name: `node`, `no_node`, `NodesLock`.
/// A phrase is also found in a name: `for_ever`.
fn says_in_text(line: &str, word: &str) -> bool {
    line.to_ascii_lowercase().replace('_', " ").match_indices(word).any(|(at, _)| {
        let is_capital = line[at..].starts_with(|char: char| char.is_ascii_uppercase());
        let begins = !line[..at].ends_with(char::is_alphabetic) || is_capital;
        let rest = &line[at + word.len()..];
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        begins && !rest.starts_with(char::is_lowercase)
    })
}

/// A line of Rust or Lua without its comment and without the text of its string literals.
fn without_text(line: &str, comment: &str) -> String {
    let line = line.replace("'\"'", "' '").replace("\\\\", "  ").replace("\\\"", "  ");
    let mut code = String::new();
    for (place, part) in line.split('"').enumerate() {
        if place % 2 == 1 {
            code.push('"');
            continue;
        }
        let (before, is_cut) = part.split_once(comment).map_or((part, false), |(before, _)| (before, true));
        code.push_str(before);
        if is_cut {
            break;
        }
    }
    code
}

fn shipped(path: &str) -> bool {
    let in_a_crate = path.starts_with("crates/") && path.contains("/src/");
    is_rust(path) && (path.starts_with("src/") || in_a_crate)
}

/// The layers named by `crate::…` in this line, one for each mention, `use crate::{a, b}` included.
fn layers_named(line: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for (_, rest) in line.match_indices("crate::").map(|(at, found)| line.split_at(at + found.len())) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                named.extend(list.split(',').map(|item| first_word(item.trim_start())));
            }
            None => named.push(first_word(rest)),
        }
    }
    named.retain(|word| !word.is_empty());
    named
}

fn first_word(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
    &text[..end]
}

/// Each layer, and the layers that it may import from. Imports only go down.
const LAYERS: [(&str, &[&str]); 6] = [
    ("host", &[]),
    ("view", &["host"]),
    ("observe", &["view"]),
    ("node", &["view", "observe", "host"]),
    ("driver", &["view", "observe", "host", "node"]),
    ("lock", &["view", "observe", "host", "node", "driver"]),
];

#[test]
fn imports_only_go_down() {
    let mut findings = Findings::default();
    for source in sources(|path| is_rust(path) && path.starts_with("src/")) {
        let layer = source.layer().unwrap_or_default();
        if layer.is_empty() {
            continue;
        }
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            findings.add(&source.path, 1, &format!("`{layer}` is missing in the table of layers"));
            continue;
        };
        for (number, line) in source.code() {
            for named in layers_named(line) {
                if named != layer && !below.contains(&named) {
                    findings.add(
                        &source.path,
                        number,
                        &format!("`{layer}` may not import from `crate::{named}`"),
                    );
                }
            }
            // Enough `super::` to leave the folder of the layer.
            let depth = source.path.matches('/').count();
            if line.contains(&"super::".repeat(depth)) {
                findings.add(&source.path, number, "`super::` leaves the folder: write `crate::`");
            }
        }
    }
    findings.check();
}

#[test]
fn only_host_reads_clock_and_randomness() {
    let calls = ["Instant::now", "SystemTime::now", "clock_gettime", "rand::", "Uuid::new"];
    // Tokio's timers count in tokio's own clock. Reading that clock is allowed: leases do not count in it.
    let mut findings = Findings::default();
    for source in sources(|path| is_rust(path) && path.starts_with("src/") && !path.starts_with("src/host/"))
    {
        let uses_tokio =
            source.text.contains("tokio::time::{Instant") || source.text.contains("time::{Instant");
        for (number, line) in source.code() {
            for call in calls {
                let is_tokio =
                    call == "Instant::now" && (uses_tokio || line.contains("tokio::time::Instant"));
                if line.contains(call) && !is_tokio {
                    findings.add(
                        &source.path,
                        number,
                        &format!("`{call}` outside `host`: use the clock and the randomness of `host`"),
                    );
                }
            }
        }
    }
    findings.check();
}

#[test]
fn the_crate_root_only_re_exports() {
    let mut findings = Findings::default();
    for source in sources(|path| path == "src/lib.rs") {
        let (mut within_use, mut is_for_doctests) = (false, false);
        for (number, line) in source.code() {
            let line = line.trim();
            let is_module = line.starts_with("mod ") || line.starts_with("pub mod ");
            let begins_use = line.starts_with("pub use ");
            let is_plain = line.is_empty() || line.starts_with("#!") || line.starts_with("#[");
            // The README's examples are attached to an item that only documentation tests see.
            is_for_doctests |= line == "#[cfg(doctest)]";
            if !(is_plain || is_for_doctests || is_module && line.ends_with(';') || begins_use || within_use)
            {
                findings.add(
                    &source.path,
                    number,
                    "the crate root has documentation and re-exports, and no logic",
                );
            }
            within_use = (within_use || begins_use) && !line.ends_with(';');
            is_for_doctests &= !line.ends_with(';');
        }
    }
    findings.check();
}

#[test]
fn every_module_file_re_exports_and_explains_and_no_more() {
    let mut findings = Findings::default();
    for source in sources(|path| path.starts_with("src/") && path.ends_with("/mod.rs")) {
        if !source.text.starts_with("//! ") {
            findings.add(
                &source.path,
                1,
                "a `mod.rs` begins with a sentence that says what the folder is for",
            );
        }
        for (number, line) in source.code() {
            if ["fn ", "struct ", "enum ", "impl ", "trait "].iter().any(|word| line.contains(word)) {
                findings.add(&source.path, number, "logic in a `mod.rs`");
            }
        }
    }
    findings.check();
}

#[test]
fn every_script_says_what_it_does() {
    let mut findings = Findings::default();
    for Source { path, text } in sources(|path| path.starts_with("src/") && has_extension(path, "lua")) {
        let header: String = text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .fold(String::new(), |header, line| header + line + "\n");
        let body = &text[header.len()..];
        if text.starts_with("#!") {
            findings.add(&path, 1, "a shebang, which Redis 6.2 does not know");
        }
        let purpose = header.lines().next().unwrap_or_default();
        if purpose.len() < 20 || !purpose.ends_with('.') {
            findings.add(&path, 1, "the first line is a sentence that says what the script is for");
        }
        for (word, is_needed) in [("KEYS[", true), ("Returns ", true), ("ARGV[", body.contains("ARGV["))] {
            if is_needed && !header.contains(word) {
                findings.add(
                    &path,
                    1,
                    &format!("the header does not say `{}`", word.trim_end_matches(['[', ' '])),
                );
            }
        }
        for place in 1..=9 {
            for table in ["KEYS", "ARGV"] {
                let name = format!("{table}[{place}]");
                if body.contains(&name) != header.contains(&name) {
                    findings.add(
                        &path,
                        1,
                        &format!("`{name}` is used and not explained, or explained and not used"),
                    );
                }
            }
        }
    }
    findings.check();
}

/// A longer file gives the reason in its first lines, with the words "past 400 lines".
#[test]
fn no_file_is_past_400_lines_without_saying_why() {
    let mut findings = Findings::default();
    for Source { path, text } in sources(shipped) {
        let lines = text.lines().count();
        let prose: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if lines > 400 && !prose.contains("past 400 lines") {
            findings.add(
                &path,
                1,
                &format!("{lines} lines: split it, or say on top why it is past 400 lines"),
            );
        }
    }
    findings.check();
}

#[test]
fn every_file_says_on_top_what_it_is() {
    let mut findings = Findings::default();
    for Source { path, text } in sources(shipped) {
        if !text.starts_with("//! ") {
            findings.add(&path, 1, "a file begins with a sentence that says what it is");
        }
    }
    findings.check();
}

#[test]
fn no_leftovers() {
    let leftovers = ["todo!", "unimplemented!", "dbg!", "#[ignore", "FIXME", "XXX"];
    let mut findings = Findings::default();
    for source in sources(|path| is_rust(path) && path != "tests/tidy.rs") {
        for (number, line) in source.text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            for leftover in leftovers {
                let is_macro = !leftover.ends_with('!') || line.contains(&format!("{leftover}("));
                if line.contains(leftover) && is_macro {
                    findings.add(&source.path, number, &format!("`{leftover}` is left"));
                }
            }
        }
    }
    findings.check();
}

/// Documents that name tests and source files; a renamed one must be renamed there too.
#[test]
fn documents_name_files_and_functions_that_exist() {
    let files = tracked();
    let code: String = sources(is_rust).into_iter().map(|source| source.text).collect();
    let is_file = |name: &str| files.iter().any(|path| path == name || path.ends_with(&format!("/{name}")));
    // Three words or more: shorter names are also those of options and fields.
    let is_function = |name: &str| {
        name.matches('_').count() >= 2
            && name.trim_end_matches('…').chars().all(|char| matches!(char, 'a'..='z' | '0'..='9' | '_'))
    };
    let mut findings = Findings::default();
    let is_checked = |path: &str| {
        has_extension(path, "md") && path != "CHANGELOG.md" && !path.starts_with("docs/benchmarks/")
    };
    for Source { path, text } in sources(is_checked) {
        for (number, line) in text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            for name in line.split('`').skip(1).step_by(2) {
                let is_missing = if is_rust(name) && !name.contains(['*', '{', ' ']) {
                    !is_file(name)
                } else {
                    // Documents for users also name functions of other programs.
                    !path.starts_with("docs/")
                        && is_function(name)
                        && match name.strip_suffix('…') {
                            Some(start) => !code.contains(&format!("fn {start}")),
                            None => {
                                !code.contains(&format!("fn {name}("))
                                    && !code.contains(&format!("fn {name}<"))
                            }
                        }
                };
                if is_missing {
                    findings.add(&path, number, &format!("`{name}` does not exist"));
                }
            }
        }
    }
    findings.check();
}

#[test]
fn scripts_can_be_run() {
    let mut findings = Findings::default();
    let is_script = |path: &str| {
        let in_scripts = path.strip_prefix("scripts/").is_some_and(|name| !name.contains(['/', '.']));
        in_scripts || path == ".ci/run"
    };
    for path in tracked().iter().filter(|path| is_script(path)) {
        let file = root().join(path);
        let mode = fs::metadata(&file).expect("a file that is there").permissions().mode();
        if mode & 0o111 == 0 {
            findings.add(path, 1, "no run bit: `chmod +x`");
        }
        if !fs::read_to_string(&file).is_ok_and(|text| text.starts_with("#!")) {
            findings.add(path, 1, "no interpreter named on its first line");
        }
    }
    findings.check();
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // Assembled from parts, so that this file does not match.
    let places = ["work", "root", "tmp/exp", "home"].map(|place| format!("/{place}/"));
    let mut findings = Findings::default();
    for source in sources(|path| path != "Cargo.lock") {
        for (number, line) in source.text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            for place in &places {
                // At the start of a path, and not in the middle of a URL or of another path.
                let begins = |at: usize| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|char| !char.is_alphanumeric() && !"._-}~/".contains(char))
                };
                if line.match_indices(place.as_str()).any(|(at, _)| begins(at)) {
                    findings.add(&source.path, number, &format!("`{place}…` is a path of one machine"));
                }
            }
        }
    }
    findings.check();
}

/// Retired names of types, functions and settings, each with the name that replaced it. Only names without another
/// legitimate use are listed.
const RETIRED_NAMES: [(&str, &str); 38] = [
    ("Ask", "Request"),
    ("BadToken", "ParseFencingTokenError"),
    ("Badge", "ExpectedMarker"),
    ("Bells", "ReadySet"),
    ("Bid", "AttemptEntry"),
    ("Board", "Coordinator"),
    ("Bout", "FaultWindow"),
    ("Charter", "LockClusterConfig"),
    ("Claim", "LockSpec"),
    ("ClockDrifts", "ClockDriftExceeded"),
    ("Complaint", "ErrorReply"),
    ("Courtesy", "YieldPolicy"),
    ("Declaring", "PendingInit"),
    ("Desk", "PendingCalls"),
    ("Doubt", "ProbationReason"),
    ("Happening", "LinkEvent"),
    ("InLine", "QueueWait"),
    ("Moment", "LeaseDeadline"),
    ("NodeBarred", "NodeExcluded"),
    ("NodeReport", "NodeReplies"),
    ("Oddity", "ClockAnomaly"),
    ("Packer", "RequestEncoder"),
    ("Porch", "ReadyState"),
    ("Resting", "BackingOff"),
    ("Rung", "ReadySources"),
    ("Sighting", "KeyState"),
    ("Tenure", "RenewalPolicy"),
    ("Undo", "PendingRelease"),
    ("ask_no_more", "stop_renewing"),
    ("break_lock", "force_release"),
    ("how_safe", "safety"),
    ("keep_fences", "fencing_retention"),
    ("longest_ttl", "max_ttl"),
    ("look_only", "read_only"),
    ("outlives_grants", "extended_past_grants"),
    ("patience", "attempt_timeout"),
    ("perhaps_done", "possibly_applied"),
    ("startup_timeout", "connect_timeout"),
];

/// Words and phrases that stand for an unnamed subject, or that are no modern technical English. A phrase is found
/// within one line.
const RETIRED_WORDS: [(&str, &str); 12] = [
    ("whoever", "the client, process, task, holder or waiter that"),
    ("nobody", "no client, no process, no holder, no node"),
    ("somebody", "another client, a process, an operator"),
    ("somewhen", "at some time, later"),
    ("anew", "again"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("for ever", "forever"),
    ("time-out", "timeout"),
    ("start-up", "startup"),
    ("to be had", "available, free"),
    ("told", "notified, informed, said"),
];

#[test]
fn no_retired_name_is_used_in_code() {
    let mut findings = Findings::default();
    let is_code = |path: &str| is_rust(path) || has_extension(path, "lua");
    for source in sources(|path| is_code(path) && path != "tests/tidy.rs") {
        let comment = if is_rust(&source.path) { "//" } else { "--" };
        for (number, line) in source.text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            let code = without_text(line, comment);
            for (name, replacement) in RETIRED_NAMES {
                if says(&code, name) {
                    findings.add(&source.path, number, &format!("`{name}` is retired: use {replacement}"));
                }
            }
        }
    }
    findings.check();
}

#[test]
fn no_retired_word_is_written() {
    let mut findings = Findings::default();
    let is_exempt = |path: &str| path == "tests/tidy.rs" || has_extension(path, "lock");
    for source in sources(|path| !is_exempt(path)) {
        for (number, line) in source.text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            for (word, replacement) in RETIRED_WORDS {
                if says_in_text(line, word) {
                    findings.add(&source.path, number, &format!("\"{word}\": write {replacement}"));
                }
            }
        }
    }
    findings.check();
}
