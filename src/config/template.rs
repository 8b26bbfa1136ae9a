//! Path templates (`/a/{id}`) and tag templates (`user:{id}`): their grammar, for checks here and compilers elsewhere.

use std::fmt;

use super::error::ValueError;

/// A parsed path template in the style of FastAPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// Its segments, each without its leading slash.
    pub segments: Vec<PathSegment>,
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                PathSegment::Literal(text) => write!(f, "/{text}")?,
                PathSegment::Parameter(name) => write!(f, "/{{{name}}}")?,
                PathSegment::Rest(name) => write!(f, "/{{{name}*}}")?,
            }
        }
        Ok(())
    }
}

/// One segment of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// These bytes.
    Literal(String),
    /// `{name}`: one segment that is not empty.
    Parameter(String),
    /// `{name*}` or `{name:path}`: the rest of the path, slashes and all. Only ever last.
    Rest(String),
}

impl PathTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(
                ValueError::new(format!("path `{text}` does not start with `/`")).hint(leading_slash(text))
            );
        };
        if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(ValueError::new(format!("path `{text}` contains `{c}`"))
                .hint("a template names the path alone; query parameters belong under cache.key.query"));
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(ValueError::new(format!("path `{text}` contains {}", describe(c)))
                .hint("write the path as it is sent, with such characters percent-encoded"));
        }
        let mut segments = Vec::new();
        let mut parts = rest.split('/').peekable();
        while let Some(part) = parts.next() {
            let segment = parse_segment(part)?;
            if matches!(segment, PathSegment::Rest(_)) && parts.peek().is_some() {
                return Err(ValueError::new(format!(
                    "`{part}` stands for the rest of the path, but is not last"
                )));
            }
            segments.push(segment);
        }
        let template = Self { segments };
        let names: Vec<&str> = template.parameters().collect();
        match names
            .iter()
            .enumerate()
            .find(|(index, name)| names.iter().take(*index).any(|earlier| earlier == *name))
        {
            Some((_, name)) => {
                Err(ValueError::new(format!("path `{text}` has two parameters named `{name}`")))
            }
            None => Ok(template),
        }
    }

    /// Names of the parameters in their order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            PathSegment::Literal(_) => None,
            PathSegment::Parameter(name) | PathSegment::Rest(name) => Some(name.as_str()),
        })
    }

    /// The template with its parameters' names taken off: two templates with one shape match the same paths.
    pub(crate) fn shape(&self) -> String {
        let shape = |segment: &PathSegment| match segment {
            PathSegment::Literal(text) => format!("/{text}"),
            PathSegment::Parameter(_) => "/{}".to_owned(),
            PathSegment::Rest(_) => "/{*}".to_owned(),
        };
        self.segments.iter().map(shape).collect()
    }
}

fn leading_slash(text: &str) -> String {
    match text.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, path)) => format!("did you mean /{path}? the host belongs under `host`"),
        None => format!("did you mean /{text}?"),
    }
}

fn describe(c: char) -> String {
    if c == ' ' { "a space".to_owned() } else { format!("the character {c:?}") }
}

fn parse_segment(part: &str) -> Result<PathSegment, ValueError> {
    let Some(inner) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if part.contains(['{', '}']) {
            return Err(ValueError::new(format!("segment `{part}` mixes text and a parameter"))
                .hint("a parameter is a whole segment: /a/{id}"));
        }
        if let Some(name) = part.strip_prefix(':') {
            return Err(ValueError::new(format!("segment `{part}` is not a parameter"))
                .hint(format!("did you mean {{{name}}}?")));
        }
        if part.contains('*') {
            return Err(ValueError::new(format!("segment `{part}` contains `*`"))
                .hint("write {rest*} as the last segment for everything below"));
        }
        return Ok(PathSegment::Literal(part.to_owned()));
    };
    if let Some(name) = inner.strip_suffix('*').or_else(|| inner.strip_suffix(":path")) {
        return Ok(PathSegment::Rest(parameter_name(name, part)?));
    }
    if let Some((name, kind)) = inner.split_once(':') {
        return Err(ValueError::new(format!("parameter `{part}` has the unknown type `{kind}`"))
            .hint(format!("write {{{name}}} for one segment or {{{name}:path}} for the rest of the path")));
    }
    Ok(PathSegment::Parameter(parameter_name(inner, part)?))
}

fn parameter_name(name: &str, part: &str) -> Result<String, ValueError> {
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || !is_name {
        return Err(ValueError::new(format!("`{part}` does not name a parameter"))
            .hint("names have letters, digits and `_`, and do not start with a digit"));
    }
    Ok(name.to_owned())
}

/// A parsed tag or URL template: text with values of the request in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTemplate {
    /// Its parts in their order.
    pub parts: Vec<TagPart>,
    /// Whether it ends in `*` and so stands for every tag with this beginning.
    pub is_prefix: bool,
}

/// One part of a tag template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagPart {
    /// This text.
    Literal(String),
    /// `{name}`: a parameter of the path.
    Parameter(String),
    /// `{query.NAME}`: a query parameter.
    Query(String),
    /// `{body.NAME}`: a top-level member of the request's JSON body.
    Body(String),
}

impl TagTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("a tag is empty"));
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(ValueError::new(format!("tag `{text}` contains {}", describe(c))));
        }
        if text.len() > 128 {
            return Err(ValueError::new("a tag is longer than 128 bytes"));
        }
        let (body, is_prefix) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        if body.contains('*') {
            return Err(ValueError::new(format!("tag `{text}` has a `*` that is not its last character")));
        }
        let (mut parts, mut rest) = (Vec::new(), body);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(ValueError::new(format!("tag `{text}` has `{{` without `}}`")));
            };
            if !before.is_empty() {
                parts.push(TagPart::Literal(before.to_owned()));
            }
            parts.push(parse_part(name, text)?);
            rest = after;
        }
        if rest.contains('}') {
            return Err(ValueError::new(format!("tag `{text}` has `}}` without `{{`")));
        }
        if !rest.is_empty() {
            parts.push(TagPart::Literal(rest.to_owned()));
        }
        Ok(Self { parts, is_prefix })
    }

    /// Names of the path parameters it uses.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TagPart::Parameter(name) => Some(name.as_str()),
            TagPart::Literal(_) | TagPart::Query(_) | TagPart::Body(_) => None,
        })
    }

    /// Names of the members of the body it uses.
    pub fn body_members(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TagPart::Body(name) => Some(name.as_str()),
            TagPart::Literal(_) | TagPart::Parameter(_) | TagPart::Query(_) => None,
        })
    }

    /// The text before its first parameter.
    pub(crate) fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(TagPart::Literal(text)) => text,
            _ => "",
        }
    }
}

fn parse_part(name: &str, text: &str) -> Result<TagPart, ValueError> {
    if let Some(name) = name.strip_prefix("query.") {
        if name.is_empty() {
            return Err(ValueError::new(format!("tag `{text}` names no query parameter")));
        }
        return Ok(TagPart::Query(name.to_owned()));
    }
    if let Some(name) = name.strip_prefix("body.") {
        if name.is_empty() {
            return Err(ValueError::new(format!("tag `{text}` names no member of the body")));
        }
        if let Some((member, _)) = name.split_once('.') {
            return Err(ValueError::new(format!("tag `{text}` takes a value from within `{member}`"))
                .hint("only members at the top of a JSON body can be used: {body.NAME}"));
        }
        return Ok(TagPart::Body(name.to_owned()));
    }
    if let Some((source, _)) = name.split_once('.') {
        return Err(ValueError::new(format!("tag `{text}` takes a value from `{source}`"))
            .hint("a tag may use {parameter} of the path, {query.NAME} and {body.NAME}"));
    }
    Ok(TagPart::Parameter(parameter_name(name, text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_templates_are_read() {
        let template = PathTemplate::parse("/api/{id}/files/{rest*}").unwrap();

        assert_eq!(
            template.segments,
            [
                PathSegment::Literal("api".into()),
                PathSegment::Parameter("id".into()),
                PathSegment::Literal("files".into()),
                PathSegment::Rest("rest".into()),
            ]
        );
        assert_eq!(template.shape(), "/api/{}/files/{*}");
        assert_eq!(PathTemplate::parse("/f/{p:path}").unwrap().shape(), "/f/{*}");
        assert_eq!(PathTemplate::parse("/").unwrap().segments, [PathSegment::Literal(String::new())]);
    }

    #[test]
    fn bad_path_templates_are_refused() {
        for text in [
            "",
            "api",
            "http://host/api",
            "/a?b=1",
            "/a#b",
            "/a b",
            "/\u{e9}",
            "/{a}/{a}",
            "/{rest*}/x",
            "/{p:path}/x",
            "/{}",
            "/{1a}",
            "/{a",
            "/a}",
            "/x-{id}",
            "/{id:int}",
            "/:id",
            "/a/*",
        ] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tag_templates_are_read() {
        let tag = TagTemplate::parse("user:{user_id}:{query.lang}").unwrap();

        assert_eq!(
            tag.parts,
            [
                TagPart::Literal("user:".into()),
                TagPart::Parameter("user_id".into()),
                TagPart::Literal(":".into()),
                TagPart::Query("lang".into()),
            ]
        );
        assert!(TagTemplate::parse("reputation:*").unwrap().is_prefix);
        let body = TagTemplate::parse("{body.user-id}").unwrap();
        assert_eq!(body.parts, [TagPart::Body("user-id".into())]);
        assert_eq!(body.body_members().collect::<Vec<_>>(), ["user-id"]);
        for text in [
            "",
            "a b",
            "a*b",
            "{a",
            "a}",
            "{}",
            "{query.}",
            "{body.}",
            "{body.a.b}",
            "{header.x}",
            "{Body.x}",
        ] {
            assert!(TagTemplate::parse(text).is_err(), "{text}");
        }
    }
}
