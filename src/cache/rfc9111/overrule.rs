//! What an answer says against being stored, and a rule does not listen to. Everything else that it says stays.

use super::{freshness::Said, policy::Policy};
use crate::config::Override;

/// Takes the words off that the rule overrules, and says whether there were any. Nothing is overruled for a status that
/// the rule gives no life: such an answer is none of its business.
pub(super) fn overrule(said: &mut Said, policy: &Policy) -> bool {
    let Some(rule) = policy.rule.as_ref().filter(|rule| !rule.overrides.is_empty()) else { return false };
    if rule.lifetime(said.status).is_none_or(|ttl| ttl.is_zero()) {
        return false;
    }
    let before = said.directives.clone();
    let mut is_any = false;
    for word in &rule.overrides {
        match word {
            // Behind a quote that does not end there may be any other word.
            Override::NoStore => said.directives.no_store = said.directives.is_broken,
            Override::Private => said.directives.private = false,
            Override::NoCache => said.directives.no_cache = false,
            Override::MaxAge if said.lifetime_ms.is_some_and(|lifetime_ms| lifetime_ms <= 0) => {
                said.lifetime_ms = None;
                is_any = true;
            }
            // What becomes of cookies is settled where they are looked for.
            Override::MaxAge | Override::SetCookie => {}
        }
    }
    is_any || before != said.directives
}
