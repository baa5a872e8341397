//! `run` on a terminal: its command may ask, and the terminal goes back to who had it.

use crate::terminal::{PROMPT, Terminal};
use crate::world::World;

/// Asks a question, and says what it was told.
const ASK: &str = "read -p 'Really? ' answer; echo \"told: $answer\"; exit 4";

#[test]
fn the_command_may_ask_a_question_and_the_shell_has_the_terminal_after_it() {
    let world = World::of(3);
    world.write("ask", ASK);
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.line(&format!("quorlock run {options} a -- bash ask"));
        terminal.until("Really? ");
        terminal.line("yes");
        terminal.until("told: yes");
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 4);
        assert_eq!(world.keys("a"), 0);
    }
}

#[test]
fn a_script_that_reads_on_has_the_terminal_after_the_command() {
    let world = World::of(3);
    world.write("ask", ASK);
    let script = "quorlock run a -- bash ask; echo \"code=$?\"; read next; echo \"next: $next\"";
    let mut terminal = Terminal::script(&world, "sh", script);
    terminal.until("Really? ");
    terminal.line("yes");
    terminal.until("told: yes");
    terminal.until("code=4");
    terminal.line("more");
    terminal.until("next: more");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn quorlock_alone_on_a_terminal_lets_its_command_read() {
    let world = World::of(3);
    world.write("ask", ASK);
    let mut terminal = Terminal::quorlock(&world, &["run", "a", "--", "bash", "ask"]);
    terminal.until("Really? ");
    terminal.line("yes");
    terminal.until("told: yes");
    assert_eq!(terminal.end().code(), Some(4));
    assert_eq!(world.keys("a"), 0);
}
