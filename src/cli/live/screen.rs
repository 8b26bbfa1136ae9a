//! The whole terminal as a screen, taken and given back: at the end, on an error, and on a panic.

use std::{
    io::{self, Write as _},
    panic, thread,
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event},
    execute, queue,
    style::Print,
    terminal::{
        self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
    },
};
use tokio::sync::mpsc;

/// How often the thread that reads keys looks whether anybody still wants them.
const KEYS: Duration = Duration::from_millis(200);

/// Keys that may wait; more than anybody presses in the time of a frame.
const MAX_KEYS: usize = 64;

/// A terminal that says nothing of its size, and the greatest that is believed.
const USUAL: (u16, u16) = (80, 24);
const GREATEST: (usize, usize) = (1000, 500);

/// The screen.
pub(super) struct Screen {
    shown: Vec<String>,
    size: (usize, usize),
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on the drop gives it back, whatever fails.
        let screen = Self { shown: Vec::new(), size: (0, 0) };
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        execute!(io::stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size() -> (usize, usize) {
        let (columns, rows) = terminal::size().ok().filter(|size| size.0 > 0 && size.1 > 0).unwrap_or(USUAL);
        (usize::from(columns).min(GREATEST.0), usize::from(rows).min(GREATEST.1))
    }

    /// Shows the lines of a frame that was made for `size`. Only rows that have changed are written.
    pub(super) fn draw(&mut self, lines: Vec<String>, size: (usize, usize)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.size != size {
            queue!(out, Clear(ClearType::All))?;
            (self.shown, self.size) = (Vec::new(), size);
        }
        for (row, number) in (0..size.1).zip(0_u16..) {
            let (old, new) = (self.shown.get(row), lines.get(row));
            if old.map_or("", String::as_str) != new.map_or("", String::as_str) {
                let text = new.map_or("", String::as_str);
                // Cleared first: behind a line that fills its row the cursor stands on the last column.
                queue!(out, MoveTo(0, number), Clear(ClearType::CurrentLine), Print(text))?;
            }
        }
        self.shown = lines;
        out.flush()
    }

    /// Forgets what is shown, so that all of it is written anew.
    pub(super) fn forget(&mut self) {
        self.size = (0, 0);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. There is nobody to tell if that fails.
fn restore() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

/// Keys and changes of the size, as they come. They are read by a thread of their own, which ends with the receiver.
pub(super) fn events() -> io::Result<mpsc::Receiver<Event>> {
    let (tx, rx) = mpsc::channel(MAX_KEYS);
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !tx.is_closed() {
            match event::poll(KEYS) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(event) if tx.blocking_send(event).is_ok() => {}
                    _ => return,
                },
                Err(_) => return,
            }
        }
    })?;
    Ok(rx)
}
