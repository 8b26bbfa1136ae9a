//! Paths as operators may see them: enough to tell requests apart, never an id of a user in full.

use crate::config::{PathSegment, PathTemplate};

/// A path with the values of its parameters cut. Without a route all but its first segment may be one.
#[must_use]
pub fn masked(path: &str, route: Option<&str>) -> String {
    let template = route.and_then(|route| PathTemplate::parse(route).ok());
    let segments = template.as_ref().map(|template| template.segments.as_slice());
    let mut text = String::new();
    for (index, part) in path.split('/').skip(1).enumerate() {
        let is_plain = match segments {
            Some(segments) => {
                matches!(segments.get(index), Some(PathSegment::Literal(literal)) if literal == part)
            }
            None => index == 0,
        };
        text.push('/');
        if is_plain {
            text.push_str(part);
        } else {
            // Enough to tell entries apart, never the whole.
            let kept = (part.chars().count() / 2).min(4);
            text.extend(part.chars().take(kept));
            text.push('…');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn what_may_name_a_user_is_cut() {
        let user = Some("/api/user/{id}");
        let table = [
            ("/api/challenges", Some("/api/challenges"), "/api/challenges"),
            ("/api/user/7f3a9c01", user, "/api/user/7f3a…"),
            ("/api/user/42", user, "/api/user/4…"),
            ("/api/user/é", user, "/api/user/…"),
            ("/files/a/bcdef", Some("/files/{rest*}"), "/files/…/bc…"),
            ("/static/app.js", Some("unmatched"), "/static/app…"),
            ("/", None, "/"),
        ];

        for (path, route, shown) in table {
            assert_eq!(masked(path, route), shown, "{path}");
        }
    }
}
