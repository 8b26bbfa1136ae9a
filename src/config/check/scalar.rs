//! Single values: what the schema expects of one, and whether the text is that.

use serde_json::Value;

use super::keys::closest;
use crate::config::{
    address::{self, BackendAddress, Cidr, is_host_name},
    alert_rules::AlertRule,
    alerts::WebUrl,
    api_address::ApiAddress,
    error::ValueError,
    models::{Date, Generation},
    redis::RedisUrl,
    schema::{is_type, words},
    share::Share,
    template::PathTemplate,
    threshold::Threshold,
    tree::Scalar,
    units::{self, ByteSize},
    usd::{Usd, UsdPerMillion},
};

/// The largest number of a key that has no limit of its own.
const WIDEST: u64 = u32::MAX as u64;

/// Whether the form holds a secret, whose text is never shown.
pub(super) fn is_secret(form: &Value) -> bool {
    kind(form) == Some("secret")
}

/// Whether the structs hold the form as a plain string, whatever its grammar.
pub(super) fn is_free_text(form: &Value) -> bool {
    is_type(form, "string")
        && words(form).is_none()
        && !matches!(
            kind(form),
            Some(
                "network" | "redis" | "api" | "share" | "usd" | "price" | "generation" | "date" | "threshold"
            )
        )
}

fn kind(form: &Value) -> Option<&str> {
    form.get("x-kind").and_then(Value::as_str)
}

/// Reads a scalar as the form wants it.
pub(super) fn read(scalar: &Scalar, form: &Value) -> Result<Value, ValueError> {
    let text = scalar.text.as_str();
    if let Some(words) = words(form) {
        return word(text, &words);
    }
    if is_type(form, "boolean") {
        return boolean(scalar);
    }
    if is_type(form, "integer") {
        return integer(scalar, form);
    }
    if let Some(kind) = kind(form) {
        of_kind(text, kind, form)?;
    }
    Ok(Value::String(text.to_owned()))
}

fn word(text: &str, words: &[&str]) -> Result<Value, ValueError> {
    if words.contains(&text) {
        return Ok(Value::String(text.to_owned()));
    }
    let list = words.join(", ");
    let error = ValueError::new(match words {
        [only] => format!("`{text}` is neither a map nor `{only}`"),
        _ => format!("`{text}` is not one of {list}"),
    });
    Err(match closest(text, words) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None if words == ["off"] && ["no", "false", "disabled", "none"].contains(&text) => {
            error.hint("did you mean `off`?")
        }
        None if words.len() == 1 => error.hint(format!("write `{list}`, or the keys of a map")),
        None => error,
    })
}

fn boolean(scalar: &Scalar) -> Result<Value, ValueError> {
    let is_bare = scalar.is_plain || scalar.written.is_some();
    match scalar.text.as_str() {
        "true" if is_bare => return Ok(Value::Bool(true)),
        "false" if is_bare => return Ok(Value::Bool(false)),
        _ => {}
    }
    let text = &scalar.text;
    let error = ValueError::new(format!("`{text}` is not true or false"));
    Err(match text.to_ascii_lowercase().as_str() {
        "true" | "false" if !is_bare => {
            ValueError::new(format!("\"{text}\" is text, not true or false")).hint("take off the quotes")
        }
        "yes" | "on" | "y" | "1" | "enabled" | "true" => error.hint("did you mean true?"),
        "no" | "off" | "n" | "0" | "disabled" | "false" => error.hint("did you mean false?"),
        _ => error,
    })
}

fn integer(scalar: &Scalar, form: &Value) -> Result<Value, ValueError> {
    let text = scalar.text.as_str();
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !scalar.is_plain && scalar.written.is_none() && is_digits {
        return Err(ValueError::new(format!("\"{text}\" is text, not a number")).hint("take off the quotes"));
    }
    let (least, most) = range(form);
    let bounds = match most {
        WIDEST => format!("it must be at least {least}"),
        most => format!("it must be between {least} and {most}"),
    };
    if !is_digits {
        let error = ValueError::new(format!("`{text}` is not a whole number"));
        let plain = text.replace(['_', ',', ' '], "");
        let is_grouped = plain != text && !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit());
        return Err(if is_grouped {
            error.hint(format!("did you mean {plain}?"))
        } else {
            error.hint(bounds)
        });
    }
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Value::from(number)),
        _ => Err(ValueError::new(format!("{text} is out of range")).hint(bounds)),
    }
}

/// The bounds of an integer; the wider of the two when only the width is given.
fn range(form: &Value) -> (u64, u64) {
    let bound = |name: &str| form.get(name).and_then(Value::as_u64);
    let width = match form.get("format").and_then(Value::as_str) {
        Some("uint8") => u64::from(u8::MAX),
        Some("uint16") => u64::from(u16::MAX),
        _ => WIDEST,
    };
    (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(width))
}

/// Reads text by its grammar.
fn of_kind(text: &str, kind: &str, form: &Value) -> Result<(), ValueError> {
    match kind {
        "time" => within(text, form, units::parse_duration, |time| units::format_duration(*time)),
        "size" => within(text, form, ByteSize::parse, ToString::to_string),
        "backend" => BackendAddress::parse(text).map(drop),
        "network" => Cidr::parse(text).map(drop),
        "redis" => RedisUrl::parse(text).map(drop),
        "api" => ApiAddress::parse(text).map(drop),
        "share" => Share::parse(text).map(drop),
        "usd" => Usd::parse(text).map(drop),
        "price" => UsdPerMillion::parse(text).map(drop),
        "generation" => Generation::parse(text).map(drop),
        "date" => Date::parse(text).map(drop),
        "threshold" => Threshold::parse(text).map(drop),
        "url" => WebUrl::parse(text).map(drop),
        "listen" => address::parse_listen(text).map(drop),
        "template" => PathTemplate::parse(text).map(drop),
        "path" => path(text),
        "host" => host(text),
        "method" => method(text),
        "field" => field(text),
        "secret" if text.is_empty() => Err(ValueError::new("the secret is empty")),
        "name" => name(text),
        "query" | "text" | "file" if text.is_empty() => Err(ValueError::new("the text is empty")),
        _ => Ok(()),
    }
}

/// Reads a time or a size and holds it to its bounds.
fn within<T: PartialOrd>(
    text: &str,
    form: &Value,
    parse: impl Fn(&str) -> Result<T, ValueError>,
    print: impl Fn(&T) -> String,
) -> Result<(), ValueError> {
    let value = parse(text)?;
    let bound = |name: &str| form.get(name).and_then(Value::as_str).and_then(|text| parse(text).ok());
    if let Some(least) = bound("x-min").filter(|least| value < *least) {
        return Err(
            ValueError::new(format!("`{text}` is too small")).hint(format!("the least is {}", print(&least)))
        );
    }
    if let Some(most) = bound("x-max").filter(|most| value > *most) {
        return Err(
            ValueError::new(format!("`{text}` is too large")).hint(format!("the most is {}", print(&most)))
        );
    }
    Ok(())
}

fn path(text: &str) -> Result<(), ValueError> {
    if !text.starts_with('/') {
        return Err(ValueError::new(format!("path `{text}` does not start with `/`"))
            .hint(format!("did you mean /{text}?")));
    }
    if text.contains('#') || text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(ValueError::new(format!("path `{text}` has characters that cannot be sent"))
            .hint("percent-encode them"));
    }
    Ok(())
}

fn host(text: &str) -> Result<(), ValueError> {
    let is_v6 = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    if is_v6 || is_host_name(text) {
        return Ok(());
    }
    let error = ValueError::new(format!("`{text}` is not a host name"));
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default();
    Err(if bare != text && is_host_name(bare) {
        error.hint(format!("did you mean {bare}? a host has no scheme, port or path"))
    } else if text.contains('*') {
        error.hint("patterns are not supported: list each name")
    } else {
        error
    })
}

fn method(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || !text.bytes().all(is_token_byte) {
        return Err(ValueError::new(format!("`{text}` is not a method"))
            .hint("write one method per entry, such as [GET, POST]"));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(ValueError::new(format!("method `{text}` is not in upper case"))
            .hint(format!("did you mean {upper}?")));
    }
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(ValueError::new(format!("method {text} is never passed on, so no route can match it")));
    }
    Ok(())
}

fn field(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || !text.bytes().all(is_token_byte) {
        return Err(ValueError::new(format!("`{text}` is not a field name"))
            .hint("write the name alone, such as Accept-Language"));
    }
    Ok(())
}

fn name(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
        return Err(ValueError::new("a name has 1 to 128 characters and no control characters"));
    }
    Ok(())
}

/// A `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Holds a key of an open map to its grammar.
pub(super) fn key(key: &str, form: &Value) -> Result<(), ValueError> {
    match form.get("propertyNames").and_then(kind) {
        Some("status") => status(key),
        Some("rule") => rule(key),
        _ => Ok(()),
    }
}

fn status(key: &str) -> Result<(), ValueError> {
    match key.parse::<u16>() {
        Ok(200..=599) if key.len() == 3 => Ok(()),
        _ => Err(ValueError::new(format!("`{key}` is not a final HTTP status"))
            .hint("statuses go from 200 to 599")),
    }
}

fn rule(key: &str) -> Result<(), ValueError> {
    if AlertRule::from_name(key).is_some() {
        return Ok(());
    }
    let names = AlertRule::ALL.map(AlertRule::as_str);
    Err(ValueError::new(format!("`{key}` is not a built-in rule")).hint(match closest(key, &names) {
        Some(meant) => format!("did you mean `{meant}`? rules of your own stand under `own`"),
        None => format!("they are {}; rules of your own stand under `own`", names.join(", ")),
    }))
}

/// What a place expects, for messages: `a time such as 30s`, `a list`, `one of off, observe, serve`.
pub(super) fn expected(forms: &[&Value]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for form in forms {
        let part = match kind(form) {
            Some("time") => "a time such as 30s".to_owned(),
            Some("size") => "a size such as 64MiB".to_owned(),
            Some("listen") => "an address such as 0.0.0.0:8080".to_owned(),
            Some("backend") => "an address such as http://127.0.0.1:8000".to_owned(),
            Some("api") => "an address such as https://api.anthropic.com".to_owned(),
            Some("share") => "a share such as 5%".to_owned(),
            Some("threshold") => "a limit such as 2s, 5% or 100".to_owned(),
            Some("url") => "an address such as http://localhost:9090".to_owned(),
            Some("usd") => "an amount such as 20usd".to_owned(),
            Some("price") => "a price of a million tokens such as 0.25usd".to_owned(),
            Some("generation") => "a generation such as 5.5".to_owned(),
            Some("date") => "a date such as 2026-10-07".to_owned(),
            Some("network") => "a network such as 10.0.0.0/8".to_owned(),
            Some("path" | "template") => "a path".to_owned(),
            Some("host") => "a host name".to_owned(),
            Some("method") => "a method such as GET".to_owned(),
            Some("secret") => "a secret".to_owned(),
            _ => by_type(form),
        };
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(" or ")
}

fn by_type(form: &Value) -> String {
    match words(form) {
        Some(words) if words.len() == 1 => return format!("`{}`", words.concat()),
        Some(words) => return format!("one of {}", words.join(", ")),
        None => {}
    }
    let named = [
        ("string", "text"),
        ("integer", "a whole number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a map"),
    ];
    named
        .iter()
        .find(|(name, _)| is_type(form, name))
        .map_or_else(String::new, |(_, words)| (*words).to_owned())
}
