//! The configuration in force, with every default written out, as YAML that loads again once its secrets are filled in.

use serde_saphyr::SerializerOptions;

use serde_json::Value;

use super::{Config, Route, RouteCache};

/// Prints a route's rule as YAML, with what differs from the defaults alone.
pub fn brief_yaml(route: &Route) -> String {
    let (Ok(mut rule), Ok(mut plain), Ok(cache)) = (
        serde_json::to_value(route),
        serde_json::to_value(Route::default()),
        serde_json::to_value(RouteCache::default()),
    ) else {
        return String::new();
    };
    if let (Some(plain), true) = (plain.as_object_mut(), route.cache.is_some()) {
        plain.insert("cache".to_owned(), cache);
    }
    prune(&mut rule, &plain);
    serde_saphyr::to_string_with_options(&rule, SerializerOptions::default()).unwrap_or_default()
}

/// Takes out of an object what another has with the same value.
pub(super) fn prune(value: &mut Value, plain: &Value) {
    let (Some(members), Some(plain)) = (value.as_object_mut(), plain.as_object()) else { return };
    members.retain(|name, member| {
        let Some(plain) = plain.get(name) else { return !member.is_null() };
        let differs = member != plain;
        prune(member, plain);
        differs
    });
}

/// Prints every key with its value in force. Secrets print as `***`, which no secret may be.
pub fn effective_yaml(config: &Config) -> String {
    serde_saphyr::to_string_with_options(config, SerializerOptions::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::brief_yaml;
    use crate::config::Route;

    #[test]
    fn a_rule_is_printed_as_it_would_be_written() {
        let written = "path: /api/challenges\ncache:\n  ttl: 30m\n  public: true\n  tags:\n  - challenges\n";
        let route: Route = serde_saphyr::from_str(written).unwrap();

        let printed = brief_yaml(&route);

        assert_eq!(serde_saphyr::from_str::<Route>(&printed).unwrap(), route);
        assert_eq!(printed.lines().count(), written.lines().count(), "{printed}");
    }
}
