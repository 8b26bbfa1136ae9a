//! Which requests a stored answer fits (RFC 9111 section 4.1): the fields that `Vary` names, compared after
//! normalisation.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    coding::{Accepted, is_accepted_by},
    language::{LanguageRanges, Languages, is_first_choice},
};
use crate::telemetry::record::Reason;

/// An answer that varies by more fields than this fits nobody but the request that it was made for.
const MAX_FIELDS: usize = 32;

/// The selecting fields of a stored answer with the values of the request that it was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: HeaderName,
    /// The one line of the request, where it had one: an equal line needs no normalisation.
    line: Option<HeaderValue>,
    wanted: Wanted,
}

/// A selecting value in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// The request had no such field.
    Absent,
    /// Lines joined, spaces around commas taken off.
    Exact(Vec<u8>),
    /// The content codings that are accepted, of those we know ([`Accepted::CLASSES`]).
    Encoding(&'static str),
    /// Language ranges in order of preference, and the language of the answer.
    Languages { order: Vec<u8>, content: Option<HeaderValue> },
    /// The best of the languages that there are; none where none of them is wanted.
    Language { offered: Languages, best: Option<Box<str>> },
}

/// What the operator says about the answers of a route, beside what they say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told<'a> {
    /// Fields that tell answers apart although they do not name them.
    pub(super) fields: &'a [HeaderName],
    /// The languages that there are.
    pub(super) languages: Option<&'a Languages>,
}

impl Selection {
    /// Takes the selecting values of `request` for the fields that `response` varies by.
    ///
    /// # Errors
    ///
    /// [`Reason::VaryStar`] where no later request can be known to fit.
    pub fn of(request: &HeaderMap, response: &HeaderMap) -> Result<Self, Reason> {
        Self::told(request, response, Told::default())
    }

    /// The same with what the operator says.
    pub(super) fn told(request: &HeaderMap, response: &HeaderMap, told: Told<'_>) -> Result<Self, Reason> {
        let mut fields: Vec<Field> = Vec::new();
        // `*` is a field name by its syntax, but means that more than fields was looked at.
        let named = members(response).map(|member| {
            HeaderName::from_bytes(member).ok().filter(|_| member != b"*").ok_or(Reason::VaryStar)
        });
        for name in named.chain(told.fields.iter().cloned().map(Ok)) {
            let name = name?;
            if fields.iter().any(|field| field.name == name) {
                continue;
            }
            if fields.len() == MAX_FIELDS {
                return Err(Reason::VaryStar);
            }
            let wanted = Wanted::of(&name, request, response, told.languages);
            fields.push(Field { line: single_line(request, &name).cloned(), name, wanted });
        }
        Ok(Self { fields })
    }

    /// The selection of a copy that another process made, for a request that it is asked for: the fields that it depends
    /// on, the languages of the backend, and the answer as far as it is known.
    pub(in crate::cache) fn rebuilt(
        names: &[HeaderName],
        languages: Option<&Languages>,
        request: &HeaderMap,
        response: &HeaderMap,
    ) -> Self {
        let fields = names.iter().take(MAX_FIELDS).map(|name| {
            let wanted = Wanted::of(name, request, response, languages);
            Field { name: name.clone(), line: single_line(request, name).cloned(), wanted }
        });
        Self { fields: fields.collect() }
    }

    /// The languages of the backend, where the copies are told apart by them.
    pub(in crate::cache) fn languages(&self) -> Option<&Languages> {
        self.fields.iter().find_map(|field| match &field.wanted {
            Wanted::Language { offered, .. } => Some(offered),
            Wanted::Absent | Wanted::Exact(_) | Wanted::Encoding(_) | Wanted::Languages { .. } => None,
        })
    }

    /// The same fields with the values of another request, which has no answer yet.
    #[must_use]
    pub fn of_request(&self, request: &HeaderMap) -> Self {
        let unknown = HeaderMap::new();
        let fields = self.fields.iter().map(|Field { name, wanted, .. }| {
            let languages = match wanted {
                Wanted::Language { offered, .. } => Some(offered),
                Wanted::Absent | Wanted::Exact(_) | Wanted::Encoding(_) | Wanted::Languages { .. } => None,
            };
            let wanted = Wanted::of(name, request, &unknown, languages);
            Field { name: name.clone(), line: single_line(request, name).cloned(), wanted }
        });
        Self { fields: fields.collect() }
    }

    /// Whether the answer fits a request: each field is equal after normalisation, or absent in both.
    #[must_use]
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|field| field.matches(request))
    }

    /// The same without one field, where that is known not to matter.
    pub(super) fn without(mut self, name: &HeaderName) -> Self {
        self.fields.retain(|field| field.name != name);
        self
    }

    /// Whether the answer fits every request.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.fields.is_empty()
    }

    /// The selecting fields' names.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|field| &field.name)
    }

    /// Bytes that are equal for equal selections and differ for others, to be hashed into the name of a
    /// variant.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for field in &self.fields {
            let (kind, value): (u8, &[u8]) = match &field.wanted {
                Wanted::Absent => (0, b""),
                Wanted::Exact(value) => (1, value),
                Wanted::Encoding(class) => (2, class.as_bytes()),
                Wanted::Languages { order, .. } => (3, order),
                Wanted::Language { best, .. } => (4, best.as_deref().unwrap_or_default().as_bytes()),
            };
            for part in [field.name.as_str().as_bytes(), &[kind], value] {
                text.extend_from_slice(&(part.len() as u64).to_be_bytes());
                text.extend_from_slice(part);
            }
        }
        text
    }
}

impl Field {
    fn matches(&self, request: &HeaderMap) -> bool {
        if !request.contains_key(&self.name) {
            return matches!(
                self.wanted,
                Wanted::Absent | Wanted::Encoding("identity") | Wanted::Language { best: None, .. }
            );
        }
        if self.line.is_some() && single_line(request, &self.name) == self.line.as_ref() {
            return true;
        }
        match &self.wanted {
            Wanted::Absent => false,
            Wanted::Exact(value) => normal_lines(request, &self.name) == *value,
            Wanted::Encoding(class) => Accepted::of(request).class() == Some(*class),
            Wanted::Languages { order, content } => LanguageRanges::of(request).is_some_and(|ranges| {
                let is_content = |content: &HeaderValue| is_first_choice(&ranges, content.as_bytes());
                ranges.order() == *order || content.as_ref().is_some_and(is_content)
            }),
            Wanted::Language { offered, best } => offered.best(request) == best.as_deref(),
        }
    }
}

impl Wanted {
    fn of(
        name: &HeaderName,
        request: &HeaderMap,
        response: &HeaderMap,
        languages: Option<&Languages>,
    ) -> Self {
        if *name == header::ACCEPT_ENCODING {
            // The class stands for the answer only if the answer is in a coding that everyone of the class
            // accepts.
            let class = Accepted::of(request).class();
            if let Some(class) = class.filter(|class| is_accepted_by(class, response)) {
                return Self::Encoding(class);
            }
        }
        if let Some(offered) = languages.filter(|_| *name == header::ACCEPT_LANGUAGE) {
            let best = offered.best(request).map(Into::into);
            return Self::Language { offered: offered.clone(), best };
        }
        if !request.contains_key(name) {
            return Self::Absent;
        }
        if *name == header::ACCEPT_LANGUAGE
            && let Some(ranges) = LanguageRanges::of(request)
        {
            let content = single_line(response, &header::CONTENT_LANGUAGE).cloned();
            return Self::Languages { order: ranges.order(), content };
        }
        Self::Exact(normal_lines(request, name))
    }
}

/// The value that `Accept-Encoding` is replaced with on a fetch that fills the store, so that the backend
/// chooses among the codings by which copies are told apart: all that the client accepts and we know, as the
/// backend may know but one of them. None leaves the field as it is: absent, or refusing what has no coding.
#[must_use]
pub fn normal_encoding(request: &HeaderMap) -> Option<&'static str> {
    if request.contains_key(header::ACCEPT_ENCODING) { Accepted::of(request).class() } else { None }
}

/// Whether `Vary` names a field, given in lower case.
pub(super) fn varies_by(response: &HeaderMap, name: &str) -> bool {
    members(response).any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
}

/// The members of all lines of `Vary`, empty ones left out.
fn members(response: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = response.get_all(header::VARY).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn single_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// All lines as one, without spaces around commas and at the ends. What is quoted stays as it is.
fn normal_lines(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let mut normal: Vec<u8> = Vec::new();
    for (at, line) in headers.get_all(name).iter().enumerate() {
        if at > 0 {
            normal.push(b',');
        }
        let (mut is_quoted, mut is_escaped) = (false, false);
        for byte in line.as_bytes() {
            match byte {
                b' ' | b'\t' if !is_quoted && normal.last().is_none_or(|last| *last == b',') => continue,
                b',' if !is_quoted => trim_end(&mut normal),
                b'"' if !is_escaped => is_quoted = !is_quoted,
                _ => {}
            }
            is_escaped = *byte == b'\\' && is_quoted && !is_escaped;
            normal.push(*byte);
        }
        trim_end(&mut normal);
    }
    normal
}

fn trim_end(text: &mut Vec<u8>) {
    text.truncate(text.trim_ascii_end().len());
}

#[cfg(test)]
mod tests;
