//! Keys and entries for the tests of this module.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    entry::NewEntry,
    key::{Key, KeyMaker, KeyRule, Scheme, Target},
    purge::Generation,
    rfc9111::{Meta, Selection, Source},
    tags::Tag,
};

/// Fields from names and values.
pub(super) fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in list.iter().map(field) {
        map.append(name, value);
    }
    map
}

/// The key of a path, perhaps with a query, on `a.example`.
pub(super) fn key(maker: &KeyMaker, target: &str) -> Key {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let target = Target {
        scheme: Scheme::Http,
        authority: b"a.example",
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
    };
    maker.key(&KeyRule::default(), &target, &HeaderMap::new())
}

/// Fresh for so many milliseconds from zero on, without windows.
pub(super) fn meta(lifetime_ms: i64) -> Meta {
    Meta {
        source: Source::Rule,
        born_ms: 0,
        expires_ms: lifetime_ms,
        swr_ms: 0,
        sie_ms: 0,
        disconnect_ms: 0,
        no_cache: false,
        max_stale: true,
        validator: false,
        generated_etag: false,
        date: 0,
        last_modified: None,
    }
}

/// An answer with `size` bytes of body, fresh for a minute.
pub(super) fn answer(key: &Key, size: usize) -> NewEntry {
    NewEntry {
        key: key.clone(),
        route: None,
        status: StatusCode::OK,
        headers: fields(&[("content-type", "text/plain")]),
        body: Bytes::from(vec![b'x'; size]),
        meta: meta(60_000),
        selection: Selection::default(),
        tags: Vec::new(),
        wants_etag: false,
        generation: Generation::default(),
        fetch_ms: 1,
    }
}

/// The same, with tags and a route.
pub(super) fn tagged(key: &Key, tags: &[&str], route: Option<&str>) -> NewEntry {
    NewEntry {
        tags: tags.iter().map(|tag| Tag::new(tag)).collect(),
        route: route.map(Arc::from),
        ..answer(key, 10)
    }
}

/// The same, as the variant for the values that `request` has in the named fields.
pub(super) fn varied(key: &Key, names: &[&str], request: &HeaderMap) -> NewEntry {
    let response = fields(&[("vary", &names.join(", "))]);
    NewEntry { selection: Selection::of(request, &response).unwrap(), ..answer(key, 10) }
}
