//! `run` on a terminal: the command may read it, and afterwards the terminal returns to its previous group.

use crate::programs::{EDITOR, READ_REPLY, is_installed};
use crate::terminal::{PROMPT, Terminal};
use crate::world::World;

#[test]
fn the_command_may_read_the_terminal_and_the_shell_has_it_afterwards() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(&format!("quorlock run {options} a -- bash prompt"));
        terminal.wait_for("Really? ");
        terminal.type_line("yes");
        terminal.wait_for("read: yes");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4);
        assert_eq!(world.key_count("a"), 0);
    }
}

#[test]
fn a_script_that_reads_on_has_the_terminal_after_the_command() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    let script = "quorlock run a -- bash prompt; echo \"code=$?\"; read next; echo \"next: $next\"";
    let mut terminal = Terminal::script(&world, "sh", script);
    terminal.wait_for("Really? ");
    terminal.type_line("yes");
    terminal.wait_for("read: yes");
    terminal.wait_for("code=4");
    terminal.type_line("more");
    terminal.wait_for("next: more");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
}

#[test]
fn quorlock_alone_on_a_terminal_lets_its_command_read() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    let mut terminal = Terminal::quorlock(&world, &["run", "a", "--", "bash", "prompt"]);
    terminal.wait_for("Really? ");
    terminal.type_line("yes");
    terminal.wait_for("read: yes");
    assert_eq!(terminal.wait_for_end().code(), Some(4));
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn output_is_shown_also_where_only_the_foreground_may_write() {
    let world = World::of(3);
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line("stty tostop");
        terminal.wait_for(PROMPT);
        for input in ["", "</dev/null"] {
            terminal
                .type_line(&format!("quorlock run {options} a -- sh -c 'echo hello-$((40 + 2))' {input}"));
            terminal.wait_for("hello-42");
            terminal.wait_for(PROMPT);
            assert_eq!(terminal.last_exit_code(), 0);
        }
    }
}

#[test]
fn an_editor_works_and_leaves_the_terminal_as_it_was() {
    let world = World::of(3);
    world.write("editor", EDITOR);
    let script =
        "stty -g > before; quorlock run a -- python3 editor; echo \"code=$?\"; stty -g > after; read go";
    let mut terminal = Terminal::script(&world, "sh", script);
    terminal.wait_for("editing");
    assert!(!terminal.is_sane(), "the editor did not set raw mode");
    terminal.type_keys("q");
    terminal.wait_for("code=0");
    assert!(terminal.is_sane());
    terminal.type_line("");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
    assert_eq!(world.read("before"), world.read("after"));
}

#[test]
fn vim_works() {
    if !is_installed("vim") {
        return;
    }
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("quorlock run a -- vim -u NONE -N");
    terminal.wait_for("~");
    terminal.type_keys("isome text\x1b:wq written\n");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 0);
    assert_eq!(world.read("written"), "some text\n");
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn a_pager_at_the_end_of_a_pipeline_reads_keys() {
    let world = World::of(3);
    world.write("pager", EDITOR);
    let line = "seq 1000 | quorlock run a -- python3 pager";
    let mut terminal = Terminal::bash(&world);
    terminal.type_line(line);
    terminal.wait_for("lines: 1000");
    terminal.wait_for("editing");
    terminal.type_keys("q");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 0);
    if is_installed("less") {
        terminal.type_line("seq 1000 | quorlock run a -- less");
        terminal.wait_for("\n20");
        terminal.type_keys("q");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 0);
    }
    // Without job control, the whole pipeline is in the script's group.
    let mut terminal = Terminal::script(&world, "sh", &format!("{line}; read next; echo \"next: $next\""));
    terminal.wait_for("editing");
    terminal.type_keys("q");
    terminal.wait_for("\x1b[?1049l");
    terminal.type_line("more");
    terminal.wait_for("next: more");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
}

#[test]
fn the_reader_at_the_other_end_of_a_pipeline_keeps_the_terminal() {
    let world = World::of(3);
    world.write("writer", "seq 3; while [ ! -e enough ]; do sleep 0.02; done");
    world.write("reader", "head -n 3; read a </dev/tty; echo \"tty: $a\"; touch enough");
    let line = "quorlock run a -- sh writer | sh reader";
    let mut terminal = Terminal::bash(&world);
    terminal.type_line(line);
    terminal.wait_for("\n3");
    terminal.type_line("mine");
    terminal.wait_for("tty: mine");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 0);
    std::fs::remove_file(world.file("enough")).expect("a file");
    let mut terminal = Terminal::script(&world, "sh", line);
    terminal.wait_for("\n3");
    terminal.type_line("mine");
    terminal.wait_for("tty: mine");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
}

#[test]
fn modes_that_the_command_sets_stay() {
    let world = World::of(3);
    let mut terminal =
        Terminal::script(&world, "sh", "quorlock run a -- stty -echo; echo \"code=$?\"; read go");
    terminal.wait_for("code=0");
    assert!(!terminal.echoes());
}
