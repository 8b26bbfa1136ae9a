//! A document as a tree of nodes that know which bytes they are.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};

use super::{
    scalar::{Scalar, Style},
    value::{Map, Value},
};

/// Values of a document with its aliases copied in. A list of a thousand workloads has some hundred thousand.
const MAX_NODES: usize = 2_000_000;
/// Depth of maps and lists within each other.
const MAX_DEPTH: usize = 100;

/// The text of one document, with what it says.
#[derive(Debug)]
pub(crate) struct Document {
    pub(super) text: String,
    pub(super) root: Option<Node>,
    value: Option<Value>,
    /// It has tags or keys that a `Value` cannot hold.
    has_strange: bool,
}

/// Where a text stops being YAML that can be read here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// A value with its bytes.
#[derive(Debug)]
pub(super) struct Node {
    /// Of a scalar in quotes, including them; of a block scalar, its first line of text; without anchor and tag.
    pub(super) start: usize,
    /// Of a collection in block style, without meaning.
    pub(super) end: usize,
    pub(super) is_flow: bool,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What the alias stands for.
    Alias(Value),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Scalar,
    pub(super) key_start: usize,
    pub(super) key_end: usize,
    pub(super) value: Node,
}

impl Document {
    /// Reads a text that holds at most one document.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut builder = Builder { text, ..Builder::default() };
        let mut options = Options::default();
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| Unreadable {
                line: error.marker().line().max(1),
                column: error.marker().col() + 1,
                message: format!("not valid YAML: {}", error.kind()),
            })?;
            builder.event(event, &span)?;
        }
        let value = builder.root.as_ref().map(Node::value);
        Ok(Self { text: text.to_owned(), root: builder.root, value, has_strange: builder.has_strange })
    }

    /// What the document says; `None` if it is empty.
    pub(crate) fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// The line of the first value, counted from 1.
    pub(crate) fn line(&self) -> usize {
        let start = self.root.as_ref().map_or(0, |root| root.start);
        1 + self.text.get(..start).unwrap_or_default().matches('\n').count()
    }

    /// Whether a `Value` holds everything that the document says.
    pub(super) fn can_be_written_anew(&self) -> bool {
        !self.has_strange
    }

    /// A key that is there twice in one map, with the keys above it.
    pub(crate) fn doubled_key(&self) -> Option<String> {
        self.root.as_ref().and_then(Node::doubled_key)
    }
}

impl Node {
    /// What the node says.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => Value::Scalar(scalar.clone()),
            Kind::List(items) => Value::List(items.iter().map(Self::value).collect()),
            Kind::Alias(value) => value.clone(),
            Kind::Map(entries) => {
                let mut map = Map::default();
                for entry in entries.iter().filter(|entry| !entry.is_merge()) {
                    map.0.push((entry.key.clone(), entry.value.value()));
                }
                for entry in entries.iter().filter(|entry| entry.is_merge()) {
                    merge(&mut map, entry.value.value());
                }
                Value::Map(map)
            }
        }
    }

    fn doubled_key(&self) -> Option<String> {
        match &self.kind {
            Kind::Scalar(_) | Kind::Alias(_) => None,
            Kind::List(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| item.doubled_key().map(|below| format!("[{index}].{below}"))),
            Kind::Map(entries) => entries.iter().enumerate().find_map(|(index, entry)| {
                let text = &entry.key.text;
                let before = entries.get(..index).unwrap_or_default();
                if !entry.is_merge() && !text.is_empty() && before.iter().any(|other| other.key.text == *text)
                {
                    return Some(text.clone());
                }
                let below = entry.value.doubled_key()?;
                Some(if below.starts_with('[') {
                    format!("{text}{below}")
                } else {
                    format!("{text}.{below}")
                })
            }),
        }
    }
}

impl Entry {
    fn is_merge(&self) -> bool {
        self.key.text == "<<" && self.key.style == Style::Plain
    }
}

/// Adds what a merge key brings, which never replaces what is there.
fn merge(map: &mut Map, brought: Value) {
    match brought {
        Value::Map(more) => {
            for (key, value) in more.0 {
                if map.get(&key.text).is_none() {
                    map.0.push((key, value));
                }
            }
        }
        Value::List(items) => items.into_iter().for_each(|item| merge(map, item)),
        Value::Scalar(_) => {}
    }
}

#[derive(Default)]
struct Builder<'a> {
    text: &'a str,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    has_strange: bool,
}

/// A map or list that is being read.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(Scalar, usize, usize)>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Unreadable> {
        let start = span.start.byte_offset().unwrap_or_default();
        let end = span.end.byte_offset().unwrap_or(start).max(start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(unreadable(span, "a second document begins here without `---`"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(text.into_owned(), style, (start == end, tag.as_deref()));
                self.finish(Node { start, end, is_flow: false, kind: Kind::Scalar(scalar) }, anchor, span)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.has_strange |= tag.is_some_and(|tag| tag.core_suffix() != Some("seq"));
                self.begin(Kind::List(Vec::new()), style, anchor, start);
            }
            Event::MappingStart(style, anchor, tag) => {
                self.has_strange |= tag.is_some_and(|tag| tag.core_suffix() != Some("map"));
                self.begin(Kind::Map(Vec::new()), style, anchor, start);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, .. }) = self.open.pop() {
                    let start = first_dash(self.text, &node);
                    self.finish(Node { start, end, ..node }, anchor, span)?;
                }
            }
            Event::Alias(id) => {
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(unreadable(span, "the alias stands inside its own anchor"));
                };
                self.nodes += value.size();
                if self.open.len() + value.height() > MAX_DEPTH {
                    return Err(unreadable(span, "aliases nest too deeply"));
                }
                self.finish(Node { start, end, is_flow: false, kind: Kind::Alias(value) }, 0, span)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, (is_absent, tag): (bool, Option<&Tag>)) -> Scalar {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::Single,
            ScalarStyle::DoubleQuoted => Style::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        // `!!str 12` is a text, as if in quotes, and `!!int "12"` is a number, as if without.
        match tag.and_then(Tag::core_suffix) {
            Some("str") if style == Style::Plain => return Scalar { text, style: Style::Double, tag: None },
            Some("str") => return Scalar { text, style, tag: None },
            Some("bool" | "int" | "float" | "null") => return Scalar::plain(text),
            _ => {}
        }
        let tag = tag.map(|tag| format!("{}{}", tag.original_handle(), tag.suffix()));
        // A handle of a `%TAG` directive, or a tag in `!<...>`, cannot be told from its text alone.
        self.has_strange |= tag.as_ref().is_some_and(|tag| !tag.starts_with('!'));
        // The parser gives `~` where nothing is written; only its empty place tells the two apart.
        let text = if is_absent && style == Style::Plain { String::new() } else { text };
        Scalar { text, style, tag }
    }

    fn begin(&mut self, kind: Kind, style: StructureStyle, anchor: usize, start: usize) {
        let node = Node { start, end: start, is_flow: style == StructureStyle::Flow, kind };
        self.open.push(Open { node, anchor, key: None });
    }

    /// Puts a node that is complete where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, span: &Span) -> Result<(), Unreadable> {
        self.nodes += 1;
        if anchor > 0 {
            let value = node.value();
            self.nodes += value.size();
            self.anchors.insert(anchor, value);
        }
        if self.nodes > MAX_NODES {
            return Err(unreadable(
                span,
                "the document is too large, aliases counted with what they stand for",
            ));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some((key, key_start, key_end))) => {
                entries.push(Entry { key, key_start, key_end, value: node });
            }
            (Kind::Map(_), None) => {
                let (Node { start, end, .. }, key) = (&node, key_of(&node.kind));
                self.has_strange |= key.is_none();
                open.key = Some((key.unwrap_or_else(|| Scalar::plain("")), *start, *end));
            }
            (Kind::Scalar(_) | Kind::Alias(_), _) => {}
        }
        Ok(())
    }
}

/// Where a list in block style begins, which is its first dash.
///
/// Of a list that is not indented the parser gives what follows the first dash instead.
fn first_dash(text: &str, node: &Node) -> usize {
    let Kind::List(items) = &node.kind else { return node.start };
    let is_dash = text.get(node.start..).is_some_and(|rest| rest.starts_with('-'));
    let is_item = items.first().is_some_and(|first| first.start == node.start);
    if node.is_flow || (is_dash && !is_item) {
        return node.start;
    }
    let mut before = text.get(..node.start).unwrap_or_default();
    loop {
        let line = before.get(before.rfind('\n').map_or(0, |newline| newline + 1)..).unwrap_or_default();
        let bare = line.split(" #").next().unwrap_or_default().trim_end();
        if bare.ends_with('-') {
            return before.len() - line.len() + bare.len() - 1;
        }
        let above = before.len() - line.len();
        if above == 0 || !(bare.is_empty() || bare.trim_start().starts_with('#')) {
            return node.start;
        }
        before = text.get(..above - 1).unwrap_or_default();
    }
}

/// The name that a key has; one that is a collection keeps its place, but has none.
fn key_of(kind: &Kind) -> Option<Scalar> {
    match kind {
        Kind::Scalar(scalar) | Kind::Alias(Value::Scalar(scalar)) => Some(scalar.clone()),
        Kind::List(_) | Kind::Map(_) | Kind::Alias(_) => None,
    }
}

fn unreadable(span: &Span, message: &str) -> Unreadable {
    Unreadable { line: span.start.line().max(1), column: span.start.col() + 1, message: message.to_owned() }
}
