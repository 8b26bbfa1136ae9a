//! Texts with manifests: the objects in them, and the texts again when objects have changed.

use std::fmt;

use super::{
    note::{Level, Note},
    yaml::{self, Changed, Document, Map, Value, chunks, same},
};

/// A text with manifests, such as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name of the file, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What an object is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The namespace; empty where the object names none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{} in {}", self.kind, self.name, self.namespace)
        }
    }
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It makes pods, described at this path.
    Workload(&'static [&'static str]),
    Service,
    /// It is looked at only for what an injection may have added.
    ConfigMap,
    Other,
}

/// An object, as it was and as it is to be.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) id: Id,
    pub(super) role: Role,
    /// Where it stands, for messages.
    pub(super) place: String,
    pub(super) old: Option<Value>,
    /// None when it goes.
    pub(super) new: Option<Value>,
}

/// The documents of all sources.
#[derive(Debug, Default)]
pub(super) struct Stream {
    names: Vec<String>,
    parts: Vec<Part>,
    pub(super) objects: Vec<Object>,
}

/// One document of a source.
#[derive(Debug)]
struct Part {
    source: usize,
    /// The whole of it, with its `---`.
    document: Document,
    text: String,
    objects: Objects,
}

#[derive(Debug)]
enum Objects {
    None,
    /// The document is this object.
    One(usize),
    /// The document is a `List` of these.
    List(Vec<usize>),
}

impl Stream {
    /// Reads texts; says everything in them that cannot be read.
    pub(super) fn read(sources: &[Source]) -> Result<Self, Vec<Note>> {
        let mut stream = Self::default();
        let mut problems = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            stream.names.push(source.name.clone());
            let mut line = 0;
            for text in chunks(&source.text) {
                match Document::parse(text) {
                    Ok(document) => {
                        let place = format!("{}:{}", source.name, line + document.line());
                        problems.extend(stream.add(index, (text, document), &place));
                    }
                    Err(error) => problems.push(Note {
                        level: Level::Problem,
                        about: format!("{}:{}:{}", source.name, line + error.line, error.column),
                        text: error.message,
                    }),
                }
                line += text.matches('\n').count();
            }
        }
        if problems.is_empty() { Ok(stream) } else { Err(problems) }
    }

    /// Adds a document with its objects.
    fn add(&mut self, source: usize, (text, document): (&str, Document), place: &str) -> Option<Note> {
        let mut problem = None;
        let objects = match document.value().and_then(Value::as_map) {
            Some(map) if is_list(map) => {
                Objects::List(map.list("items").iter().map(|item| self.object(item, place)).collect())
            }
            Some(_) => Objects::One(document.value().map_or(0, |value| self.object(value, place))),
            None => Objects::None,
        };
        let is_ours = |index: &usize| {
            let role = self.objects.get(*index).map(|object| object.role);
            matches!(role, Some(Role::Workload(_) | Role::Service))
        };
        let has_ours = match &objects {
            Objects::None => false,
            Objects::One(index) => is_ours(index),
            Objects::List(list) => list.iter().any(is_ours),
        };
        if let Some(key) = document.doubled_key().filter(|_| has_ours) {
            let text = format!("the key `{key}` is there twice, and readers differ in which one they take");
            problem = Some(Note { level: Level::Problem, about: place.to_owned(), text });
        }
        self.parts.push(Part { source, document, text: text.to_owned(), objects });
        problem
    }

    fn object(&mut self, value: &Value, place: &str) -> usize {
        let (id, role) = value.as_map().map_or_else(
            || (Id { kind: String::new(), namespace: String::new(), name: String::new() }, Role::Other),
            |map| (id_of(map), role_of(map)),
        );
        let (old, new) = (Some(value.clone()), Some(value.clone()));
        self.objects.push(Object { id, role, place: place.to_owned(), old, new });
        self.objects.len() - 1
    }

    /// Puts an object in the place of one that was there before with the same name, or at the end.
    pub(super) fn put(&mut self, value: Value) {
        let Some(id) = value.as_map().map(id_of) else { return };
        if let Some(object) = self.objects.iter_mut().find(|object| object.id == id && object.new.is_none()) {
            object.new = Some(value);
            return;
        }
        let role = value.as_map().map_or(Role::Other, role_of);
        let index = self.objects.len();
        self.objects.push(Object { id, role, place: String::new(), old: None, new: Some(value) });
        let last = self.parts.iter_mut().rfind(|part| !matches!(part.objects, Objects::None));
        if let Some(Part { objects: Objects::List(list), .. }) = last {
            list.push(index);
        }
    }

    /// The texts with their changes, one for each source, and what had to be written without its comments.
    pub(super) fn write(&self) -> Result<(Vec<Source>, Vec<Note>), Vec<Note>> {
        let mut made: Vec<Source> =
            self.names.iter().map(|name| Source { name: name.clone(), text: String::new() }).collect();
        let (mut notes, mut problems) = (Vec::new(), Vec::new());
        for part in &self.parts {
            let Some(source) = made.get_mut(part.source) else { continue };
            match self.text_of(part) {
                Some(Text::Same) => source.text.push_str(&part.text),
                Some(Text::Gone) => {
                    // With the end of the line before it, which came with it.
                    if !part.text.ends_with('\n') {
                        let rest = source.text.strip_suffix('\n').unwrap_or(&source.text);
                        let length = rest.strip_suffix('\r').unwrap_or(rest).len();
                        source.text.truncate(length);
                    }
                }
                Some(Text::Changed(Changed::InPlace(text))) => source.text.push_str(&text),
                Some(Text::Changed(Changed::Anew(text))) => {
                    source.text.push_str(&text);
                    if part.text.contains('#') {
                        let text = "its comments are lost: what was to be changed stands where text cannot be put in \
                                    place, such as behind an alias (-o patch keeps the file as it is)";
                        notes.push(Note {
                            level: Level::Remark,
                            about: self.about(part),
                            text: text.to_owned(),
                        });
                    }
                }
                None => {
                    let text = "it cannot be changed: it has tags, or keys that are no text, where the change would be";
                    problems.push(Note {
                        level: Level::Problem,
                        about: self.about(part),
                        text: text.to_owned(),
                    });
                }
            }
        }
        if let Some(source) = made.last_mut() {
            self.append(source);
        }
        if problems.is_empty() { Ok((made, notes)) } else { Err(problems) }
    }

    /// Adds the objects that stand in no document.
    fn append(&self, source: &mut Source) {
        let is_in_list = |index: usize| {
            self.parts
                .iter()
                .any(|part| matches!(&part.objects, Objects::List(list) if list.contains(&index)))
        };
        for (index, object) in self.objects.iter().enumerate() {
            let Some(value) = object.new.as_ref().filter(|_| object.old.is_none() && !is_in_list(index))
            else {
                continue;
            };
            let is_open = !source.text.is_empty() && !source.text.ends_with('\n');
            let newline = if source.text.contains("\r\n") { "\r\n" } else { "\n" };
            let text = format!("---\n{}", yaml::manifest(value)).replace('\n', newline);
            if is_open {
                source.text.push_str(newline);
                source.text.push_str(text.strip_suffix(newline).unwrap_or(&text));
            } else {
                source.text.push_str(&text);
            }
        }
    }

    fn text_of(&self, part: &Part) -> Option<Text> {
        let old = part.document.value();
        let new = match &part.objects {
            Objects::None => return Some(Text::Same),
            Objects::One(index) => match self.objects.get(*index).and_then(|object| object.new.as_ref()) {
                Some(new) => new.clone(),
                None => return Some(Text::Gone),
            },
            Objects::List(list) => {
                let objects = list.iter().filter_map(|index| self.objects.get(*index)?.new.clone());
                let mut map = old?.as_map()?.clone();
                if map.get("items").is_some() || !list.is_empty() {
                    map.set("items", Value::List(objects.collect()));
                }
                Value::Map(map)
            }
        };
        if old.is_some_and(|old| same(old, &new)) {
            return Some(Text::Same);
        }
        yaml::change(&part.document, &new).map(Text::Changed)
    }

    fn about(&self, part: &Part) -> String {
        let name =
            |index: &usize| self.objects.get(*index).map(|object| format!("{}: {}", object.place, object.id));
        match &part.objects {
            Objects::One(index) => name(index).unwrap_or_default(),
            Objects::List(list) => list
                .first()
                .and_then(|index| self.objects.get(*index))
                .map(|object| format!("{}: List", object.place))
                .unwrap_or_default(),
            Objects::None => String::new(),
        }
    }
}

/// What becomes of the text of a document.
enum Text {
    Same,
    Gone,
    Changed(Changed),
}

fn is_list(map: &Map) -> bool {
    map.text("kind") == Some("List") && map.text("apiVersion") == Some("v1")
}

pub(super) fn id_of(map: &Map) -> Id {
    let metadata = map.map("metadata");
    let part = |key| metadata.and_then(|metadata| metadata.text(key)).unwrap_or_default();
    // A Job may leave its name to the server.
    let name = Some(part("name")).filter(|name| !name.is_empty()).unwrap_or(part("generateName"));
    Id {
        kind: map.text("kind").unwrap_or_default().to_owned(),
        namespace: part("namespace").to_owned(),
        name: name.to_owned(),
    }
}

/// What is done with an object of this kind. Others have kinds of the same name, such as a Job of their own.
fn role_of(map: &Map) -> Role {
    let version = map.text("apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, map.text("kind").unwrap_or_default()) {
        ("", "Pod") => Role::Workload(&[]),
        ("apps" | "extensions", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Role::Workload(&["spec", "template"]),
        ("batch", "CronJob") => Role::Workload(&["spec", "jobTemplate", "spec", "template"]),
        ("", "Service") => Role::Service,
        ("", "ConfigMap") => Role::ConfigMap,
        _ => Role::Other,
    }
}
