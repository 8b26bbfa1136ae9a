//! The screen of `touchline top`: what is known and how it is looked at in, lines out, as many and as wide as the
//! terminal has room for. Where there is little room, what matters least goes first.

use super::{
    Window, detail,
    figures::{self, Glyphs},
    line::{self, Line, Paint},
    planes, routes,
    snapshot::{Health, Reason, Route, Silent, Slot, Snapshot},
    state::{Link, View},
};

/// Rows that the table keeps while anything else is shown: its head and five routes.
const TABLE: usize = 6;

/// Columns of what stands before and behind the bars of the traffic.
const SCALE: usize = 22;

/// Pieces of this rank and above are shown only where the whole table has room beside them.
const SPARE: u8 = 7;

/// Lines of the parts beside the routes.
const PLANES: usize = 5;

/// Reasons that have a line of their own.
const REASONS: usize = 6;

/// A piece of the screen above the table.
struct Block {
    /// The lower, the longer it is kept.
    rank: u8,
    lines: Vec<Line>,
}

/// The screen. Without a number of rows it is as long as it has to be.
pub(super) fn frame(view: &View, width: usize, rows: Option<usize>) -> Vec<Line> {
    let is_lost = view.link.is_lost();
    let mut lines = vec![title(view, width)];
    let left = |lines: &[Line]| rows.map_or(usize::MAX, |rows| rows.saturating_sub(lines.len()));
    if let Some(banner) = banner(view).filter(|_| left(&lines) > 0) {
        lines.push(banner.fit(width));
    }
    let has_footer = rows.is_some() && left(&lines) > 3;
    let room = left(&lines).saturating_sub(usize::from(has_footer));
    let mut body = match &view.drawer {
        Some(_) => drawer(view, width, room),
        None => overview(view, width, room),
    };
    if is_lost {
        body = body.into_iter().map(Line::faded).collect();
    }
    lines.extend(body.into_iter().take(room));
    if let (true, Some(rows)) = (has_footer, rows) {
        lines.resize_with(rows.saturating_sub(1), Line::default);
        lines.push(footer(view, width).fit(width));
    }
    lines
}

/// Who it is and how it is, with the state of the line at the right.
fn title(view: &View, width: usize) -> Line {
    let (snapshot, meta) = (&view.snapshot, &view.snapshot.meta);
    let mut right = Line::default();
    if let Some(health) = &snapshot.health {
        let score = health.score.map_or_else(|| figures::UNKNOWN.to_owned(), |score| score.to_string());
        let status = health.status.as_deref().unwrap_or(figures::UNKNOWN);
        right.push(&format!("{score} {status}"), paint_of(health));
        right.push("  ", Paint::Plain);
    }
    if meta.draining == Some(true) {
        right.push("DRAINING  ", Paint::Warn);
    }
    right.push(&format!("{}  ", meta.window.as_deref().unwrap_or(view.window.as_str())), Paint::Plain);
    let at = figures::clock(snapshot.at.as_deref());
    match view.link {
        Link::Live => right.push(&format!("live {at} UTC"), Paint::Good),
        Link::Once => right.push(&format!("{at} UTC"), Paint::Plain),
        Link::Lost(_) => right.push("LOST", Paint::Bad),
    }
    let mut left = Line::of(meta.service.as_deref().unwrap_or("touchline"), Paint::Strong);
    match &meta.peers {
        Some(peers) => {
            let (answered, asked) = (peers.answered.unwrap_or(0), peers.asked.unwrap_or(0));
            let paint = if answered < asked { Paint::Warn } else { Paint::Plain };
            left.push(&format!("  {answered} of {asked} pods answered"), paint);
        }
        None => left.push(&format!("  {}", meta.pod.as_deref().unwrap_or_default()), Paint::Soft),
    }
    if width >= 120 {
        let version = meta.version.as_deref().unwrap_or(figures::UNKNOWN);
        let hash = meta.config_hash.as_deref().unwrap_or(figures::UNKNOWN);
        let up = meta.uptime_s.map_or_else(|| figures::UNKNOWN.to_owned(), figures::span);
        left.push(&format!("  version {version}, configuration {hash}, up {up}"), Paint::Soft);
    }
    let room = width.saturating_sub(right.width() + 2);
    if room < 8 {
        return right.fit(width);
    }
    let mut line = left.fit(room);
    line.pad(width.saturating_sub(right.width()));
    line.append(right);
    line.fit(width)
}

const fn health_paint(score: u64) -> Paint {
    match score {
        90.. => Paint::Good,
        70..90 => Paint::Warn,
        _ => Paint::Bad,
    }
}

pub(super) fn paint_of(health: &Health) -> Paint {
    health.score.map_or(Paint::Soft, health_paint)
}

/// What is said while nothing new comes.
fn banner(view: &View) -> Option<Line> {
    let Link::Lost(why) = &view.link else { return None };
    let at = figures::clock(view.snapshot.at.as_deref());
    Some(Line::of(&format!("no data since {at}, retrying: {why}"), Paint::Bad))
}

fn overview(view: &View, width: usize, room: usize) -> Vec<Line> {
    let chosen = view.chosen();
    let whole = chosen.len().saturating_add(1).max(2);
    let mut left = room.saturating_sub(whole.min(TABLE));
    let mut to_spare = room.saturating_sub(whole);
    let mut blocks = blocks(view, width);
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|index| blocks.get(*index).map_or(u8::MAX, |block| block.rank));
    for index in order {
        let Some(block) = blocks.get_mut(index) else { continue };
        let most = if block.rank < SPARE { left } else { left.min(to_spare) };
        // A block is cut to what there is room for: its first lines matter most.
        block.lines.truncate(most);
        left = left.saturating_sub(block.lines.len());
        to_spare = to_spare.saturating_sub(block.lines.len());
    }
    let mut lines: Vec<Line> = blocks.into_iter().flat_map(|block| block.lines).collect();
    let rows = room.saturating_sub(lines.len());
    lines.extend(table(view, &chosen, width, rows));
    lines
}

/// What stands above the table, from top to bottom.
fn blocks(view: &View, width: usize) -> Vec<Block> {
    let snapshot = &view.snapshot;
    let now = snapshot.at.as_deref();
    let mut blocks = Vec::new();
    let mut block = |rank: u8, lines: Vec<Line>| {
        let lines: Vec<Line> = lines.into_iter().map(|line| line.fit(width)).collect();
        blocks.push(Block { rank, lines });
    };
    if let Some(health) = &snapshot.health {
        let headline = health.headline.as_deref().unwrap_or(figures::UNKNOWN);
        block(0, vec![Line::of(headline, paint_of(health))]);
        block(3, reasons(health, now));
        block(9, fine(health));
    } else {
        block(0, vec![Line::of("no verdict yet", Paint::Soft)]);
    }
    block(2, silent(snapshot));
    block(1, vec![tiles(snapshot, view.window)]);
    block(6, traffic(snapshot, width, view.glyphs));
    block(4, line::flowed(planes::planes(snapshot), width, PLANES));
    if let Some(alerts) = &snapshot.alerts {
        let rank = if alerts.firing.unwrap_or(0) > 0 { 2 } else { 7 };
        block(rank, planes::alerts(alerts, now));
    }
    if !snapshot.unreadable.is_empty() {
        let names = snapshot.unreadable.join(", ");
        block(5, vec![Line::of(&format!("cannot be read by this version: {names}"), Paint::Warn)]);
    }
    // The gap above the table.
    block(8, vec![Line::default()]);
    blocks
}

/// The deductions of the score, the dearest first.
pub(super) fn reasons(health: &Health, now: Option<&str>) -> Vec<Line> {
    let mut sorted: Vec<_> = health.reasons.iter().collect();
    sorted.sort_by_key(|reason| std::cmp::Reverse(reason.points));
    let hidden = sorted.len().saturating_sub(REASONS);
    let line = |reason: &&Reason| {
        let points = reason.points.map_or_else(|| figures::UNKNOWN.to_owned(), |points| format!("-{points}"));
        let text = reason.text.as_deref().or(reason.code.as_deref()).unwrap_or(figures::UNKNOWN);
        Line::of(&format!("{points:>5}  "), Paint::Bad)
            .with(&format!("since {}  ", figures::since(reason.since.as_deref(), now)), Paint::Soft)
            .with(text, Paint::Plain)
    };
    let mut lines: Vec<Line> = sorted.iter().take(REASONS).map(line).collect();
    if hidden > 0 {
        lines.push(Line::of(&format!("       and {hidden} more"), Paint::Soft));
    }
    lines
}

/// Pods that are missing from what is shown.
pub(super) fn silent(snapshot: &Snapshot) -> Vec<Line> {
    let silent = snapshot.meta.peers.iter().flat_map(|peers| &peers.silent);
    let line = |peer: &Silent| {
        let pod = peer.pod.as_deref().unwrap_or(figures::UNKNOWN);
        let error = peer.error.as_deref().unwrap_or("no answer");
        Line::of(&format!("not in it: {pod}, {error}"), Paint::Warn)
    };
    silent.take(REASONS).map(line).collect()
}

fn fine(health: &Health) -> Vec<Line> {
    if health.fine.is_empty() {
        return Vec::new();
    }
    vec![Line::of("   ok  ", Paint::Good).with(&health.fine.join("; "), Paint::Soft)]
}

/// The four numbers, and how much of the window they cover where that is little.
pub(super) fn tiles(snapshot: &Snapshot, window: Window) -> Line {
    let tiles = &snapshot.tiles;
    let mut line =
        Line::of(&figures::rate(tiles.requests_per_s), Paint::Strong).with(" requests/s   ", Paint::Plain);
    let bad = tiles.errors_5xx_percent.is_some_and(|percent| percent > 0.0);
    line.push("5xx ", Paint::Plain);
    let percent = |percent: Option<f64>| match percent {
        None => figures::UNKNOWN.to_owned(),
        percent => format!("{} %", figures::percent(percent)),
    };
    line.push(&percent(tiles.errors_5xx_percent), if bad { Paint::Bad } else { Paint::Strong });
    line.push("   P95 ", Paint::Plain);
    line.push(&figures::time(tiles.p95_ms), Paint::Strong);
    line.push("   ", Paint::Plain);
    line.push(&percent(tiles.without_backend_percent), Paint::Strong);
    line.push(" without the backend", Paint::Plain);
    // The running slot is seldom full, so that a window spans a little less than its name says, for good.
    if let Some(uptime) = snapshot.meta.uptime_s.filter(|uptime| *uptime < window.seconds()) {
        line.push(&format!("   only the last {}", figures::span(uptime)), Paint::Warn);
    }
    line
}

/// Requests over the last quarter of an hour, and what happened last.
fn traffic(snapshot: &Snapshot, width: usize, glyphs: Glyphs) -> Vec<Line> {
    let chart = &snapshot.chart;
    if chart.slots.is_empty() {
        return Vec::new();
    }
    let last = chart.marks.iter().max_by(|a, b| a.at.cmp(&b.at));
    let last = last.and_then(|mark| Some((mark, mark.text.as_ref()?)));
    let mark = last.map_or_else(Line::default, |(mark, text)| {
        let at = figures::since(mark.at.as_deref(), snapshot.at.as_deref());
        Line::of(&format!("   {at} {text}"), Paint::Soft)
    });
    // What happened last is worth more than what was long ago, up to a third of the line.
    let room = width.saturating_sub(SCALE + mark.width().min(width / 3)).max(10);
    let from = chart.slots.len().saturating_sub(room);
    let slots = chart.slots.get(from..).unwrap_or_default();
    let rate = |slot: &Slot| slot.hit + slot.miss + slot.bypass + slot.error;
    let rates: Vec<Option<f64>> = slots.iter().map(|slot| Some(rate(slot))).collect();
    let slot_s = chart.slot_s.filter(|seconds| *seconds > 0.0).unwrap_or(10.0);
    let most = rates.iter().flatten().copied().fold(0.0, f64::max) / slot_s;
    let mut line = Line::of("traffic ", Paint::Soft);
    for (glyph, slot) in figures::sparkline(&rates, glyphs).chars().zip(slots) {
        let paint = if slot.error > 0.0 { Paint::Bad } else { Paint::Good };
        line.push(&glyph.to_string(), paint);
    }
    line.push(&format!(" most {}/s", figures::rate(Some(most))), Paint::Soft);
    line.append(mark);
    vec![line]
}

/// The page of the table with the selected route on it.
fn table(view: &View, chosen: &[&Route], width: usize, rows: usize) -> Vec<Line> {
    let page = rows.saturating_sub(1).max(1);
    let selected = view.selected_index(chosen);
    let from = selected / page * page;
    let shown = routes::Shown {
        width,
        sort: view.sort,
        is_reversed: view.is_reversed,
        selected: if view.link == Link::Once {
            None
        } else {
            chosen.get(selected).map(|route| route.key.as_str())
        },
        glyphs: view.glyphs,
    };
    let until = from.saturating_add(page).min(chosen.len());
    let mut lines = routes::fitted(chosen.get(from..until).unwrap_or_default(), &shown);
    if chosen.is_empty() {
        let text = if view.snapshot.routes.is_empty() {
            format!("  no requests in the last {}", view.window.as_str())
        } else {
            format!("  none of {} routes has \"{}\"", view.snapshot.routes.len(), view.filter)
        };
        lines.push(Line::of(&text, Paint::Soft).fit(width));
    }
    lines
}

fn drawer(view: &View, width: usize, room: usize) -> Vec<Line> {
    let Some(drawer) = &view.drawer else { return Vec::new() };
    let route = view.snapshot.routes.iter().find(|route| route.key == drawer.key);
    let lines = detail::lines(&drawer.key, route, &drawer.state, (width, view.glyphs));
    let from = drawer.scroll.min(lines.len().saturating_sub(room));
    lines.into_iter().skip(from).map(|line| line.fit(width)).collect()
}

/// What can be pressed, or what is being typed.
fn footer(view: &View, width: usize) -> Line {
    if view.is_typing {
        return Line::of("/", Paint::Strong)
            .with(&view.filter, Paint::Plain)
            .with("_", Paint::Strong)
            .with("   Enter keeps the filter, Esc ends it", Paint::Soft);
    }
    if view.drawer.is_some() {
        return Line::of("Esc back   up, down, PgUp, PgDn scroll   1 5 H window   q quit", Paint::Soft);
    }
    let mut line = Line::default();
    if !view.filter.is_empty() {
        line.push(
            &format!(
                "\"{}\": {} of {} routes, Esc ends it   ",
                view.filter,
                view.chosen().len(),
                view.snapshot.routes.len()
            ),
            Paint::Warn,
        );
    }
    let order = if view.is_reversed { ", reversed" } else { "" };
    line.push(&format!("by {}{order}   ", view.sort.as_str()), Paint::Plain);
    let keys = if width < 125 {
        "q quit  / filter  r p e h n sort  s reverse  1 5 H window  Enter"
    } else {
        "q quit   / filter   sort by r rate, p P95, e errors, h hit rate, n name   s reverse   1 5 H window   Enter open"
    };
    line.push(keys, Paint::Soft);
    if view.snapshot.meta.can_merge == Some(true) && width >= 130 {
        line.push("   m all pods", Paint::Soft);
    }
    line
}
