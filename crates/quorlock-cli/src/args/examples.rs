//! Tests that every example command of the help texts, the README and the documents parses.

use super::*;

/// The `quorlock` commands in a text: lines that begin with one, and commands in their quoted arguments.
fn commands_in(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("quorlock "));
    let mut all = Vec::new();
    for line in lines {
        for words in split_args(line).split(|word| ["&&", "|", ";"].contains(&word.as_str())) {
            all.extend(words.iter().flat_map(|word| commands_in(word)));
            all.push(words.to_vec());
        }
    }
    all.retain(|words| words.first().is_some_and(|word| word == "quorlock"));
    all
}

/// Splits a line as a shell does: at blanks, with single quotes, up to a comment.
fn split_args(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (place, part) in line.split('\'').enumerate() {
        let last = words.len() - 1;
        if place % 2 == 1 {
            words[last] += part;
            continue;
        }
        let mut parts = part.split(' ');
        words[last] += parts.next().unwrap_or_default();
        words.extend(parts.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    let comment = words.iter().position(|word| word == "#").unwrap_or(words.len());
    words.truncate(comment);
    words
}

#[track_caller]
fn check(text: &str, least: usize) {
    let commands = commands_in(text);
    assert!(commands.len() >= least, "{} examples are found: {commands:?}", commands.len());
    for words in commands {
        let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
        match Args::read(&typed, false) {
            Ok(_) | Err(Stopped::Help(_)) => {}
            Err(Stopped::Failed(failure)) => panic!("{words:?}: {}", failure.message),
        }
    }
}

#[test]
fn every_example_of_every_help_text_parses() {
    use clap::CommandFactory as _;
    let parser = Args::command();
    check(&parser.get_after_help().expect("examples").to_string(), 5);
    for command in parser.get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.get_after_help().expect("examples").to_string();
        let least = help.split_once("Example").map_or(0, |(_, examples)| examples.lines().count() - 1);
        check(&help, least);
    }
}

#[test]
fn every_example_of_the_readme_and_the_documents_parses() {
    let documents = [
        (include_str!("../../../../README.md"), 6),
        (include_str!("../../../../docs/cli.md"), 7),
        (include_str!("../../../../docs/servers.md"), 4),
    ];
    for (document, least) in documents {
        let fenced: Vec<&str> = document.split("```").skip(1).step_by(2).collect();
        check(&fenced.join("\n"), least);
    }
}

#[test]
fn every_example_of_the_package_readme_parses() {
    check(include_str!("../../README.md"), 3);
}

#[test]
fn arguments_are_split_as_in_a_shell() {
    let words = split_args("quorlock dev -- sh -c 'quorlock run a -- echo b' --x='#1'  # quorlock run");
    assert_eq!(words, ["quorlock", "dev", "--", "sh", "-c", "quorlock run a -- echo b", "--x=#1"]);
}
