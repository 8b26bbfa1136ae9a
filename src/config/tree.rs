//! The file as a tree of nodes that know their place, built from the parser's events.
//!
//! Nothing here knows what a key means. Aliases are copied in where they stand, within a budget, so that a small file
//! cannot grow into a large tree.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput};

use super::{
    path::{Segment, YamlPath},
    problem::{Found, Mark, Source},
    syntax,
};

/// Nodes of a file with its aliases copied in. The largest sensible file has a few thousand.
const MAX_NODES: usize = 20_000;
/// Depth of maps and lists within each other.
const MAX_DEPTH: usize = 40;

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mark: Mark,
    /// Nodes of this subtree, itself included.
    size: usize,
    /// Levels below this node.
    height: usize,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar before anything is known about its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes, so that `true` and `null` are not text.
    pub(super) is_plain: bool,
    /// The text with its `${NAME}` in place, when the environment changed it. Only this form is ever shown.
    pub(super) written: Option<String>,
}

/// A key with its value. A map may hold a key twice; that is reported later, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether the file says something at the path.
    pub(super) fn has(&self, path: &YamlPath) -> bool {
        let mut node = Some(self);
        for segment in path.segments() {
            node = node.and_then(|node| node.child(segment)).map(|(child, _)| child);
        }
        node.is_some()
    }

    /// The mark of the key at the path, for values that are not to be shown.
    pub(super) fn locate_key(&self, path: &YamlPath) -> Mark {
        let Some((Segment::Key(key), holder)) =
            path.segments().split_last().map(|(last, _)| (last, path.parent()))
        else {
            return self.mark;
        };
        let mut node = Some(self);
        for segment in holder.segments() {
            node = node.and_then(|node| node.child(segment)).map(|(child, _)| child);
        }
        let entry = node.and_then(|node| match &node.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == *key),
            Kind::List(_) | Kind::Scalar(_) => None,
        });
        entry.map_or_else(|| self.locate(path), |entry| entry.mark)
    }

    /// The value one step below, with the mark of its key.
    fn child(&self, segment: &Segment) -> Option<(&Node, Mark)> {
        match (segment, &self.kind) {
            (Segment::Key(key), Kind::Map(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| (&entry.value, entry.mark))
            }
            (Segment::Index(index), Kind::List(items)) => items.get(*index).map(|item| (item, item.mark)),
            _ => None,
        }
    }

    /// The mark of the value at the path, or of the deepest key on the way to it that exists.
    pub(super) fn locate(&self, path: &YamlPath) -> Mark {
        let (mut node, mut mark) = (self, Mark { line: self.mark.line, column: self.mark.column, width: 1 });
        for segment in path.segments() {
            let Some((value, place)) = node.child(segment) else { return mark };
            node = value;
            mark =
                if value.scalar().is_some_and(|scalar| !scalar.text.is_empty()) { value.mark } else { place };
        }
        mark
    }
}

/// Parses the text into one tree; on a fault, says where the text stops being YAML.
pub(super) fn parse(text: &str, source: &Source<'_>) -> Result<Node, Found> {
    let mut builder = Builder::default();
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| syntax::explain(&error, source))?;
        builder.event(event, &span)?;
    }
    match builder.root {
        Some(root) => Ok(root),
        None => Err(Found::error("", Mark { line: 1, column: 1, width: 1 }, "the file has no content")
            .hint("the smallest file says `version: 1`")),
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
}

/// A map or list that is being read.
struct Open {
    kind: Kind,
    mark: Mark,
    anchor: usize,
    key: Option<(String, Mark)>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Found> {
        let mark = mark(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Found::error("", mark, "a second document begins here")
                        .hint("one file holds one configuration: remove the `---`"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                let is_plain = style == ScalarStyle::Plain;
                // The parser gives `~` for a key without a value; only its empty place tells the two apart.
                let is_absent = is_plain && span.start.index() == span.end.index();
                let text = if is_absent { String::new() } else { text.into_owned() };
                let scalar = Scalar { text, is_plain, written: None };
                self.node(Kind::Scalar(scalar), mark, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                self.open.push(Open { kind: Kind::List(Vec::new()), mark: narrow(mark), anchor, key: None });
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                self.open.push(Open { kind: Kind::Map(Vec::new()), mark: narrow(mark), anchor, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { kind, mark, anchor, .. }) = self.open.pop() {
                    self.node(kind, mark, anchor)?;
                }
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Found::error("", mark, "the alias stands inside its own anchor"));
                };
                self.add(node, mark)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Finishes a node and puts it where it belongs.
    fn node(&mut self, kind: Kind, mark: Mark, anchor: usize) -> Result<(), Found> {
        let children: Vec<&Node> = match &kind {
            Kind::Scalar(_) => Vec::new(),
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
        };
        let size = 1 + children.iter().map(|child| child.size).sum::<usize>();
        let height = children.iter().map(|child| child.height + 1).max().unwrap_or(0);
        let node = Node { kind, mark, size, height };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, mark)
    }

    fn add(&mut self, node: Node, mark: Mark) -> Result<(), Found> {
        // Children were counted when they were added; an alias brings its whole subtree anew.
        let is_alias = mark != node.mark;
        self.nodes += if is_alias { node.size } else { 1 };
        if self.nodes > MAX_NODES {
            return Err(Found::error("", mark, format!("the file has more than {MAX_NODES} values"))
                .hint("aliases (`*name`) count with everything they stand for"));
        }
        if self.open.len() + node.height > MAX_DEPTH {
            return Err(Found::error("", mark, format!("the file nests deeper than {MAX_DEPTH} levels")));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some((key, mark))) => entries.push(Entry { key, mark, value: node }),
            (Kind::Map(_), None) => match node.kind {
                Kind::Scalar(scalar) => open.key = Some((scalar.text, mark)),
                Kind::List(_) | Kind::Map(_) => {
                    return Err(Found::error("", mark, "a key must be a word, not a list or a map")
                        .hint("text that starts with `{` or `[` needs quotes"));
                }
            },
            (Kind::Scalar(_), _) => {}
        }
        Ok(())
    }
}

fn refuse_tag(has_tag: bool, mark: Mark) -> Result<(), Found> {
    if has_tag {
        return Err(Found::error("", mark, "tags (`!name`) are not supported")
            .hint("text that starts with `!` needs quotes"));
    }
    Ok(())
}

fn mark(span: &Span) -> Mark {
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Mark { line: span.start.line().max(1), column: span.start.col() + 1, width: width.max(1) }
}

/// A map or list is pointed at by its first character.
fn narrow(mark: Mark) -> Mark {
    Mark { width: 1, ..mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, Found> {
        super::parse(text, &Source::new("test", text))
    }

    #[test]
    fn nodes_know_their_places() {
        let root = parse("a:\n  - x: 1\n  - y: \"two\"\n").unwrap();

        let mark = root.locate(&YamlPath::at("a").index(1).key("y"));
        assert_eq!((mark.line, mark.column, mark.width), (3, 8, 5));
        let missing = root.locate(&YamlPath::at("a").index(0).key("z"));
        assert_eq!((missing.line, missing.column), (2, 5));
    }

    #[test]
    fn aliases_are_copied_within_a_budget() {
        assert!(parse("a: &x [1, 2]\nb: *x\n").is_ok());
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }

        let found = parse(&bomb).unwrap_err();

        assert!(found.message.contains("more than 20000 values"), "{found:?}");
        assert!(parse("a: &x [*x]\n").is_err());
    }

    #[test]
    fn deep_nesting_is_refused_also_through_aliases() {
        let deep = format!("a: {}{}", "[".repeat(50), "]".repeat(50));
        assert!(parse(&deep).is_err());
        let half = format!("{}1{}", "[".repeat(25), "]".repeat(25));
        let chained = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(25), "]".repeat(25));
        assert!(parse(&chained).unwrap_err().message.contains("deeper"));
    }
}
