//! One key by itself: what `touchline explain cache.memory.size` says. Like the reference, it is read from the schema.

use serde::Serialize;
use serde_json::Value;

use super::{
    check::closest,
    error::ValueError,
    reference::{Writer, bounds, default, join, limits, meaning, properties},
    restart::{PLANES, needs_restart},
    schema::{self, alternatives, is_type, words},
};

/// Places that are listed where a key is not found.
const LISTED: usize = 5;

/// What there is to know about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDoc {
    /// Its place: `[]` stands for each member of a list, `NAME` for a name of your own.
    pub key: String,
    /// Its type in a word or two.
    pub kind: String,
    /// What holds where it is not written; nothing for a section and for a key that has to be written.
    pub default: Option<String>,
    /// Whether it has to be written.
    pub is_required: bool,
    /// What it does.
    pub meaning: String,
    /// How its value is written.
    pub form: Option<&'static str>,
    /// The words that it may be, where it is one of a few.
    pub words: Vec<KeyWord>,
    /// Between which bounds it lies.
    pub range: Option<String>,
    /// Whether a running proxy keeps the old value until it is started again. Of a plane it says that of its coming and
    /// going.
    pub needs_restart: bool,
    /// The keys of a section.
    pub keys: Vec<KeyLine>,
}

impl KeyDoc {
    /// Whether the key is a section of which only the coming or going waits for a restart.
    #[must_use]
    pub fn is_plane(&self) -> bool {
        PLANES.contains(&self.key.as_str())
    }
}

/// A word that a key may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyWord {
    /// The word.
    pub word: String,
    /// What it means; empty where the key says it.
    pub meaning: String,
}

/// A key of a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyLine {
    /// Its name.
    pub name: String,
    /// The first sentence about it.
    pub meaning: String,
}

/// Says all about a key that is written as in the file: `cache.memory.size`, `ingress.routes[].cache.ttl`. Positions and
/// brackets may be left out.
///
/// # Errors
/// When there is no such key; the hint names those that were perhaps meant.
pub fn describe_key(path: &str) -> Result<KeyDoc, ValueError> {
    let root = schema::root();
    let writer = Writer::new(&root);
    let place = find(&writer, &root, path)?;
    let (property, section) = (place.property, place.section);
    let forms = alternatives(property, &root);
    let default = Some(default(property)).filter(|text| section.is_none() && !text.is_empty());
    Ok(KeyDoc {
        is_required: meaning(property).contains("Required."),
        kind: writer.kind(property).replace('`', ""),
        default: default.map(|text| match text.trim_matches('`') {
            "" => "empty".to_owned(),
            text => text.to_owned(),
        }),
        meaning: sentence(&meaning(property)),
        form: forms.iter().find_map(|form| form_of(form)),
        words: words_of(&writer, property, &forms),
        range: bounds(property).map(|(low, high)| limits(low, high)),
        needs_restart: needs_restart(&place.key),
        keys: section.into_iter().flat_map(properties).map(line).collect(),
        key: place.key,
    })
}

/// A key that was found.
struct Place<'a> {
    key: String,
    property: &'a Value,
    /// The map of the keys below it.
    section: Option<&'a Value>,
}

fn find<'a>(writer: &Writer<'a>, root: &'a Value, path: &str) -> Result<Place<'a>, ValueError> {
    let (mut form, mut holder) = (Some(root), String::new());
    let mut found: Option<Place<'a>> = None;
    let mut names = path.split('.').map(|name| name.split('[').next().unwrap_or(name));
    while let Some(name) = names.next() {
        let known: Vec<&str> = form.into_iter().flat_map(properties).map(|(name, _)| name).collect();
        let property = form.into_iter().flat_map(properties).find(|(known, _)| *known == name);
        let Some((name, property)) = property else {
            return Err(unknown(writer, root, (path, name), &holder, &known));
        };
        let mut key = join(&holder, name);
        let section = writer.section_of(property);
        let is_named = section.is_some_and(|(suffix, _)| suffix == ".NAME") || has_values(property, root);
        holder = format!("{key}{}", section.map_or("", |(suffix, _)| suffix));
        // What follows is a name of the reader's own.
        if is_named && names.next().is_some() {
            key.push_str(".NAME");
        }
        form = section.map(|(_, below)| below);
        found = Some(Place { key, property, section: form });
    }
    found.ok_or_else(|| ValueError::new("no key is named"))
}

/// Whether the members of a map are single values, with names of the reader's own.
fn has_values(property: &Value, root: &Value) -> bool {
    alternatives(property, root)
        .iter()
        .any(|form| form.get("additionalProperties").is_some_and(Value::is_object))
}

fn unknown<'a>(
    writer: &Writer<'a>,
    root: &'a Value,
    (path, name): (&str, &str),
    holder: &str,
    known: &[&str],
) -> ValueError {
    let error = ValueError::new(format!("unknown key `{path}`"));
    if let Some(meant) = closest(name, known) {
        return error.hint(format!("did you mean `{}`?", join(holder, meant)));
    }
    // Someone may know the end of a key and not where it stands.
    let mut places = Vec::new();
    collect(writer, root, "", &mut places);
    let plain = |key: &str| key.replace("[]", "").replace(".NAME", "");
    let end = format!(".{}", plain(path));
    places.retain(|place| plain(place).ends_with(&end));
    if !places.is_empty() {
        let shown: Vec<String> = places.iter().take(LISTED).map(|place| format!("`{place}`")).collect();
        let more = if places.len() > LISTED { ", ..." } else { "" };
        return error.hint(format!("did you mean {}{more}?", shown.join(" or ")));
    }
    match known {
        [] => error.hint(format!("`{holder}` has no keys below it")),
        known if holder.is_empty() => error.hint(format!("the sections are {}", known.join(", "))),
        known => error.hint(format!("keys of `{holder}` are {}", known.join(", "))),
    }
}

/// The places of all keys.
fn collect<'a>(writer: &Writer<'a>, form: &'a Value, holder: &str, places: &mut Vec<String>) {
    for (name, property) in properties(form) {
        let key = join(holder, name);
        if let Some((suffix, below)) = writer.section_of(property) {
            collect(writer, below, &format!("{key}{suffix}"), places);
        }
        places.push(key);
    }
}

/// The words that a key may be, with what each means.
fn words_of<'a>(writer: &Writer<'a>, property: &'a Value, forms: &[&'a Value]) -> Vec<KeyWord> {
    let told = writer.meanings(property);
    if !told.is_empty() {
        let word =
            |(word, meaning): (&str, &str)| KeyWord { word: word.to_owned(), meaning: sentence(meaning) };
        return told.into_iter().map(word).collect();
    }
    let is_switch = forms.iter().any(|form| is_type(form, "boolean"));
    let named = forms.iter().filter_map(|form| words(form)).flatten();
    let switch = ["true", "false"].into_iter().filter(|_| is_switch);
    named.chain(switch).map(|word| KeyWord { word: word.to_owned(), meaning: String::new() }).collect()
}

fn line((name, property): (&str, &Value)) -> KeyLine {
    let text = sentence(&meaning(property));
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    KeyLine { name: name.to_owned(), meaning: text.get(..end).unwrap_or(&text).to_owned() }
}

/// A text of the reference without its marks.
fn sentence(text: &str) -> String {
    text.replace('`', "").replace(" Required.", "").trim().to_owned()
}

/// How a value of a form is written.
fn form_of(form: &Value) -> Option<&'static str> {
    Some(match form.get("x-kind").and_then(Value::as_str)? {
        "time" => "a whole number and ms, s, m, h or d, such as 250ms",
        "size" => {
            "a whole number and B, KiB, MiB, GiB (powers of 1024) or KB, MB, GB (powers of 1000), such as 64MiB"
        }
        "share" => "a number and %, such as 99.9%",
        "usd" => "a number and usd, such as 20usd",
        "price" => "dollars for a million tokens, such as 3.00usd",
        "listen" => "ADDRESS:PORT, such as 127.0.0.1:8080",
        "backend" => "http://HOST:PORT or unix:/PATH",
        "network" => "an address or a network, such as 10.0.0.0/8",
        "template" => "a path with {name} for a segment, such as /api/session/{session_id}",
        "secret" => "a text, best as ${NAME}, or { file: PATH }",
        "redis" => "redis://HOST:6379, rediss:// with TLS, or redis+unix:///PATH",
        "date" => "a day, such as 2026-10-07",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{collect, describe_key};
    use crate::config::{reference::Writer, schema};

    #[test]
    fn a_key_says_type_default_meaning_and_when_it_is_applied() {
        let size = describe_key("cache.memory.size").unwrap();
        assert_eq!((size.kind.as_str(), size.default.as_deref()), ("size", Some("64MiB")));
        assert!(size.needs_restart && size.form.unwrap().contains("MiB"), "{size:?}");
        let ttl = describe_key("ingress.routes.cache.ttl").unwrap();
        assert_eq!(ttl.key, "ingress.routes[].cache.ttl");
        assert!(!ttl.needs_restart && ttl.meaning.starts_with("Lifetime of answers"), "{ttl:?}");
        assert!(!ttl.meaning.contains("Default"), "{ttl:?}");
        let mode = describe_key("claude.mode").unwrap();
        let words: Vec<&str> = mode.words.iter().map(|word| word.word.as_str()).collect();
        assert_eq!(words, ["off", "observe", "route"]);
        assert!(mode.words.iter().all(|word| !word.meaning.is_empty()), "{mode:?}");
        let http2 = describe_key("ingress.http2").unwrap();
        assert_eq!((http2.words.len(), http2.default.as_deref()), (2, Some("true")));
        let workers = describe_key("runtime.workers").unwrap();
        assert_eq!(
            (workers.range.as_deref(), workers.default.as_deref()),
            (Some("From 1 to 256."), Some("none"))
        );
        assert!(describe_key("ingress.backend").unwrap().is_required);
    }

    #[test]
    fn a_section_lists_its_keys() {
        let memory = describe_key("cache.memory").unwrap();
        assert!(
            memory.keys.iter().any(|line| line.name == "size" && line.meaning.ends_with('.')),
            "{memory:?}"
        );
        assert!(memory.default.is_none() && !memory.is_plane());
        let ingress = describe_key("ingress").unwrap();
        assert!(ingress.is_plane() && ingress.needs_restart && ingress.keys.len() > 5);
    }

    #[test]
    fn positions_and_names_of_ones_own_are_read_over() {
        for (path, key) in [
            ("ingress.routes[2].cache.ttl", "ingress.routes[].cache.ttl"),
            ("claude.models.claude-haiku-4-5.context", "claude.models.NAME.context"),
            ("ingress.routes.cache.ttl_by_status.404", "ingress.routes[].cache.ttl_by_status.NAME"),
            ("claude.budgets[].name", "claude.budgets[].name"),
        ] {
            assert_eq!(describe_key(path).unwrap().key, key, "{path}");
        }
    }

    #[test]
    fn an_unknown_key_says_what_was_perhaps_meant() {
        for (path, hint) in [
            ("cache.memroy.size", "did you mean `cache.memory`?"),
            ("ingress.lisen", "did you mean `ingress.listen`?"),
            ("memory.size", "did you mean `cache.memory.size`?"),
            ("negative_ttl", "did you mean `ingress.routes[].cache.negative_ttl`?"),
            ("cache.memory.size.x", "`cache.memory.size` has no keys below it"),
            ("cache.memory.zzz", "keys of `cache.memory` are size"),
            ("zzz", "the sections are version"),
        ] {
            let error = describe_key(path).unwrap_err();
            assert_eq!(error.message, format!("unknown key `{path}`"));
            assert!(error.hint.as_deref().unwrap().starts_with(hint), "{path}: {:?}", error.hint);
        }
        assert!(describe_key("").is_err());
    }

    #[test]
    fn every_key_can_be_explained() {
        let root = schema::root();
        let mut places = Vec::new();
        collect(&Writer::new(&root), &root, "", &mut places);
        assert!(places.len() > 250, "{}", places.len());

        for place in places {
            let doc = describe_key(&place).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            assert_eq!(doc.key, place);
            assert!(!doc.meaning.is_empty() && !doc.kind.is_empty(), "{doc:?}");
            assert!(!doc.meaning.contains("Restart"), "{doc:?}");
        }
    }
}
