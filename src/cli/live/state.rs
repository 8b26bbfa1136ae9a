//! How `touchline top` is looked at: the newest state, the order and the filter of the routes, what is open, and what
//! keys do to that. Nothing here writes or asks.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    Window, detail,
    figures::Glyphs,
    routes::{self, Sort},
    snapshot::{Route, Snapshot},
};

/// Characters of a filter.
const MAX_FILTER: usize = 100;

/// Routes or lines that a page key goes by.
const PAGE: usize = 10;

/// Whether new states come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// They do.
    Live,
    /// They do not, for this reason.
    Lost(String),
    /// There is to be this one only.
    Once,
}

impl Link {
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

/// The route that is open.
#[derive(Debug)]
pub(super) struct Drawer {
    pub(super) key: String,
    pub(super) state: detail::State,
    pub(super) scroll: usize,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) window: Window,
    pub(super) is_merged: bool,
}

impl Wanted {
    /// The query that asks for it.
    pub(super) fn query(self) -> String {
        let scope = if self.is_merged { "merged" } else { "pod" };
        format!("window={}&scope={scope}", self.window.as_str())
    }
}

/// What a key changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    /// At most what is shown.
    Shown,
    /// What is asked for.
    Wanted,
    /// What is open.
    Opened,
    /// It is the end.
    Quit,
}

/// Everything that the screen shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) is_merged: bool,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) selected: Option<String>,
    pub(super) drawer: Option<Drawer>,
    pub(super) glyphs: Glyphs,
}

impl View {
    pub(super) fn new(wanted: Wanted, sort: Sort, glyphs: Glyphs) -> Self {
        Self {
            snapshot: Snapshot::default(),
            link: Link::Live,
            window: wanted.window,
            is_merged: wanted.is_merged,
            sort,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            selected: None,
            drawer: None,
            glyphs,
        }
    }

    pub(super) const fn wanted(&self) -> Wanted {
        Wanted { window: self.window, is_merged: self.is_merged }
    }

    /// The routes of the table, in its order.
    pub(super) fn chosen(&self) -> Vec<&Route> {
        routes::chosen(&self.snapshot.routes, &self.filter, self.sort, self.is_reversed)
    }

    /// Which of them keys act on. It is known by its key, so that it stays the same while others pass it.
    pub(super) fn selected_index(&self, chosen: &[&Route]) -> usize {
        let selected = self.selected.as_ref();
        selected.and_then(|key| chosen.iter().position(|route| route.key == *key)).unwrap_or(0)
    }

    /// Takes a key.
    pub(super) fn press(&mut self, event: KeyEvent) -> Pressed {
        if event.kind == KeyEventKind::Release {
            return Pressed::Shown;
        }
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return match event.code {
                KeyCode::Char('c' | 'd') => Pressed::Quit,
                _ => Pressed::Shown,
            };
        }
        if self.is_typing {
            self.typed(event.code);
            return Pressed::Shown;
        }
        match event.code {
            KeyCode::Char('q') => Pressed::Quit,
            KeyCode::Char('1') => self.look_back(Window::Minute),
            KeyCode::Char('5') => self.look_back(Window::Five),
            KeyCode::Char('H') => self.look_back(Window::Hour),
            KeyCode::Char('w') => self.look_back(self.window.next()),
            KeyCode::Char('m') if self.is_merged || self.snapshot.meta.can_merge == Some(true) => {
                self.is_merged = !self.is_merged;
                Pressed::Wanted
            }
            code if self.drawer.is_some() => self.press_in_drawer(code),
            code => self.press_in_table(code),
        }
    }

    fn look_back(&mut self, window: Window) -> Pressed {
        self.window = window;
        Pressed::Wanted
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < MAX_FILTER => self.filter.push(c),
            _ => {}
        }
    }

    fn press_in_drawer(&mut self, code: KeyCode) -> Pressed {
        let Some(drawer) = &mut self.drawer else { return Pressed::Shown };
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Left | KeyCode::Char('l') => {
                self.drawer = None;
                return Pressed::Opened;
            }
            KeyCode::Up | KeyCode::Char('k') => drawer.scroll = drawer.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => drawer.scroll = drawer.scroll.saturating_add(1),
            KeyCode::PageUp => drawer.scroll = drawer.scroll.saturating_sub(PAGE),
            KeyCode::PageDown | KeyCode::Char(' ') => drawer.scroll = drawer.scroll.saturating_add(PAGE),
            KeyCode::Home => drawer.scroll = 0,
            _ => {}
        }
        Pressed::Shown
    }

    fn press_in_table(&mut self, code: KeyCode) -> Pressed {
        match code {
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('r') => self.sort_by(Sort::Rate),
            KeyCode::Char('p') => self.sort_by(Sort::P95),
            KeyCode::Char('e') => self.sort_by(Sort::Errors),
            KeyCode::Char('h') => self.sort_by(Sort::Hits),
            KeyCode::Char('n') => self.sort_by(Sort::Name),
            KeyCode::Char('s') => self.is_reversed = !self.is_reversed,
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, _| at.saturating_add(1)),
            KeyCode::PageUp => self.select(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.select(|at, _| at.saturating_add(PAGE)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => {
                self.select(|at, _| at);
                let Some(key) = self.selected.clone() else { return Pressed::Shown };
                self.drawer = Some(Drawer { key, state: detail::State::Waiting, scroll: 0 });
                return Pressed::Opened;
            }
            _ => {}
        }
        Pressed::Shown
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.is_reversed = false;
        // What is looked for stands at the top now.
        self.selected = None;
    }

    fn select(&mut self, step: impl Fn(usize, usize) -> usize) {
        let chosen = self.chosen();
        let last = chosen.len().saturating_sub(1);
        let at = step(self.selected_index(&chosen), last).min(last);
        self.selected = chosen.get(at).map(|route| route.key.clone());
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Pressed, View};
    use crate::cli::live::{Window, fixtures, routes::Sort};

    fn press(view: &mut View, code: KeyCode) -> Pressed {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn type_in(view: &mut View, text: &str) {
        for c in text.chars() {
            press(view, KeyCode::Char(c));
        }
    }

    #[test]
    fn keys_sort_reverse_and_look_back() {
        let mut view = fixtures::view("busy");
        for (key, sort) in
            [('p', Sort::P95), ('e', Sort::Errors), ('h', Sort::Hits), ('n', Sort::Name), ('r', Sort::Rate)]
        {
            assert_eq!(press(&mut view, KeyCode::Char(key)), Pressed::Shown);
            assert_eq!(view.sort, sort);
        }
        press(&mut view, KeyCode::Char('s'));
        assert!(view.is_reversed);
        for (key, window) in
            [('1', Window::Minute), ('5', Window::Five), ('H', Window::Hour), ('w', Window::Minute)]
        {
            assert_eq!(press(&mut view, KeyCode::Char(key)), Pressed::Wanted);
            assert_eq!(view.window, window);
        }
    }

    #[test]
    fn the_selection_stays_on_its_route_and_within_the_table() {
        let mut view = fixtures::view("busy");
        press(&mut view, KeyCode::Down);
        let second = view.selected.clone();

        press(&mut view, KeyCode::Char('s'));
        assert_eq!(view.selected, second);
        press(&mut view, KeyCode::PageDown);
        press(&mut view, KeyCode::PageDown);
        assert_eq!(view.selected.as_deref(), Some("unmatched"));
        press(&mut view, KeyCode::Home);
        press(&mut view, KeyCode::Up);
        assert_eq!(view.selected_index(&view.chosen()), 0);
        view.snapshot.routes.clear();
        press(&mut view, KeyCode::Down);
        assert_eq!(press(&mut view, KeyCode::Enter), Pressed::Shown, "there is nothing to open");
    }

    #[test]
    fn a_filter_is_typed_kept_and_ended_and_its_letters_are_no_keys() {
        let mut view = fixtures::view("busy");

        type_in(&mut view, "/quits");
        assert!(view.is_typing);
        assert_eq!(view.filter, "quits");
        for _ in 0..5 {
            press(&mut view, KeyCode::Backspace);
        }
        type_in(&mut view, "chat");
        press(&mut view, KeyCode::Enter);
        assert!(!view.is_typing && view.chosen().iter().all(|route| route.key.contains("chat")));
        press(&mut view, KeyCode::Esc);
        assert_eq!(view.filter, "");
        type_in(&mut view, &format!("/{}", "x".repeat(500)));
        assert_eq!(view.filter.len(), 100);
    }

    #[test]
    fn a_route_opens_and_closes_and_q_quits_from_anywhere_but_a_filter() {
        let mut view = fixtures::view("busy");

        assert_eq!(press(&mut view, KeyCode::Enter), Pressed::Opened);
        assert!(view.drawer.is_some());
        press(&mut view, KeyCode::Down);
        assert_eq!(view.drawer.as_ref().unwrap().scroll, 1);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Pressed::Quit);
        assert_eq!(press(&mut view, KeyCode::Esc), Pressed::Opened);
        assert!(view.drawer.is_none());
        press(&mut view, KeyCode::Char('/'));
        assert_eq!(press(&mut view, KeyCode::Char('q')), Pressed::Shown);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(interrupt), Pressed::Quit);
    }
}
