//! GraphQL over HTTP, as far as a cache must understand it: whether a request certainly only reads, and whether an answer
//! is free of errors.
//!
//! "Certainly" leaves out what a server might read in another way: batches, persisted queries without their text,
//! documents with schema definitions, parameters in the URL that could stand in the body's place, and names of operations
//! that select none or several.

use std::io::{BufReader, Read};

use apollo_parser::{
    Lexer, Parser, TokenKind,
    cst::{Definition, OperationDefinition},
};
use http::{HeaderMap, header};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::Value;

/// Tokens of a document. A query written by hand has hundreds, a generated one a few thousand.
const MAX_TOKENS: usize = 8192;

/// Braces, brackets and parentheses within each other. The parser uses the stack.
const MAX_DEPTH: usize = 48;

/// Bytes of an answer that are looked through once its coding is off, so that a bomb costs no more than a large answer.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Parameters of the URL that servers take in the place of the body's members.
const PARAMETERS: [&[u8]; 4] = [b"query", b"operation", b"variables", b"extensions"];

/// Whether the body is one request whose selected operation is a query. `query` is what the backend gets to see of the
/// URL's own query.
#[must_use]
pub fn is_query(body: &[u8], query: Option<&[u8]>) -> bool {
    Value::parse(body).is_some_and(|value| is_read(&value, query))
}

/// The same for a body that is read already.
pub(super) fn is_read(request: &Value<'_>, query: Option<&[u8]>) -> bool {
    if query.is_some_and(may_replace_body) {
        return false;
    }
    let Some(Value::Text(document)) = request.member("query") else { return false };
    let has_map = |name| matches!(request.member(name), None | Some(Value::Null | Value::Map(_)));
    if !has_map("variables") || !has_map("extensions") {
        return false;
    }
    match request.member("operationName") {
        None | Some(Value::Null) => selects_query(document, None),
        Some(Value::Text(name)) => selects_query(document, Some(name)),
        Some(_) => false,
    }
}

/// Whether a parameter may be one that servers read; names with escapes may be any.
fn may_replace_body(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let begins =
            |known: &&[u8]| name.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
        name.contains(&b'%') || name.contains(&b'+') || PARAMETERS.iter().any(begins)
    })
}

/// Whether the operation that the name selects is a query.
fn selects_query(document: &str, name: Option<&str>) -> bool {
    if !is_bounded(document) {
        return false;
    }
    let tree = Parser::new(document).recursion_limit(2 * MAX_DEPTH).token_limit(2 * MAX_TOKENS).parse();
    if tree.errors().len() > 0 {
        return false;
    }
    let mut operations = Vec::new();
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(_) => {}
            // Only a schema has those; what a server makes of one beside a query is its own affair.
            _ => return false,
        }
    }
    let is_named = |operation: &&OperationDefinition| {
        name.is_none_or(|name| operation.name().is_some_and(|known| known.text().as_str() == name))
    };
    let mut selected = operations.iter().filter(is_named);
    match (selected.next(), selected.next()) {
        (Some(operation), None) => operation.operation_type().is_none_or(|kind| {
            kind.query_token().is_some()
                && kind.mutation_token().is_none()
                && kind.subscription_token().is_none()
        }),
        _ => false,
    }
}

/// Whether the document is sound in its tokens and within the bounds, so that the parser never meets its own: behind them
/// it goes on with what is left.
fn is_bounded(document: &str) -> bool {
    let mut depth = 0_usize;
    for (count, token) in Lexer::new(document).enumerate() {
        let Ok(token) = token else { return false };
        if count >= MAX_TOKENS {
            return false;
        }
        match token.kind() {
            TokenKind::LCurly | TokenKind::LBracket | TokenKind::LParen => depth += 1,
            TokenKind::RCurly | TokenKind::RBracket | TokenKind::RParen => {
                let Some(less) = depth.checked_sub(1) else { return false };
                depth = less;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
    }
    depth == 0
}

/// Whether an answer is a JSON map without `errors`. One in a coding that is not understood here is not.
#[must_use]
pub fn is_clean_answer(headers: &HeaderMap, body: &[u8]) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let answer = match (codings.next(), codings.next()) {
        (None, _) => serde_json::from_slice(body).ok(),
        (Some(coding), None) => match coding.as_bytes() {
            b"gzip" | b"x-gzip" => read(flate2::read::MultiGzDecoder::new(body)),
            b"br" => read(brotli::Decompressor::new(body, 4096)),
            b"identity" => serde_json::from_slice(body).ok(),
            _ => None,
        },
        (Some(_), Some(_)) => None,
    };
    answer.is_some_and(|Answer { has_errors }| !has_errors)
}

fn read(decoder: impl Read) -> Option<Answer> {
    serde_json::from_reader(BufReader::new(decoder.take(MAX_ANSWER))).ok()
}

/// What is looked for in an answer: `errors` at its top that are not none.
struct Answer {
    has_errors: bool,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a GraphQL answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let mut has_errors = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "errors" {
                has_errors |= map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Answer { has_errors })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::{HeaderMap, HeaderValue, header};
    use proptest::{collection::vec, prelude::any, proptest, sample::select};

    use super::{MAX_DEPTH, MAX_TOKENS, is_clean_answer, is_query, selects_query};

    fn body(document: &str, rest: &str) -> Vec<u8> {
        format!("{{\"query\":{}{rest}}}", serde_json::to_string(document).unwrap()).into_bytes()
    }

    #[test]
    fn what_is_certainly_a_query_is_told_from_all_else() {
        let two = "query A { a } mutation B { b }";
        let table = [
            ("{ a }", "", true),
            ("query { a }", "", true),
            ("query A($x: [Int!]! = [1, 2]) @live { a(x: $x) { ...F } } fragment F on T { b }", "", true),
            ("# mutation\n{ mutation }", "", true),
            ("query A { a }", r#","operationName":"A","variables":{"x":1},"extensions":null"#, true),
            ("{ a }", r#","operationName":null,"variables":null"#, true),
            (two, r#","operationName":"A""#, true),
            (two, r#","operationName":"B""#, false),
            (two, r#","operationName":"C""#, false),
            (two, r#","operationName":"""#, false),
            (two, "", false),
            ("query A { a } query A { b }", r#","operationName":"A""#, false),
            ("query A { a }", r#","operationName":"B""#, false),
            ("{ a }", r#","operationName":"A""#, false),
            ("{ a }", r#","operationName":1"#, false),
            ("{ a }", r#","variables":[1]"#, false),
            ("{ a }", r#","variables":"{}""#, false),
            ("{ a }", r#","extensions":1"#, false),
            ("mutation { a }", "", false),
            ("mutation A { a }", r#","operationName":"A""#, false),
            ("subscription { a }", "", false),
            ("\"a description\" mutation { a }", "", false),
            ("fragment F on T { a }", "", false),
            ("type Q { a: Int } { a }", "", false),
            ("extend type Q { a: Int } query A { a }", "", false),
            ("{ a } }", "", false),
            ("{ a", "", false),
            ("query", "", false),
            ("Query { a }", "", false),
            ("{ a(x: \"\\q\") }", "", false),
            ("{ a } \u{e9}", "", false),
            ("", "", false),
        ];

        for (document, rest, expected) in table {
            assert_eq!(is_query(&body(document, rest), None), expected, "{document} {rest}");
        }
    }

    #[test]
    fn bodies_that_are_not_one_request_with_its_text_are_no_queries() {
        for text in [
            "",
            "{}",
            "[]",
            r#"[{"query":"{ a }"}]"#,
            r#"{"query":null}"#,
            r#"{"query":["{ a }"]}"#,
            r#"{"query":"{ a }","query":"mutation { a }"}"#,
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}"#,
            r#"{"Query":"{ a }"}"#,
            "query { a }",
        ] {
            assert!(!is_query(text.as_bytes(), None), "{text}");
        }
    }

    #[test]
    fn parameters_of_the_url_that_could_stand_in_the_bodys_place_end_the_certainty() {
        let body = body("{ a }", "");
        for query in ["", "op=A", "x=query&y=1", "requery=1"] {
            assert!(is_query(&body, Some(query.as_bytes())), "{query}");
        }
        for query in [
            "query=mutation{a}",
            "x=1&Query=1",
            "%71uery=1",
            "operationName=B",
            "variables",
            "query[]=1",
            "a+b=1",
        ] {
            assert!(!is_query(&body, Some(query.as_bytes())), "{query}");
        }
    }

    #[test]
    fn size_and_depth_of_a_document_are_bounded() {
        let nested = |depth: usize| format!("{}a{}", "{ a ".repeat(depth), "}".repeat(depth));
        let list = |depth: usize| format!("{{ a(x: {}1{}) }}", "[".repeat(depth), "]".repeat(depth));
        let wide = |count: usize| format!("{{{}}}", " a".repeat(count));

        assert!(selects_query(&nested(MAX_DEPTH), None));
        assert!(!selects_query(&nested(MAX_DEPTH + 1), None));
        assert!(selects_query(&list(MAX_DEPTH - 2), None));
        assert!(!selects_query(&list(MAX_DEPTH), None));
        assert!(!selects_query(&"{".repeat(60_000), None));
        assert!(!selects_query(&"[".repeat(60_000), None));
        assert!(selects_query(&wide(MAX_TOKENS / 4), None));
        assert!(!selects_query(&wide(MAX_TOKENS), None));
    }

    fn encoded(coding: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        headers
    }

    #[test]
    fn answers_with_errors_are_told_from_clean_ones() {
        let table = [
            (r#"{"data":{"errors":[1]}}"#, true),
            (r#"{"data":null}"#, true),
            (r#"{"data":{},"errors":null}"#, true),
            (r#"{"data":{},"errors":[{"message":"no"}]}"#, false),
            (r#"{"errors":[]}"#, false),
            (r#"{"data":{},"\u0065rrors":[1]}"#, false),
            (r#"{"errors":null,"errors":[1]}"#, false),
            (r#"[{"data":{}}]"#, false),
            (r#"{"data":{}"#, false),
            (r#"{"data":{}} x"#, false),
            ("<html>", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_clean_answer(&HeaderMap::new(), text.as_bytes()), expected, "{text}");
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            assert_eq!(is_clean_answer(&encoded("gzip"), &gzip.finish().unwrap()), expected, "{text}");
            let mut brotli = Vec::new();
            brotli::CompressorWriter::new(&mut brotli, 4096, 3, 20).write_all(text.as_bytes()).unwrap();
            assert_eq!(is_clean_answer(&encoded("br"), &brotli), expected, "{text}");
        }
        assert!(!is_clean_answer(&encoded("zstd"), b"{}"));
        assert!(!is_clean_answer(&encoded("gzip"), b"{}"));
    }

    #[test]
    fn a_bomb_is_not_unpacked_to_its_end() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{\"data\":\"").unwrap();
        for _ in 0..20 {
            gzip.write_all(&vec![b'a'; 1024 * 1024]).unwrap();
        }
        gzip.write_all(b"\"}").unwrap();

        assert!(!is_clean_answer(&encoded("gzip"), &gzip.finish().unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64), text in "\\PC{0,40}") {
            let _ = is_query(&bytes, Some(&bytes));
            let _ = is_clean_answer(&encoded("gzip"), &bytes);
            let _ = is_clean_answer(&encoded("br"), &bytes);
            selects_query(&text, None);
        }

        #[test]
        fn no_words_make_the_parser_panic_or_take_a_write_for_a_read(
            words in vec(select(vec![
                "query", "mutation", "subscription", "fragment", "on", "{", "}", "(", ")", "[", "]", "!", "$", "a", "b",
                ":", "=", "@", "...", "\"s\"", "\"\"\"b\"\"\"", "1", "1.5", ",", "#c\n", "&", "|", "true", "null",
                "type", "extend", "schema", "directive", "enum", "input", "union", "scalar", "interface", "implements",
                "A", "$x: Int", "{ a }", "query A", "\u{feff}",
            ]), 0..24),
            name in select(vec![None, Some("A"), Some("b"), Some("")]),
        ) {
            let document = words.join(" ");
            selects_query(&document, name);

            let with_write = format!("mutation M {{ a }} {document}");

            assert!(!selects_query(&with_write, None), "{with_write}");
            assert!(!selects_query(&with_write, Some("M")), "{with_write}");
        }
    }
}
