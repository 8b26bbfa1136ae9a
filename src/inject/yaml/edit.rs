//! The difference between a document and its new value, as edits of its text.
//!
//! Whole lines come in after the lines of what goes before them, and go without the comments around them, so that
//! taking out what was put in gives the old text again. Whoever calls reads the result once more: what cannot be done
//! well may fail here, and may even be done wrongly, as with an anchor whose aliases would change along.

use super::{
    emit,
    layout::Layout,
    lines::{self, Edit},
    node::{Document, Entry, Kind, Node},
    scalar::{Scalar, Style},
    value::{Map, Value, same},
};

/// Pairs of items that are compared to align two lists. More is a list that was turned around.
const MAX_PAIRS: usize = 250_000;

/// The text cannot be changed in place.
#[derive(Debug)]
struct CannotEdit;

type Done = Result<(), CannotEdit>;

/// Where a value hangs.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The byte after its colon or dash.
    after: usize,
    /// The column of its key or dash; none for the root.
    column: Option<usize>,
    is_flow: bool,
}

/// The text of the document with the new value, if the difference can be put in place.
pub(super) fn edit(document: &Document, new: &Value) -> Option<String> {
    let (root, old) = (document.root.as_ref()?, document.value()?);
    let mut editor = Editor {
        text: &document.text,
        layout: Layout::of(document),
        is_json: emit::is_json(document),
        edits: Vec::new(),
    };
    let slot = Slot { after: root.start, column: None, is_flow: root.is_flow };
    editor.change(root, (old, new), slot).ok()?;
    Some(lines::apply(&document.text, editor.edits))
}

struct Editor<'a> {
    text: &'a str,
    layout: Layout,
    is_json: bool,
    edits: Vec<Edit>,
}

impl Editor<'_> {
    fn change(&mut self, node: &Node, (old, new): (&Value, &Value), slot: Slot) -> Done {
        if same(old, new) {
            return Ok(());
        }
        match (&node.kind, old, new) {
            (Kind::Alias(_), ..) => Err(CannotEdit),
            (Kind::Map(entries), Value::Map(old), Value::Map(new))
                if !entries.is_empty() && !new.0.is_empty() =>
            {
                self.change_map((node, entries), (old, new), slot)
            }
            (Kind::List(items), Value::List(old), Value::List(new))
                if !items.is_empty() && !new.is_empty() =>
            {
                let steps = align(old, new).ok_or(CannotEdit)?;
                if steps.iter().any(|step| matches!(step, Step::Keep(..))) || !node.is_flow {
                    self.change_list((node, items), (old, new), (slot, &steps))
                } else {
                    self.replace(node, &Value::List(new.clone()), slot)
                }
            }
            _ => self.replace(node, new, slot),
        }
    }

    fn change_map(
        &mut self,
        (node, entries): (&Node, &[Entry]),
        (old, new): (&Map, &Map),
        slot: Slot,
    ) -> Done {
        let column = if node.is_flow { None } else { Some(self.column_of(entries)?) };
        let mut ends = Vec::with_capacity(entries.len());
        let mut is_kept = Vec::with_capacity(entries.len());
        for entry in entries {
            let colon = self.colon_of(entry)?;
            ends.push(self.end_of(&entry.value, colon));
            let wanted = new.get(&entry.key.text);
            let is_own = entry.key.text != "<<" || entry.key.style != Style::Plain;
            is_kept.push(!is_own || wanted.is_some());
            if let (true, Some(wanted), Some(known)) = (is_own, wanted, old.get(&entry.key.text)) {
                self.change(
                    &entry.value,
                    (known, wanted),
                    Slot { after: colon, column, is_flow: node.is_flow },
                )?;
            }
        }
        // What only a merge key brings cannot be taken away, and what would leave nothing is written anew.
        let is_lost = |key: &Scalar| new.get(&key.text).is_none() && index_of(entries, key).is_none();
        if old.0.iter().any(|(key, _)| is_lost(key)) || !is_kept.contains(&true) {
            return Err(CannotEdit);
        }
        let starts: Vec<usize> = entries.iter().map(|entry| entry.key_start).collect();
        let parts = Parts { starts: &starts, ends: &ends, is_kept: &is_kept, slot, is_flow: node.is_flow };
        let mut previous = None;
        for (key, value) in &new.0 {
            if let Some(index) = index_of(entries, key) {
                previous = Some(index);
            } else if old.get(&key.text).is_none_or(|known| !same(known, value)) {
                match column {
                    Some(column) => {
                        self.insert(&parts, previous, emit::entry(key, value, column, self.layout));
                    }
                    None => self.insert(&parts, previous, emit::flow_entry(key, value, self.is_json)),
                }
            }
        }
        self.delete(&parts)
    }

    fn change_list(
        &mut self,
        (node, items): (&Node, &[Node]),
        (old, new): (&[Value], &[Value]),
        (slot, steps): (Slot, &[Step]),
    ) -> Done {
        let dash = lines::column_of(self.text, node.start);
        let mut layout = self.layout;
        let mut ends = Vec::with_capacity(items.len());
        let mut starts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let start = if node.is_flow { item.start } else { self.dash_of(node, index, item)? };
            let after = if node.is_flow { start } else { start + 1 };
            if index == 0
                && !node.is_flow
                && lines::start_of(self.text, item.start) == lines::start_of(self.text, start)
            {
                layout.gap = (item.start.saturating_sub(start)).clamp(2, 8);
            }
            starts.push(start);
            ends.push(self.end_of(item, after).max(after));
        }
        let mut is_kept = vec![false; items.len()];
        for step in steps {
            if let Step::Keep(index, _) = step
                && let Some(kept) = is_kept.get_mut(*index)
            {
                *kept = true;
            }
        }
        let parts = Parts { starts: &starts, ends: &ends, is_kept: &is_kept, slot, is_flow: node.is_flow };
        let mut previous = None;
        for step in steps {
            match *step {
                Step::Keep(from, to) => {
                    let (Some(item), Some(known), Some(wanted)) =
                        (items.get(from), old.get(from), new.get(to))
                    else {
                        return Err(CannotEdit);
                    };
                    let after =
                        starts.get(from).map_or(item.start, |start| start + usize::from(!node.is_flow));
                    let slot = Slot { after, column: Some(dash), is_flow: node.is_flow };
                    self.change(item, (known, wanted), slot)?;
                    previous = Some(from);
                }
                Step::Insert(to) => {
                    let value = new.get(to).ok_or(CannotEdit)?;
                    let made = if node.is_flow {
                        emit::flow_item(value, self.is_json)
                    } else {
                        emit::item(value, dash, layout)
                    };
                    self.insert(&parts, previous, made);
                }
                Step::Drop => {}
            }
        }
        self.delete(&parts)
    }

    /// Puts a part after another, or before all.
    fn insert(&mut self, parts: &Parts<'_>, previous: Option<usize>, made: String) {
        let end = previous.and_then(|index| parts.ends.get(index));
        let first = parts.starts.first().copied().unwrap_or_default();
        let edit = match (end, parts.is_flow) {
            (Some(end), true) => Edit::Replace { from: *end, to: *end, with: format!(", {made}") },
            (None, true) => Edit::Replace { from: first, to: first, with: format!("{made}, ") },
            (Some(end), false) => Edit::Insert { at: lines::end_of(self.text, *end), lines: made },
            (None, false) => {
                let below = lines::end_of(self.text, parts.slot.after);
                let at = if parts.slot.column.is_some() && below <= first {
                    below
                } else if lines::is_first(self.text, first) {
                    lines::start_of(self.text, first)
                } else {
                    // Behind a dash, the first key stays the first.
                    lines::end_of(self.text, parts.ends.first().copied().unwrap_or(first))
                };
                Edit::Insert { at, lines: made }
            }
        };
        self.edits.push(edit);
    }

    /// Takes out the parts that are not kept.
    fn delete(&mut self, parts: &Parts<'_>) -> Done {
        let mut is_any_kept = false;
        for (index, (start, end)) in parts.starts.iter().zip(parts.ends).enumerate() {
            if parts.is_kept.get(index) == Some(&true) {
                is_any_kept = true;
                continue;
            }
            let edit = if !parts.is_flow {
                if !lines::is_first(self.text, *start) {
                    return Err(CannotEdit);
                }
                Edit::Delete { from: lines::start_of(self.text, *start), to: lines::end_of(self.text, *end) }
            } else if is_any_kept {
                let before = index.checked_sub(1).and_then(|before| parts.ends.get(before));
                Edit::Replace { from: before.copied().unwrap_or(*start), to: *end, with: String::new() }
            } else {
                let next = parts.starts.get(index + 1).copied().unwrap_or(*end);
                Edit::Replace { from: *start, to: next, with: String::new() }
            };
            self.edits.push(edit);
        }
        Ok(())
    }

    /// Writes another value in the place of one.
    fn replace(&mut self, node: &Node, new: &Value, slot: Slot) -> Done {
        if slot.is_flow || node.is_flow && slot.column.is_none() {
            self.replace_in_line(node, emit::flow_item(new, self.is_json), slot);
            return Ok(());
        }
        let Some(column) = slot.column else { return Err(CannotEdit) };
        let is_block = |value: &Value| !value.is_empty() && value.as_scalar().is_none();
        let line_below = lines::end_of(self.text, self.end_of(node, slot.after));
        if matches!(node.kind, Kind::List(_) | Kind::Map(_)) && !node.is_flow {
            // Lines below a key: they go, and the new value comes beside the key or below it.
            let first = lines::start_of(self.text, node.start);
            if first <= slot.after {
                return Err(CannotEdit);
            }
            self.edits.push(Edit::Delete { from: first, to: line_below });
            if is_block(new) {
                let lines = self.below(new, column);
                self.edits.push(Edit::Insert { at: first, lines });
                return Ok(());
            }
            let text = emit::on_one_line(new, false);
            let with = if text.is_empty() { text } else { format!(" {text}") };
            self.edits.push(Edit::Replace { from: slot.after, to: slot.after, with });
            return Ok(());
        }
        if !is_block(new) {
            return self.replace_scalar(node, new, (slot, column));
        }
        if is_block_scalar(node) {
            return Err(CannotEdit);
        }
        self.edits.push(Edit::Replace {
            from: slot.after,
            to: node.end.max(slot.after),
            with: String::new(),
        });
        let lines = self.below(new, column);
        self.edits.push(Edit::Insert { at: line_below, lines });
        Ok(())
    }

    fn below(&self, new: &Value, column: usize) -> String {
        let indent = match new {
            Value::List(_) => column + self.layout.dash,
            Value::Scalar(_) | Value::Map(_) => column + self.layout.step,
        };
        emit::block(new, indent, self.layout)
    }

    fn replace_in_line(&mut self, node: &Node, text: String, slot: Slot) {
        if node.start == node.end {
            self.edits.push(Edit::Replace { from: slot.after, to: slot.after, with: format!(" {text}") });
        } else {
            self.edits.push(Edit::Replace { from: node.start, to: node.end, with: text });
        }
    }

    /// A scalar or an empty collection in the place of such.
    fn replace_scalar(&mut self, node: &Node, new: &Value, (slot, column): (Slot, usize)) -> Done {
        if is_block_scalar(node) {
            let header =
                self.text.get(slot.after..).and_then(|rest| rest.find(['|', '>'])).ok_or(CannotEdit)?;
            let lines = new.as_scalar().and_then(|scalar| emit::literal(scalar, column + self.layout.step));
            let mut with = lines.unwrap_or_else(|| emit::on_one_line(new, false));
            with.truncate(with.trim_end_matches('\n').len());
            let to = self.end_of(node, slot.after);
            self.edits.push(Edit::Replace { from: slot.after + header, to, with });
            return Ok(());
        }
        let text = emit::on_one_line(new, false);
        if text.is_empty() {
            // Nothing at all, where something was: also the space before it goes.
            self.edits.push(Edit::Replace { from: slot.after, to: node.end.max(slot.after), with: text });
        } else {
            self.replace_in_line(node, text, slot);
        }
        Ok(())
    }

    /// The byte after the last one that belongs to a value; on the line of `after` where nothing is written.
    fn end_of(&self, node: &Node, after: usize) -> usize {
        match &node.kind {
            Kind::Scalar(_) if node.start == node.end => after,
            Kind::Scalar(scalar) if scalar.style == Style::Block => {
                let text = self.text.get(node.start..node.end).unwrap_or_default();
                let header = self.text.get(after..node.start).unwrap_or_default();
                if header.split('#').next().is_some_and(|header| header.contains('+')) {
                    // Empty lines at its end belong to it.
                    return text.rfind('\n').map_or(node.end, |newline| node.start + newline);
                }
                node.start + text.trim_end().len()
            }
            Kind::Scalar(_) | Kind::Alias(_) => node.end,
            Kind::List(_) | Kind::Map(_) if node.is_flow => node.end,
            Kind::List(items) => items.last().map_or(after, |item| self.end_of(item, item.start)),
            Kind::Map(entries) => entries.last().map_or(after, |entry| {
                let colon = self.colon_of(entry).unwrap_or(entry.key_end);
                self.end_of(&entry.value, colon)
            }),
        }
    }

    /// The byte after the colon of an entry.
    fn colon_of(&self, entry: &Entry) -> Result<usize, CannotEdit> {
        let rest = self.text.get(entry.key_end..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        if rest.get(blank..).is_some_and(|rest| rest.starts_with(':')) {
            return Ok(entry.key_end + blank + 1);
        }
        // `{ a, b }`: a key without a colon.
        Err(CannotEdit)
    }

    /// The column of the keys of a map in block style.
    fn column_of(&self, entries: &[Entry]) -> Result<usize, CannotEdit> {
        let start = entries.first().ok_or(CannotEdit)?.key_start;
        let before = self.text.get(lines::start_of(self.text, start)..start).unwrap_or_default();
        if !before.chars().all(|c| matches!(c, ' ' | '-' | ':' | '?')) {
            return Err(CannotEdit);
        }
        // An explicit key has the column of its question mark.
        Ok(before.trim_end().strip_suffix('?').map_or(before.len(), str::len))
    }

    /// The dash of an item of a list in block style.
    fn dash_of(&self, list: &Node, index: usize, item: &Node) -> Result<usize, CannotEdit> {
        if index == 0 {
            return Ok(list.start);
        }
        let column = lines::column_of(self.text, list.start);
        let mut line = lines::start_of(self.text, item.start);
        loop {
            let text = self.text.get(line..).unwrap_or_default();
            let spaces = text.len() - text.trim_start_matches(' ').len();
            if spaces == column && text.get(spaces..).is_some_and(|rest| rest.starts_with('-')) {
                return Ok(line + spaces);
            }
            if line <= list.start {
                return Err(CannotEdit);
            }
            line = lines::start_of(self.text, line - 1);
        }
    }
}

/// The entries or items of a collection.
struct Parts<'a> {
    /// Their keys, or their dashes.
    starts: &'a [usize],
    ends: &'a [usize],
    is_kept: &'a [bool],
    slot: Slot,
    is_flow: bool,
}

fn is_block_scalar(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.style == Style::Block)
}

fn index_of(entries: &[Entry], key: &Scalar) -> Option<usize> {
    entries.iter().position(|entry| entry.key.text == key.text)
}

/// What becomes of the items of a list.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// An item of the old list is one of the new list, perhaps changed.
    Keep(usize, usize),
    Insert(usize),
    Drop,
}

/// Finds the items of one list in another: by their names where they have some.
fn align(old: &[Value], new: &[Value]) -> Option<Vec<Step>> {
    let is_alike = |(one, other): &(&Value, &Value)| is_alike(one, other);
    let head = old.iter().zip(new).take_while(is_alike).count();
    let (rest_old, rest_new) = (old.get(head..)?, new.get(head..)?);
    let tail = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(is_alike).count();
    let (middle_old, middle_new) =
        (rest_old.get(..rest_old.len() - tail)?, rest_new.get(..rest_new.len() - tail)?);
    let mut steps: Vec<Step> = (0..head).map(|index| Step::Keep(index, index)).collect();
    steps.extend(align_middle(middle_old, middle_new, head)?);
    steps.extend((0..tail).map(|index| Step::Keep(old.len() - tail + index, new.len() - tail + index)));
    Some(steps)
}

/// The longest common run of items, in order.
fn align_middle(old: &[Value], new: &[Value], head: usize) -> Option<Vec<Step>> {
    if old.len().checked_mul(new.len()).is_none_or(|pairs| pairs > MAX_PAIRS) {
        return None;
    }
    let width = new.len() + 1;
    let mut lengths = vec![0_usize; (old.len() + 1) * width];
    let at = |lengths: &[usize], row: usize, column: usize| {
        lengths.get(row * width + column).copied().unwrap_or(0)
    };
    for (row, one) in old.iter().enumerate().rev() {
        for (column, other) in new.iter().enumerate().rev() {
            let length = if is_alike(one, other) {
                at(&lengths, row + 1, column + 1) + 1
            } else {
                at(&lengths, row + 1, column).max(at(&lengths, row, column + 1))
            };
            if let Some(cell) = lengths.get_mut(row * width + column) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut steps = Vec::with_capacity(old.len() + new.len());
    while row < old.len() || column < new.len() {
        let is_pair = old.get(row).zip(new.get(column)).is_some_and(|(one, other)| is_alike(one, other));
        if is_pair {
            steps.push(Step::Keep(head + row, head + column));
            (row, column) = (row + 1, column + 1);
        } else if row < old.len()
            && (column == new.len() || at(&lengths, row + 1, column) >= at(&lengths, row, column + 1))
        {
            steps.push(Step::Drop);
            row += 1;
        } else {
            steps.push(Step::Insert(head + column));
            column += 1;
        }
    }
    Some(steps)
}

/// Whether one item may become the other by changes within it.
fn is_alike(one: &Value, other: &Value) -> bool {
    match (identity(one), identity(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => same(one, other),
        _ => false,
    }
}

/// What an item of a list is known by.
fn identity(item: &Value) -> Option<String> {
    let map = item.as_map()?;
    if let Some(name) = map.text("name") {
        return Some(format!("name {name}"));
    }
    if let Some(metadata) = map.map("metadata") {
        let part = |key| metadata.text(key).unwrap_or_default();
        return Some(format!(
            "{} {} {}",
            map.text("kind").unwrap_or_default(),
            part("namespace"),
            part("name")
        ));
    }
    ["containerPort", "port"].iter().find_map(|key| Some(format!("{key} {}", map.text(key)?)))
}
