//! Tests that every example command of the help texts, the README and the documents parses.

use super::*;

/// The `quorlock` commands in a text: lines that begin with one, and commands in their quoted arguments.
fn commands_in(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("quorlock "));
    let mut all = Vec::new();
    for line in lines {
        for args in split_args(line).split(|arg| ["&&", "|", ";"].contains(&arg.as_str())) {
            all.extend(args.iter().flat_map(|arg| commands_in(arg)));
            all.push(args.to_vec());
        }
    }
    all.retain(|args| args.first().is_some_and(|arg| arg == "quorlock"));
    all
}

/// Splits a line as a shell does: at blanks, with single quotes, up to a comment.
fn split_args(line: &str) -> Vec<String> {
    let mut args = vec![String::new()];
    for (index, part) in line.split('\'').enumerate() {
        let last = args.len() - 1;
        if index % 2 == 1 {
            args[last] += part;
            continue;
        }
        let mut parts = part.split(' ');
        args[last] += parts.next().unwrap_or_default();
        args.extend(parts.map(str::to_owned));
    }
    args.retain(|arg| !arg.is_empty());
    let comment = args.iter().position(|arg| arg == "#").unwrap_or(args.len());
    args.truncate(comment);
    args
}

#[track_caller]
fn check(text: &str, least: usize) {
    let commands = commands_in(text);
    assert!(commands.len() >= least, "{} examples are found: {commands:?}", commands.len());
    for args in commands {
        let typed: Vec<OsString> = args.iter().map(OsString::from).collect();
        match Args::read(&typed, false) {
            Ok(_) | Err(Stopped::Help(_)) => {}
            Err(Stopped::Failed(failure)) => panic!("{args:?}: {}", failure.message),
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
    let args = split_args("quorlock dev -- sh -c 'quorlock run a -- echo b' --x='#1'  # quorlock run");
    assert_eq!(args, ["quorlock", "dev", "--", "sh", "-c", "quorlock run a -- echo b", "--x=#1"]);
}
