//! States and requests in the shape of `/api/v1`, for tests.

use serde_json::Value;

use super::{
    Window,
    figures::Glyphs,
    routes::Sort,
    snapshot::Snapshot,
    state::{View, Wanted},
};

/// A state by its name.
pub(super) fn state(name: &str) -> Value {
    let text = match name {
        "busy" => include_str!("fixtures/busy.json"),
        "empty" => include_str!("fixtures/empty.json"),
        "hostile" => include_str!("fixtures/hostile.json"),
        other => panic!("no state {other}"),
    };
    serde_json::from_str(text).unwrap()
}

/// It as it is looked at first.
pub(super) fn view(name: &str) -> View {
    let wanted = Wanted { window: Window::Five, is_merged: false };
    let mut view = View::new(wanted, Sort::Rate, Glyphs::Blocks);
    view.snapshot = Snapshot::read(state(name).as_object().unwrap());
    view
}

/// Some requests.
pub(super) fn tails() -> Value {
    serde_json::from_str(include_str!("fixtures/tails.json")).unwrap()
}

/// All about a route.
pub(super) fn detail() -> Value {
    serde_json::from_str(include_str!("fixtures/detail.json")).unwrap()
}
