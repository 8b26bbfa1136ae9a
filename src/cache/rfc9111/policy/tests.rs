//! What is compiled from the configuration.

use std::time::Duration;

use super::{Policy, Rule};
use crate::config::{Cache, CacheMode, ClientReload, RouteCache};

#[test]
fn a_rule_gives_life_to_few_statuses_and_only_moments_to_those_that_are_gone() {
    let rule = Rule {
        ttl: Some(Duration::from_secs(60)),
        ttl_by_status: vec![
            (301, Duration::from_secs(9)),
            (410, Duration::from_secs(99)),
            (500, Duration::from_secs(9)),
        ],
        ..Rule::default()
    };
    for (status, seconds) in [
        (200, Some(60)),
        (203, Some(60)),
        (204, Some(60)),
        (300, Some(60)),
        (301, Some(9)),
        (308, Some(60)),
        (404, Some(5)),
        (410, Some(99)),
        (201, None),
        (206, None),
        (302, None),
        (303, None),
        (307, None),
        (401, None),
        (403, None),
        (405, None),
        (429, None),
        (500, None),
        (503, None),
    ] {
        assert_eq!(rule.lifetime(status), seconds.map(Duration::from_secs), "{status}");
    }
    let short = Rule { ttl: Some(Duration::from_secs(1)), ..Rule::default() };
    assert_eq!(short.lifetime(404), Some(Duration::from_secs(1)));
}

#[test]
fn a_route_overrides_mode_and_size_and_brings_its_rule() {
    let route = RouteCache {
        mode: Some(CacheMode::Observe),
        ttl: Some(Duration::from_secs(60)),
        client_reload: ClientReload::Allow,
        vary: vec!["X-Device".to_owned(), "no name".to_owned()],
        languages: vec!["en".to_owned()],
        media_types: vec!["text/*".to_owned(), "none".to_owned()],
        ..RouteCache::default()
    };
    let cache = Cache {
        targeted: vec!["X-Cache-Control".to_owned(), "no name".to_owned()],
        credentials: vec!["X-Session-Token".to_owned(), "no name".to_owned()],
        ..Cache::default()
    };

    let plain = Policy::from_config(&cache, None);
    let policy = Policy::from_config(&cache, Some(&route));

    assert_eq!((plain.mode, plain.has_rule()), (CacheMode::Serve, false));
    assert_eq!((policy.mode, policy.has_rule()), (CacheMode::Observe, true));
    assert_eq!(policy.targeted, ["x-cache-control"]);
    assert_eq!(policy.credentials, ["x-session-token"]);
    assert_eq!(policy.vary(), ["x-device"]);
    assert!(policy.languages().is_some() && plain.languages().is_none() && plain.vary().is_empty());
    assert_eq!(plain.max_body_bytes, 1 << 20);
    let rule = policy.rule.unwrap();
    assert!(rule.client_reload && rule.origin_keyed && !rule.cookies_keyed);
    assert_eq!((rule.media_types.len(), rule.negative_ttl), (1, Duration::from_secs(5)));
    assert!(!Policy::from_config(&cache, Some(&RouteCache::default())).has_rule());
}
