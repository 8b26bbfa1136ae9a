//! Content codings (RFC 9110 section 8.4): which of them a client wants, which stored answers may be coded here, and the
//! head and entity tag of a coded copy.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    etag::{list_has, members, stored_etag},
    vary::varies_by,
};

/// Bodies of no more bytes are not coded: they fit into one packet either way.
const SMALL: u64 = 1024;

/// The weight of what is named without one, in thousandths (RFC 9110 section 12.4.2).
const FULL_WEIGHT: u16 = 1000;

/// Fields of the identity body that are wrong for a coded one (RFC 9530 section 6.3 and its forerunners), and the offer
/// of ranges, which are cut from the identity body alone.
const OF_IDENTITY: [HeaderName; 5] = [
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// A coding that is made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

/// The weights that a request gives to the codings we know, in thousandths (RFC 9110 section 12.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    brotli: u16,
    gzip: u16,
    /// Only where it is named.
    identity: Option<u16>,
}

impl Coding {
    /// All of them, the one that makes bodies smallest first.
    pub const ALL: [Self; 2] = [Self::Brotli, Self::Gzip];

    /// The value of `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// What an entity tag of this coding ends with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => "-br\"",
            Self::Gzip => "-gz\"",
        }
    }
}

impl Accepted {
    /// The classes into which requests fall by what they accept, written as the field that stands for them upstream.
    pub const CLASSES: [&str; 4] = ["br, gzip", "br", "gzip", "identity"];

    /// Reads every line of `Accept-Encoding`. A request without it gets what has no coding.
    #[must_use]
    pub fn of(request: &HeaderMap) -> Self {
        let (mut brotli, mut gzip, mut identity, mut others) = (None, None, None, None);
        for line in request.get_all(header::ACCEPT_ENCODING) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let mut parts = member.splitn(2, |byte| *byte == b';');
                let name = parts.next().unwrap_or_default().trim_ascii();
                let weight = Some(weight(parts.next().unwrap_or_default()));
                if name.eq_ignore_ascii_case(b"br") {
                    brotli = weight;
                } else if is_gzip(name) {
                    gzip = weight;
                } else if name.eq_ignore_ascii_case(b"identity") {
                    identity = weight;
                } else if name == b"*" {
                    others = weight;
                }
            }
        }
        let others = others.unwrap_or_default();
        Self { brotli: brotli.unwrap_or(others), gzip: gzip.unwrap_or(others), identity }
    }

    /// The codings that the client wants at least as much as the plain body, most wanted first.
    pub fn wanted(self) -> impl Iterator<Item = Coding> {
        let mut order = Coding::ALL;
        if self.gzip > self.brotli {
            order.reverse();
        }
        order.into_iter().filter(move |coding| self.wants(*coding))
    }

    /// The class of the request, each of whose members accepts each coding in its name, and the plain body. None where
    /// the plain body is refused.
    #[must_use]
    pub fn class(self) -> Option<&'static str> {
        if self.identity == Some(0) {
            return None;
        }
        let [both, brotli, gzip, none] = Self::CLASSES;
        Some(match (self.wants(Coding::Brotli), self.wants(Coding::Gzip)) {
            (true, true) => both,
            (true, false) => brotli,
            (false, true) => gzip,
            (false, false) => none,
        })
    }

    fn wants(self, coding: Coding) -> bool {
        let weight = match coding {
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        };
        weight > 0 && weight >= self.identity.unwrap_or(0)
    }
}

/// Whether everyone of a class accepts the coding of an answer. One that is coded twice is nobody's.
pub(super) fn is_accepted_by(class: &str, response: &HeaderMap) -> bool {
    let mut lines = response.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = lines.next().map(|line| line.as_bytes().trim_ascii()) else { return true };
    let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes()) || (name == "gzip" && is_gzip(coding));
    lines.next().is_none() && (is("identity") || class.split(", ").any(is))
}

/// Whether a copy of this answer may be coded here: text of some length that has no coding, and whose sender does not
/// forbid it (RFC 9111 section 5.2.2.6).
#[must_use]
pub fn is_encodable(status: StatusCode, headers: &HeaderMap) -> bool {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    status == StatusCode::OK
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && announced.is_none_or(is_long_enough)
        && is_text(headers)
        && !forbids_transforming(headers)
}

/// Whether a body of so many bytes is worth a coding.
#[must_use]
pub const fn is_long_enough(length: u64) -> bool {
    length > SMALL
}

/// Says, once, that the answer depends on `Accept-Encoding`.
pub fn vary_by_coding(headers: &mut HeaderMap) {
    if !varies_by(headers, header::ACCEPT_ENCODING.as_str()) {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The head of a coded copy whose body is `length` bytes long.
#[must_use]
pub fn coded_head(plain: &HeaderMap, coding: Coding, length: u64) -> HeaderMap {
    let mut head = plain.clone();
    for name in OF_IDENTITY {
        head.remove(name);
    }
    head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    head.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    match coded_tag(plain, coding) {
        Some(tag) => head.insert(header::ETAG, tag),
        // What is no tag would be the same for two different bodies.
        None => head.remove(header::ETAG),
    };
    head
}

/// The entity tag of the first representation, coded as named or plain, that `If-None-Match` lists. It names the bytes
/// of a coding also while that coding is not at hand: made anew it would have them again.
#[must_use]
pub fn known_tag(
    request: &HeaderMap,
    plain: &HeaderMap,
    codings: impl Iterator<Item = Coding>,
) -> Option<HeaderValue> {
    if !request.contains_key(header::IF_NONE_MATCH) {
        return None;
    }
    let plain_tag = stored_etag(plain).and_then(|tag| HeaderValue::from_bytes(tag).ok())?;
    let is_listed = |tag: &HeaderValue| {
        request.get_all(header::IF_NONE_MATCH).iter().any(|line| list_has(line.as_bytes(), tag.as_bytes()))
    };
    codings
        .filter_map(|coding| coded_tag(plain, coding))
        .find(is_listed)
        .or_else(|| Some(plain_tag).filter(is_listed))
}

/// Adds to `If-Match` the tags as the backend knows them, without the suffix of a coding: a client that has read a coded
/// copy may write under the condition that nothing has changed since.
pub fn add_plain_tags(request: &mut HeaderMap) {
    let mut list: Vec<Vec<u8>> = Vec::new();
    let mut plain = Vec::new();
    for line in request.get_all(header::IF_MATCH) {
        list.push(line.as_bytes().to_vec());
        for tag in members(line.as_bytes()) {
            let stems = Coding::ALL.iter().filter_map(|coding| tag.strip_suffix(coding.suffix().as_bytes()));
            plain.extend(stems.map(|stem| [stem, b"\""].concat()));
        }
    }
    if plain.is_empty() {
        return;
    }
    list.append(&mut plain);
    if let Ok(value) = HeaderValue::from_bytes(&list.join(&b", "[..])) {
        request.insert(header::IF_MATCH, value);
    }
}

/// The entity tag of a coded copy. A strong one tells codings apart (RFC 9110 section 8.8.3.3); a weak one need not.
fn coded_tag(plain: &HeaderMap, coding: Coding) -> Option<HeaderValue> {
    let tag = stored_etag(plain)?;
    if tag.starts_with(b"W/") {
        return HeaderValue::from_bytes(tag).ok();
    }
    let stem = tag.strip_suffix(b"\"")?;
    HeaderValue::from_bytes(&[stem, coding.suffix().as_bytes()].concat()).ok()
}

fn is_gzip(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip")
}

/// The weight among parameters. What cannot be read counts as not there.
fn weight(parameters: &[u8]) -> u16 {
    let text = parameters
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
        .find_map(|parameter| parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")));
    let Some(text) = text else { return FULL_WEIGHT };
    if text.iter().all(|byte| matches!(byte, b'0' | b'.')) {
        return 0;
    }
    let Some(digits) = text.strip_prefix(b"0.").filter(|digits| digits.len() <= 3) else {
        return FULL_WEIGHT;
    };
    let thousandths = [100, 10, 1].iter().zip(digits).try_fold(0_u16, |sum, (unit, digit)| {
        digit.is_ascii_digit().then(|| sum + unit * u16::from(digit - b'0'))
    });
    thousandths.unwrap_or(FULL_WEIGHT)
}

/// Media types that are text: they lose most of their bytes, where pictures and archives lose none.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with(b"text/")
        || essence.ends_with(b"+json")
        || essence.ends_with(b"+xml")
        || matches!(
            essence.as_slice(),
            b"application/json"
                | b"application/xml"
                | b"application/javascript"
                | b"application/x-javascript"
                | b"application/ecmascript"
                | b"application/yaml"
        )
}

/// Whether the sender of a head says `no-transform`: the backend (RFC 9111 section 5.2.2.6) or the client (section
/// 5.2.1.6). What merely looks like it, in a quoted string, forbids too.
#[must_use]
pub fn forbids_transforming(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    let mut members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests;
