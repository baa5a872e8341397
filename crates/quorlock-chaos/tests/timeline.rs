//! The HTML page and its text form for terminals, drawn from a forged run of a minute.

mod forge;

use forge::{BOOT, MS, Story, story};
use quorlock_chaos::checker::{ControlResult, Invariant, check_history};
use quorlock_chaos::history::{Control, Effect, EventKind, FailureReason, NodeView};
use quorlock_chaos::timeline::{html, html_with_controls, text};

/// Pseudo-random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, from: u64, to: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from + self.0 % (to - from)
    }
}

/// Kind, nodes, start and end, effects.
type Planned<'a> = (&'a str, &'a [usize], u64, u64, &'a [Effect]);

/// Eight processes of two tasks on three keys, through a run of faults; no quorum from second 30 to 33.
fn minute() -> Story {
    let mut story = story();
    let mut dice = Dice(0x5eed);
    let faults: [Planned<'_>; 9] = [
        ("kill", &[0], 4_000, 6_500, &[Effect::Down]),
        ("pause", &[3], 8_000, 11_200, &[Effect::Paused]),
        ("cut", &[1, 4], 14_000, 17_500, &[Effect::Unreachable]),
        ("wipe", &[2], 20_000, 21_000, &[Effect::Down, Effect::DataLoss { locks: true, fences: true }]),
        ("slow", &[0, 1], 23_500, 27_000, &[Effect::Slow { ms: 80 }]),
        ("cut", &[0, 1, 2], 30_000, 33_000, &[Effect::Unreachable]),
        ("skew", &[4], 36_000, 44_000, &[Effect::ClockRate { ppm: 100_000 }]),
        ("flush", &[3], 47_000, 47_000, &[Effect::DataLoss { locks: true, fences: true }]),
        ("memory full", &[2], 50_000, 52_500, &[Effect::RejectsWrites]),
    ];
    for (id, (kind, nodes, from, to, effects)) in faults.iter().enumerate() {
        story.fault(id as u64, kind, nodes, *from, *to, effects);
        if matches!(effects[0], Effect::Down | Effect::DataLoss { .. } | Effect::ClockRate { .. }) {
            let until = BOOT + (to + 2_050) * MS;
            story.say(
                1,
                0,
                to + 40,
                EventKind::NodeViewChanged { node: nodes[0], view: NodeView::OnProbation { until } },
            );
            story.say(1, 0, to + 2_060, EventKind::NodeViewChanged { node: nodes[0], view: NodeView::Up });
        }
    }
    let (killed, stopped) = (5, 3);
    for (place, key) in ["orders:42", "stock:7", "report"].into_iter().enumerate() {
        story.key(key);
        let (mut at, mut attempt) = (60 + 13 * place as u64, 1_000 * place as u32);
        while at < 59_000 {
            attempt += 1;
            // No lock is granted without a quorum, nor just after.
            if (29_500..33_400).contains(&at) {
                let (process, task) = (dice.roll(0, 5) as u32, place as u32 % 2);
                story.task(task).waits(process, attempt, at).say(
                    process,
                    attempt,
                    at + 900,
                    EventKind::Failed { reason: FailureReason::NoQuorum },
                );
                at += 950;
                continue;
            }
            let process = dice.roll(0, 8) as u32;
            let process = if process == killed && at > 25_000 { 9 } else { process };
            let (waited, long) = (dice.roll(3, 60), dice.roll(30, 800));
            let from = at + waited;
            story.task(dice.roll(0, 2) as u32).waits(process, attempt, at);
            story.granted(process, attempt, from, from - 2 + 988, Some(1_000_000 + from * 1_000));
            if process == stopped && (11_000..12_500).contains(&at) {
                story.stop(stopped, from + 20, from + 2_400).lost(process, attempt, from + 2_401);
                at = from + 1_020;
            } else if process == killed && at > 22_000 {
                story.kill(killed, from + 20);
                at = from + 1_020;
            } else {
                story.release(process, attempt, from + long);
                at = from + long + dice.roll(2, 30);
            }
        }
    }
    story.task(0);
    story
}

/// The same with two holders at once at 40.1 s, which nothing excuses.
fn broken() -> Story {
    let mut story = minute();
    let held = check_history(&story.history());
    assert!(held.passed(), "{:#?}", held.violations);
    story.key("orders:42").hold(12, 9_999, 40_100, 40_350, Some(41_100_000));
    story.settings.controls = vec![Control { name: "clock jumps".into(), breaks: Invariant::NoStaleWrite }];
    story
}

#[test]
fn the_page_needs_nothing_else_and_shows_what_broke() {
    let history = broken().history();
    let verdict = check_history(&history);
    assert!(!verdict.passed());
    let page = html(&history, &verdict);
    // For visual inspection: the page stays where tests leave their files.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline.html"), &page)
        .expect("a folder for tests");

    assert!(!page.contains("{{"), "a part was not filled in");
    for outside in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!page.contains(outside), "the page asks for {outside}");
    }
    assert!(page.contains("invariants violated") || page.contains("1 invariant violated"));
    assert!(page.contains("both believed that they held it"));
    assert!(page.contains("clock jumps</b> detected nothing"));
    assert!(page.contains(&verdict.replay));
}

#[test]
fn a_good_run_looks_good() {
    let history = minute().history();
    let verdict = check_history(&history);
    let page = html(&history, &verdict);
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-good.html"), &page)
        .expect("a folder for tests");
    assert!(page.contains("Every invariant held</h1>") && page.contains("class=\"good\""), "{page}");
    assert!(page.contains("2026-11-30 12:00:00Z on host h, quorlock 0.1.0"));
    assert!(!page.contains("id=\"violation-0\""));
}

#[test]
fn a_run_without_a_fault_does_not_look_good() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10));
    let history = story.history();
    let verdict = check_history(&history);
    assert!(verdict.passed() && !verdict.tested());
    let page = html(&history, &verdict);
    assert!(page.contains("but no fault tested one") && page.contains("class=\"bad\""));
    assert!(text(&history, &verdict, 80).contains("but no fault tested one"));
}

#[test]
fn the_page_shows_what_each_control_came_to() {
    let history = minute().history();
    let mut verdict = check_history(&history);
    let shown =
        |name: &str, count| ControlResult { name: name.into(), invariant: Invariant::Exclusion, count };
    let mut beside = verdict.clone();
    verdict.controls = vec![shown("here <b>", 3)];
    beside.controls = vec![shown("beside", 2), shown("idle", 0)];
    let page = html_with_controls(&history, &verdict, &[&beside]);
    for words in [
        "here &lt;b&gt; violated “exclusion” 3 times, as it should",
        "beside violated “exclusion” 2 times",
        "idle</b> detected nothing",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn foreign_names_cannot_write_into_the_page() {
    let mut story = story();
    story.key("</script><b onload=\"x\">{{data}}").hold(1, 0, 100, 400, Some(10)).hold(
        2,
        0,
        300,
        500,
        Some(11),
    );
    let history = story.history();
    let page = html(&history, &check_history(&history));
    assert!(!page.contains("</script><b"), "a key's name ended the script");
    assert!(!page.contains("<b onload"), "a key's name became an element");
    assert_eq!(page.matches("id=\"data\"").count(), 1);
}

#[test]
fn the_text_shows_each_lane_and_each_violation() {
    let history = broken().history();
    let verdict = check_history(&history);
    let text = text(&history, &verdict, 120);
    let lane = |name: &str| {
        let found = text.lines().find(|line| line.trim_start().starts_with(name));
        found.unwrap_or_else(|| panic!("no lane {name} in\n{text}"))
    };
    assert!(lane("node 0").contains("xxx"), "{text}");
    assert!(lane("node 1").contains("///"), "{text}");
    assert!(lane("node 3").contains("==="), "{text}");
    assert!(lane("no quorum").contains("###"), "{text}");
    assert!(lane("violations").contains('V'), "{text}");
    assert!(lane("orders:42").contains('#'), "{text}");
    assert!(text.contains("VIOLATION at 40."), "{text}");
}

#[test]
fn the_text_fits_into_its_columns() {
    let history = broken().history();
    let verdict = check_history(&history);
    for columns in [40, 80, 120] {
        let text = text(&history, &verdict, columns);
        assert!(text.contains("VIOLATION at 40."), "{text}");
        let wide = text.lines().find(|line| line.chars().count() > columns && !line.starts_with("replay: "));
        assert_eq!(wide, None, "in {columns} columns:\n{text}");
        let spaces = text.lines().find(|line| line.ends_with(' '));
        assert_eq!(spaces, None, "{text}");
        // This line must stay whole to be copied.
        assert!(text.contains(&format!("\nreplay: {}\n", verdict.replay)), "{text}");
    }
}

#[test]
fn a_fault_that_stops_no_vote_is_drawn_too() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).fault(1, "scripts", &[2], 200, 210, &[]);
    let history = story.history();
    let text = text(&history, &check_history(&history), 80);
    let lane = text.lines().find(|line| line.trim_start().starts_with("node 2")).expect("a lane");
    assert!(lane.contains("-+") && lane.ends_with('-'), "{text}");
}

#[test]
fn processes_are_counted_as_they_were_started_and_replaced() {
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(10)).take(2, 0, 300, Some(11)).kill(2, 400);
    story.hold(3, 0, 1_400, 1_500, Some(12));
    let history = story.history();
    let page = html(&history, &check_history(&history));
    assert!(page.contains("2 client processes (1 more for killed ones)"));
}

#[test]
fn a_history_of_nothing_is_drawn_as_such() {
    let nothing = quorlock_chaos::history::History::default();
    let verdict = check_history(&nothing);
    assert!(html(&nothing, &verdict).contains("1 invariant violated"));
    assert!(text(&nothing, &verdict, 80).contains("1 INVARIANT VIOLATED"));
}

#[test]
fn a_hundred_thousand_events_make_a_page_that_a_phone_can_load() {
    let mut story = story();
    for attempt in 0..25_000_u32 {
        let from = 100 + u64::from(attempt) * 12;
        story.hold(attempt % 8, attempt, from, from + 8, Some(u64::from(attempt) + 1));
    }
    let history = story.history();
    let verdict = check_history(&history);
    assert!(verdict.passed(), "{:#?}", verdict.violations.first());
    let page = html(&history, &verdict);
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-long.html"), &page)
        .expect("a folder for tests");
    assert!(page.len() < 8_000_000, "{} bytes", page.len());
}
