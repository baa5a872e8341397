//! Tests the HTML page and the text chart with a synthetic run of a minute.

mod history_builder;

use history_builder::{BOOT, HistoryBuilder, MS, builder};
use quorlock_chaos::checker::{ControlResult, ExcusedViolation, Invariant, check_history};
use quorlock_chaos::history::{Effect, EventKind, FailureReason, NegativeControl, NodeView};
use quorlock_chaos::timeline::{html, html_with_controls, text};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Kind, nodes, start, end, effects.
type Planned<'a> = (&'a str, &'a [usize], u64, u64, &'a [Effect]);

/// Eight processes with two tasks each on three keys, with nine faults. There is no quorum from 30 s to 33 s.
fn run_of_a_minute() -> HistoryBuilder {
    let mut builder = builder();
    let mut rng = SplitMix64::seed_from_u64(0x5eed);
    let mut between = |from: u64, to: u64| from + rng.next_u64() % (to - from);
    let faults: [Planned<'_>; 9] = [
        ("kill", &[0], 4_000, 6_500, &[Effect::Down]),
        ("pause", &[3], 8_000, 11_200, &[Effect::Paused]),
        ("partition", &[1, 4], 14_000, 17_500, &[Effect::Unreachable]),
        ("wipe", &[2], 20_000, 21_000, &[Effect::Down, Effect::DataLoss { locks: true, fences: true }]),
        ("slow", &[0, 1], 23_500, 27_000, &[Effect::Slow { ms: 80 }]),
        ("partition", &[0, 1, 2], 30_000, 33_000, &[Effect::Unreachable]),
        ("skew", &[4], 36_000, 44_000, &[Effect::ClockRate { ppm: 100_000 }]),
        ("flush", &[3], 47_000, 47_000, &[Effect::DataLoss { locks: true, fences: true }]),
        ("memory full", &[2], 50_000, 52_500, &[Effect::RejectsWrites]),
    ];
    for (id, (kind, nodes, from, to, effects)) in faults.iter().enumerate() {
        builder.fault(id as u64, kind, nodes, *from, *to, effects);
        if matches!(effects[0], Effect::Down | Effect::DataLoss { .. } | Effect::ClockRate { .. }) {
            let until = BOOT + (to + 2_050) * MS;
            builder.client_event(
                1,
                0,
                to + 40,
                EventKind::NodeViewChanged { node: nodes[0], view: NodeView::OnProbation { until } },
            );
            builder.client_event(
                1,
                0,
                to + 2_060,
                EventKind::NodeViewChanged { node: nodes[0], view: NodeView::Up },
            );
        }
    }
    let (killed, stopped) = (5, 3);
    for (index, key) in ["orders:42", "stock:7", "report"].into_iter().enumerate() {
        builder.key(key);
        let (mut at, mut attempt) = (60 + 13 * index as u64, 1_000 * index as u32);
        while at < 59_000 {
            attempt += 1;
            // No lock is granted without a quorum, nor in the 0.4 s after that.
            if (29_500..33_400).contains(&at) {
                let (process, task) = (between(0, 5) as u32, index as u32 % 2);
                builder.task(task).waiting(process, attempt, at).client_event(
                    process,
                    attempt,
                    at + 900,
                    EventKind::Failed { reason: FailureReason::NoQuorum },
                );
                at += 950;
                continue;
            }
            let process = between(0, 8) as u32;
            let process = if process == killed && at > 25_000 { 9 } else { process };
            let (waited, long) = (between(3, 60), between(30, 800));
            let from = at + waited;
            builder.task(between(0, 2) as u32).waiting(process, attempt, at);
            builder.granted(process, attempt, from, from - 2 + 988, Some(1_000_000 + from * 1_000));
            if process == stopped && (11_000..12_500).contains(&at) {
                builder.stop(stopped, from + 20, from + 2_400).lost(process, attempt, from + 2_401);
                at = from + 1_020;
            } else if process == killed && at > 22_000 {
                builder.kill(killed, from + 20);
                at = from + 1_020;
            } else {
                builder.release(process, attempt, from + long);
                at = from + long + between(2, 30);
            }
        }
    }
    builder.task(0);
    builder
}

/// [`run_of_a_minute`] with two holders at once at 40.1 s, which no exemption covers.
fn run_with_violation() -> HistoryBuilder {
    let mut builder = run_of_a_minute();
    let held = check_history(&builder.build());
    assert!(held.passed(), "{:#?}", held.violations);
    builder.key("orders:42").hold(12, 9_999, 40_100, 40_350, Some(41_100_000));
    builder.settings.controls =
        vec![NegativeControl { name: "clock jumps".into(), breaks: Invariant::NoStaleWrite }];
    builder
}

#[test]
fn the_page_is_self_contained_and_shows_violations() {
    let history = run_with_violation().build();
    let verdict = check_history(&history);
    assert!(!verdict.passed());
    let page = html(&history, &verdict);
    // For visual inspection, the page is kept in the temp folder of the tests.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline.html"), &page)
        .expect("a folder for tests");

    assert!(!page.contains("{{"), "a field was not filled in");
    for outside in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!page.contains(outside), "the page loads {outside}");
    }
    assert!(page.contains("invariants violated") || page.contains("1 invariant violated"));
    assert!(page.contains("icon-bad") && !page.contains("icon-good"), "the icon of the verdict");
    assert!(page.contains("both believed that they held it"));
    assert!(page.contains("clock jumps</b> detected nothing"));
    assert!(page.contains(&verdict.replay));
}

#[test]
fn a_run_without_violations_is_shown_as_good() {
    let history = run_of_a_minute().build();
    let verdict = check_history(&history);
    let page = html(&history, &verdict);
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-good.html"), &page)
        .expect("a folder for tests");
    assert!(page.contains("Every invariant held</h1>") && page.contains("class=\"good\""), "{page}");
    assert!(page.contains("icon-good") && !page.contains("icon-bad"), "the icon of the verdict");
    assert!(page.contains("2026-11-30 12:00:00Z on host h, quorlock 0.1.0"));
    assert!(!page.contains("id=\"violation-0\""));
}

#[test]
fn a_run_without_a_fault_is_not_shown_as_good() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10));
    let history = builder.build();
    let verdict = check_history(&history);
    assert!(verdict.passed() && !verdict.tested());
    let page = html(&history, &verdict);
    assert!(page.contains("but no fault tested one") && page.contains("class=\"bad\""));
    assert!(text(&history, &verdict, 80).contains("but no fault tested one"));
}

#[test]
fn the_page_shows_excused_violations_and_the_result_of_each_negative_control() {
    let history = run_of_a_minute().build();
    let mut verdict = check_history(&history);
    let result =
        |name: &str, count| ControlResult { name: name.into(), invariant: Invariant::MutualExclusion, count };
    let mut control_verdict = verdict.clone();
    verdict.controls = vec![result("main <b>", 3)];
    verdict.expected = vec![ExcusedViolation {
        invariant: Invariant::NumbersUnique,
        count: 2,
        excuse: "four of five <nodes>".into(),
        at: BOOT + 1_500 * MS,
        events: Vec::new(),
    }];
    control_verdict.controls = vec![result("extra", 2), result("idle", 0)];
    let page = html_with_controls(&history, &verdict, &[&control_verdict]);
    for text in [
        "main &#60;b&#62; violated “mutual exclusion” 3 times, as it should",
        "1.500 s</button> <b>numbers unique</b>, 2 times: four of five &#60;nodes&#62;</li>",
        "extra violated “mutual exclusion” 2 times",
        "idle</b> detected nothing",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn names_of_keys_are_escaped_in_the_page() {
    let mut builder = builder();
    builder.key("</script><b onload=\"x\">{{data}}").hold(1, 0, 100, 400, Some(10)).hold(
        2,
        0,
        300,
        500,
        Some(11),
    );
    let history = builder.build();
    let page = html(&history, &check_history(&history));
    assert!(!page.contains("</script><b"), "a key's name ended the script");
    assert!(!page.contains("<b onload"), "a key's name became an element");
    assert_eq!(page.matches("id=\"data\"").count(), 1);
}

#[test]
fn the_text_shows_each_lane_and_each_violation() {
    let history = run_with_violation().build();
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
fn the_text_fits_into_the_given_columns() {
    let history = run_with_violation().build();
    let verdict = check_history(&history);
    for columns in [40, 80, 120] {
        let text = text(&history, &verdict, columns);
        assert!(text.contains("VIOLATION at 40."), "{text}");
        let wide = text.lines().find(|line| line.chars().count() > columns && !line.starts_with("replay: "));
        assert_eq!(wide, None, "in {columns} columns:\n{text}");
        let spaces = text.lines().find(|line| line.ends_with(' '));
        assert_eq!(spaces, None, "{text}");
        // The replay command stays on one line, so that it can be copied.
        assert!(text.contains(&format!("\nreplay: {}\n", verdict.replay)), "{text}");
    }
}

#[test]
fn a_fault_without_effects_is_drawn_too() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).fault(1, "scripts", &[2], 200, 210, &[]);
    let history = builder.build();
    let text = text(&history, &check_history(&history), 80);
    let lane = text.lines().find(|line| line.trim_start().starts_with("node 2")).expect("a lane");
    assert!(lane.contains("-+") && lane.ends_with('-'), "{text}");
}

#[test]
fn replacements_of_killed_processes_are_counted_separately() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(10)).acquire(2, 0, 300, Some(11)).kill(2, 400);
    builder.hold(3, 0, 1_400, 1_500, Some(12));
    let history = builder.build();
    let page = html(&history, &check_history(&history));
    assert!(page.contains("2 client processes (1 more for killed ones)"));
}

#[test]
fn an_empty_history_is_drawn_as_a_violation() {
    let empty = quorlock_chaos::history::History::default();
    let verdict = check_history(&empty);
    assert!(html(&empty, &verdict).contains("1 invariant violated"));
    assert!(text(&empty, &verdict, 80).contains("1 INVARIANT VIOLATED"));
}

#[test]
fn a_page_of_a_hundred_thousand_events_is_below_8_mb() {
    let mut builder = builder();
    for attempt in 0..25_000_u32 {
        let from = 100 + u64::from(attempt) * 12;
        builder.hold(attempt % 8, attempt, from, from + 8, Some(u64::from(attempt) + 1));
    }
    let history = builder.build();
    let verdict = check_history(&history);
    assert!(verdict.passed(), "{:#?}", verdict.violations.first());
    let page = html(&history, &verdict);
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-long.html"), &page)
        .expect("a folder for tests");
    assert!(page.len() < 8_000_000, "{} bytes", page.len());
}
