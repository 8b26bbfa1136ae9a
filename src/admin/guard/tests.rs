//! Hostile hosts, foreign pages and wrong tokens.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use super::{FAILURES, Hosts, PEERS, Token, check_no_page, check_site};
use crate::config::Secret;

fn request(uri: &str, hosts: &[&str]) -> Request<()> {
    let mut request = Request::builder().uri(uri);
    for host in hosts {
        request = request.header(header::HOST, *host);
    }
    request.body(()).unwrap()
}

fn bearer(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
}

fn peer(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn token() -> Token {
    Token::new(Some(&Secret::new("s3cret-token")))
}

#[test]
fn only_our_own_names_are_answered() {
    let hosts = Hosts::new(&["Admin.Coach.Example.".to_owned()]);
    let good = [
        "127.0.0.1",
        "127.0.0.1:9090",
        "10.1.2.3:80",
        "[::1]",
        "[fd00::1]:9090",
        "localhost",
        "LOCALHOST:9090",
        "localhost.",
        "coach-api.default.svc",
        "coach-api.default.svc:9090",
        "x.y.svc.cluster.local",
        "x.y.svc.cluster.local.",
        "admin.coach.example",
        "ADMIN.coach.example.:1",
    ];
    for host in good {
        assert!(hosts.check(&request("/", &[host])).is_ok(), "{host}");
    }

    let bad = [
        "",
        " ",
        ":9090",
        "evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.01",
        "127.0.0.1:80:80",
        "127.0.0.1:x",
        "127.0.0.1@evil.example",
        "localhost.evil.example",
        "localhost:9090@evil.example",
        "svc",
        ".svc",
        "a..svc",
        "evil.example/.svc",
        "evil example.svc",
        "x.svc.cluster.local.evil.example",
        "xsvc",
        "[::1",
        "::1",
        "[::1]x",
        "[evil.example]",
        "[]",
        "localhost, evil.example",
        "admin.coach.example.evil",
    ];
    for host in bad {
        let refused = hosts.check(&request("/", &[host])).unwrap_err();
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST, "{host:?}");
    }
}

#[test]
fn an_absolute_target_and_a_second_host_are_checked_too() {
    let hosts = Hosts::new(&[]);

    assert!(hosts.check(&request("http://127.0.0.1:9090/", &[])).is_ok());
    assert!(hosts.check(&request("http://127.0.0.1:9090/", &["127.0.0.1:9090"])).is_ok());
    assert!(hosts.check(&request("/", &[])).is_err());
    assert!(hosts.check(&request("http://evil.example/", &[])).is_err());
    assert!(hosts.check(&request("http://evil.example/", &["localhost"])).is_err());
    assert!(hosts.check(&request("http://localhost/", &["evil.example"])).is_err());
    assert!(hosts.check(&request("/", &["localhost", "localhost"])).is_err());
}

#[test]
fn a_page_of_another_site_may_only_link_to_the_page() {
    let fetched = |site: &str, mode: &str| {
        HeaderMap::from_iter([
            ("sec-fetch-site".parse().unwrap(), HeaderValue::from_str(site).unwrap()),
            ("sec-fetch-mode".parse().unwrap(), HeaderValue::from_str(mode).unwrap()),
        ])
    };

    assert!(check_site(&HeaderMap::new(), "/metrics").is_ok());
    assert!(check_site(&fetched("same-origin", "cors"), "/metrics").is_ok());
    assert!(check_site(&fetched("none", "navigate"), "/metrics").is_ok());
    assert!(check_site(&fetched("cross-site", "navigate"), "/").is_ok());
    assert!(check_site(&fetched("cross-site", "navigate"), "/metrics").is_err());
    assert!(check_site(&fetched("cross-site", "no-cors"), "/").is_err());
}

#[test]
fn a_page_never_writes() {
    let origin = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static("http://127.0.0.1:9091"))]);

    assert!(check_no_page(&HeaderMap::new()).is_ok());
    assert_eq!(check_no_page(&origin).unwrap_err().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn only_the_whole_token_passes() {
    let token = token();
    assert!(token.check(&bearer("Bearer s3cret-token"), Some(peer("10.0.0.1"))).is_ok());
    assert!(token.check(&bearer("bearer  s3cret-token "), Some(peer("10.0.0.1"))).is_ok());

    let bad = [
        "",
        "Bearer",
        "Bearer ",
        "Basic s3cret-token",
        "s3cret-token",
        "Bearer s3cret-toke",
        "Bearer s3cret-tokenx",
    ];
    for (index, value) in bad.into_iter().enumerate() {
        let refused = token.check(&bearer(value), Some(peer(&format!("10.0.1.{index}")))).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{value:?}");
    }

    let mut twice = bearer("Bearer s3cret-token");
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer s3cret-token"));
    assert!(token.check(&twice, Some(peer("10.0.0.1"))).is_err());
    assert!(Token::new(None).check(&HeaderMap::new(), None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_ten_wrong_tokens_waits_a_minute() {
    let token = token();
    for _ in 0..FAILURES {
        let refused = token.check(&bearer("Bearer guess"), Some(peer("10.0.0.1"))).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }

    let refused = token.check(&bearer("Bearer s3cret-token"), Some(peer("10.0.0.1"))).unwrap_err();
    let other = token.check(&bearer("Bearer s3cret-token"), Some(peer("10.0.0.2")));
    tokio::time::advance(Duration::from_secs(61)).await;
    let later = token.check(&bearer("Bearer s3cret-token"), Some(peer("10.0.0.1")));

    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(other.is_ok());
    assert!(later.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_network_counts_as_one_peer_and_a_mapped_address_as_itself() {
    let token = token();
    for index in 0..FAILURES {
        let _ = token.check(&bearer("Bearer guess"), Some(peer(&format!("2001:db8::{index:x}"))));
        let _ = token.check(&bearer("Bearer guess"), Some(peer("::ffff:10.0.0.1")));
    }

    let status = |address| {
        token.check(&bearer("Bearer s3cret-token"), Some(peer(address))).err().map(|reply| reply.status())
    };
    assert_eq!(status("2001:db8::ffff"), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(status("2001:db8:0:1::1"), None);
    assert_eq!(status("10.0.0.1"), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(status("10.0.0.2"), None);
}

#[tokio::test(start_paused = true)]
async fn many_peers_cost_bounded_memory() {
    let token = token();

    for index in 0..u32::try_from(PEERS).unwrap() + 500 {
        let address = IpAddr::V4((0x0a00_0000 + index).into());
        let _ = token.check(&bearer("Bearer guess"), Some(address));
    }

    assert_eq!(token.failures.0.lock().len(), PEERS);
}

#[test]
fn a_missing_token_is_no_guess() {
    let token = token();

    for _ in 0..100 {
        let refused = token.check(&HeaderMap::new(), Some(peer("10.0.0.1"))).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }

    assert!(token.failures.0.lock().is_empty());
}

#[test]
fn the_guard_does_not_print_its_token() {
    assert!(!format!("{:?}", token()).contains("s3cret"));
}
