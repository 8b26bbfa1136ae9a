//! The limits that hold for the requests of a route, each with the place where it was said. Like the settings of a rule
//! they are read from the configuration as it is written out.

use serde_json::Value;

use super::rule::{Said, Setting};
use crate::config::{self, flow_yaml};

/// Keys of `ingress` that bound a single request, in the order of its way.
const LIMITS: [&str; 15] = [
    "limits.request_line",
    "limits.header_size",
    "limits.headers_size",
    "limits.headers",
    "limits.header_timeout",
    "limits.body",
    "limits.body_idle",
    "limits.body_rate",
    "upstream.in_flight",
    "upstream.queue",
    "upstream.wait",
    "upstream.connect",
    "upstream.first_byte",
    "upstream.body_idle",
    "slow_after",
];

/// Those that a route may set for itself.
const OF_ROUTES: [&str; 4] = ["limits.body", "upstream.in_flight", "upstream.first_byte", "slow_after"];

/// The limits for the requests of a route; without one those of paths that no route names.
pub(super) fn limits(section: &config::Ingress, route: Option<(usize, &config::Route)>) -> Vec<Setting> {
    let value = |section: &config::Ingress| serde_json::to_value(section).unwrap_or_default();
    let (written, plain) = (value(section), value(&config::Ingress::default()));
    let route = route.map(|(index, route)| (index, serde_json::to_value(route).unwrap_or_default()));
    let mut list = Vec::with_capacity(LIMITS.len());
    for name in LIMITS {
        let key = name.rsplit('.').next().unwrap_or(name);
        let own = route
            .as_ref()
            .filter(|_| OF_ROUTES.contains(&name))
            .and_then(|(index, route)| Some((index, route.get(key).filter(|own| !own.is_null())?)));
        if let Some((index, own)) = own {
            let place = format!("{}.{key}", super::route_place(*index));
            // A route has its own bound on what is in flight within that of all.
            let name = if key == "in_flight" { key } else { name };
            list.push(Setting { name: name.to_owned(), value: flow_yaml(own), place, from: Said::Route });
            if key != "in_flight" {
                continue;
            }
        }
        let (Some(value), plain) = (at(&written, name), at(&plain, name)) else { continue };
        let from = if plain == Some(value) { Said::Default } else { Said::Ingress };
        let place = format!("ingress.{name}");
        list.push(Setting { name: name.to_owned(), value: flow_yaml(value), place, from });
    }
    list
}

fn at<'a>(section: &'a Value, name: &str) -> Option<&'a Value> {
    name.split('.').try_fold(section, |value, key| value.get(key))
}

#[cfg(test)]
mod tests {
    use super::{LIMITS, limits};
    use crate::{config, ingress::Said};

    #[test]
    fn each_limit_says_who_set_it() {
        let text = "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  limits: { body: 2MiB, headers: 50 }\n  routes:\n    \
                    - { path: /a, body: 1KiB, first_byte: 5s, in_flight: 3 }\n";
        let section = config::load_str("proxy.yaml", text, &|_| None).unwrap().config.ingress.unwrap();
        let find = |list: &[super::Setting], name: &str| {
            let found = list.iter().find(|setting| setting.name == name).unwrap();
            (found.value.clone(), found.place.clone(), found.from)
        };

        let own = limits(&section, Some((0, &section.routes[0])));
        let others = limits(&section, None);

        let place = |key: &str| format!("ingress.routes[0].{key}");
        assert_eq!(find(&own, "limits.body"), ("1KiB".into(), place("body"), Said::Route));
        assert_eq!(find(&own, "upstream.first_byte"), ("5s".into(), place("first_byte"), Said::Route));
        assert_eq!(find(&own, "in_flight"), ("3".into(), place("in_flight"), Said::Route));
        assert_eq!(find(&own, "upstream.in_flight").2, Said::Default);
        assert_eq!(
            find(&own, "limits.headers"),
            ("50".into(), "ingress.limits.headers".into(), Said::Ingress)
        );
        assert_eq!(
            find(&others, "limits.body"),
            ("2MiB".into(), "ingress.limits.body".into(), Said::Ingress)
        );
        // Were a key renamed, its limit would be missing.
        assert_eq!(others.len(), LIMITS.len());
    }
}
