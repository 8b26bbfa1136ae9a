//! Frames in many sizes: what they look like, and what must hold in all of them.

use std::{env, fs, path::Path};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde::Deserialize as _;

use crate::cli::live::{
    Window, detail,
    figures::Glyphs,
    fixtures,
    frame::frame,
    line::{Line, columns},
    routes::Sort,
    snapshot::{Detail, Snapshot, Tail},
    stat,
    state::{Link, View},
    tap,
};

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[track_caller]
fn is_golden(name: &str, text: &str) {
    let file = Path::new("tests/golden/live").join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).unwrap();
        return;
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{} differs:\n{text}", file.display());
}

fn press(view: &mut View, keys: &[KeyCode]) {
    for key in keys {
        view.press(KeyEvent::new(*key, KeyModifiers::NONE));
    }
}

fn opened() -> View {
    let mut view = fixtures::view("busy");
    press(&mut view, &[KeyCode::Down, KeyCode::Enter]);
    let detail = Detail::deserialize(fixtures::detail()).unwrap();
    view.drawer.as_mut().unwrap().state = detail::State::Known(Box::new(detail));
    view
}

#[test]
fn a_busy_backend_in_terminals_of_all_sizes() {
    for (width, rows) in [(80, 24), (120, 40), (200, 50), (250, 60), (60, 16), (40, 10), (20, 5)] {
        let view = fixtures::view("busy");

        is_golden(&format!("busy_{width}x{rows}"), &text(&frame(&view, width, Some(rows))));
    }
}

#[test]
fn other_looks() {
    let mut lost = fixtures::view("busy");
    lost.link = Link::Lost("nothing listens on 127.0.0.1:9090".to_owned());
    is_golden("lost_100x24", &text(&frame(&lost, 100, Some(24))));

    is_golden("empty_100x24", &text(&frame(&fixtures::view("empty"), 100, Some(24))));

    let mut sorted = fixtures::view("busy");
    press(
        &mut sorted,
        &[KeyCode::Char('p'), KeyCode::Down, KeyCode::Char('/'), KeyCode::Char('c'), KeyCode::Char('o')],
    );
    is_golden("filter_100x24", &text(&frame(&sorted, 100, Some(24))));

    is_golden("route_100x30", &text(&frame(&opened(), 100, Some(30))));

    let mut once = fixtures::view("busy");
    (once.link, once.glyphs) = (Link::Once, Glyphs::Ascii);
    is_golden("once_120", &text(&frame(&once, 120, None)));
}

#[test]
fn what_is_printed_once() {
    let view = fixtures::view("busy");
    for (name, is_wide) in [("stat", false), ("stat_wide", true)] {
        is_golden(name, &text(&stat::page(&view.snapshot, is_wide, (Window::Five, Sort::Rate))));
    }
    let empty = fixtures::view("empty");
    is_golden("stat_empty", &text(&stat::page(&empty.snapshot, true, (Window::Five, Sort::Rate))));

    let tails: Vec<Tail> = serde_json::from_value(fixtures::tails()).unwrap();
    let path = tap::path_width(tails.iter());
    let lines: Vec<Line> = tails.iter().map(|tail| tap::line(tail, path)).collect();
    is_golden("tap", &text(&lines));
}

#[test]
fn a_frame_never_leaves_its_terminal_and_nothing_in_it_is_obeyed() {
    let states = ["busy", "empty", "hostile"];
    let mut views: Vec<View> = states.iter().map(|name| fixtures::view(name)).collect();
    views.push(opened());
    views.push(View::new(opened().wanted(), Sort::P95, Glyphs::Blocks));
    let mut hostile = fixtures::view("hostile");
    hostile.link = Link::Lost("\u{1b}[2J\nowned".to_owned());
    hostile.filter = "\u{1b}[2J".to_owned();
    hostile.is_typing = true;
    views.push(hostile);
    let mut long = fixtures::view("hostile");
    press(&mut long, &[KeyCode::End, KeyCode::Enter]);
    views.push(long);

    for view in &views {
        for width in (0..140).chain([180, 250, 400]) {
            for rows in [0, 1, 2, 3, 4, 5, 8, 12, 24, 60] {
                let lines = frame(view, width, Some(rows));

                assert!(lines.len() <= rows.max(1), "{} rows in {width}x{rows}", lines.len());
                for line in &lines {
                    let plain = line.plain();
                    assert!(columns(&plain) <= width, "{width}x{rows}: {plain:?}");
                    assert!(plain.chars().all(|c| columns(&c.to_string()) > 0), "{plain:?}");
                }
            }
        }
    }
}

#[test]
fn every_route_can_be_reached_in_the_smallest_terminal() {
    let mut view = fixtures::view("busy");
    let mut seen = Vec::new();
    for _ in 0..view.snapshot.routes.len() {
        let lines = text(&frame(&view, 80, Some(24)));
        let selected = lines.lines().find(|line| line.starts_with('>')).map(str::to_owned);
        seen.push(selected.unwrap_or_else(|| panic!("no route is selected\n{lines}")));
        press(&mut view, &[KeyCode::Down]);
    }

    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), view.snapshot.routes.len());
}

#[test]
fn a_merged_view_says_which_pods_are_missing() {
    let mut state = fixtures::state("busy");
    state["meta"]["peers"] = serde_json::json!({
        "asked": 3, "answered": 2, "silent": [{"pod": "10.0.0.7:9090", "error": "no answer within 1 s"}]
    });
    let mut view = fixtures::view("busy");
    view.snapshot = Snapshot::read(state.as_object().unwrap());

    let frame = text(&frame(&view, 80, Some(24)));
    let printed = text(&stat::page(&view.snapshot, false, (Window::Five, Sort::Rate)));

    assert!(frame.starts_with("coach-api  2 of 3 pods answered"), "{frame}");
    for text in [frame, printed] {
        assert!(text.contains("not in it: 10.0.0.7:9090, no answer within 1 s"), "{text}");
    }
}

#[test]
fn a_route_over_its_limit_is_marked_without_colour_too() {
    let lines = text(&frame(&fixtures::view("busy"), 120, Some(40)));

    let marked: Vec<&str> = lines.lines().filter(|line| line.get(1..2) == Some("!")).collect();
    assert_eq!(marked.len(), 1, "{lines}");
    assert!(marked[0].contains("/api/matches/candidates/"));
}

#[test]
fn the_document_shows_what_is_shown() {
    let document = fs::read_to_string("docs/terminal.md").unwrap();

    for name in ["busy_80x24", "tap", "stat"] {
        let frame = fs::read_to_string(format!("tests/golden/live/{name}.txt")).unwrap();
        assert!(document.contains(&format!("```text\n{frame}```\n")), "docs/terminal.md has another {name}");
    }
}
