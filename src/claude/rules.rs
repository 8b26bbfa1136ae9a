//! What `claude` in the file comes to: the models that are known, the tiers they belong to, and how they are chosen.

use std::sync::Arc;

use http::HeaderValue;

use super::{
    catalog::{Catalog, CatalogError, Model},
    classify::{Classifier, CompileError, Settings, SystemDecision, SystemPattern, SystemRule, Words},
    conversation::ModelIndex,
    gate::Gate,
};
use crate::config::{self, ClaudeMode, ClaudeRoute, ModelTier, Moves, Preference, WordList};

/// The name of calls that come under no path of their own.
pub(super) const DEFAULT_ROUTE: &str = "default";

/// The label of models that are in no table.
pub(super) const OTHER: &str = "other";

/// Why the section cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The models do not fit together.
    #[error("compiling claude.models")]
    Models(#[from] CatalogError),
    /// The rules of the router do not.
    #[error("compiling claude.router")]
    Router(#[from] CompileError),
}

/// The rules, compiled.
pub(super) struct Rules {
    pub(super) config: config::Claude,
    pub(super) catalog: Catalog,
    pub(super) classifier: Classifier,
    pub(super) gate: Gate,
    /// The operator's key, which calls carry in the place of the client's.
    pub(super) api_key: Option<HeaderValue>,
    routes: Vec<Route>,
    default_route: Route,
    /// Names of the catalog's models as labels, by index.
    names: Vec<Arc<str>>,
    tiers: Vec<Option<ModelTier>>,
    candidates: [Vec<ModelIndex>; ModelTier::COUNT],
    other: Arc<str>,
}

/// A rule for a path of calls, compiled.
pub(super) struct Route {
    pub(super) name: Arc<str>,
    pub(super) mode: ClaudeMode,
    pub(super) tier: Option<ModelTier>,
    pub(super) context: config::ContextWindow,
    /// What is taken off the path; empty for all other calls.
    prefix: String,
}

impl Rules {
    pub(super) fn compile(config: config::Claude) -> Result<Self, RulesError> {
        let catalog = Catalog::compile(&config.models)?;
        let classifier = Classifier::compile(classifier_settings(&config))?;
        let names: Vec<Arc<str>> = catalog.models().map(|model| Arc::from(model.id.as_str())).collect();
        let place = |id: &String| {
            let model = catalog.find(id)?;
            index_of(catalog.models().position(|other| other.id == model.id)?)
        };
        let candidates = ModelTier::ALL.map(|tier| config.tiers.of(tier).iter().filter_map(place).collect());
        let tiers = names.iter().map(|name| tier_of(&config, name)).collect();
        let gate = Gate {
            min_saving_ppm: config.gate.min_saving.millionths(),
            max_extra: super::money::MicroUsd::new(
                i64::try_from(config.gate.premium_max_extra.micros()).unwrap_or(i64::MAX),
            ),
        };
        let mut routes: Vec<_> = config.routes.iter().map(|route| Route::new(route, &config)).collect();
        // The longest path that fits is the one that is meant.
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        let default_route = Route {
            name: Arc::from(DEFAULT_ROUTE),
            mode: config.mode,
            tier: None,
            context: config.context.clone(),
            prefix: String::new(),
        };
        let other = Arc::from(OTHER);
        let api_key = config.api_key.as_ref().and_then(|key| {
            let mut value = HeaderValue::from_str(key.expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self {
            config,
            catalog,
            classifier,
            gate,
            api_key,
            routes,
            default_route,
            names,
            tiers,
            candidates,
            other,
        })
    }

    /// The place of a path's route in [`Self::routes`], and the path that the API gets.
    pub(super) fn route<'a>(&self, path: &'a str) -> (usize, &'a str) {
        let fits = |route: &Route| {
            let rest = path.strip_prefix(route.prefix.as_str())?;
            rest.starts_with('/').then_some(rest)
        };
        let mut all = self.routes.iter().enumerate();
        all.find_map(|(place, route)| Some((place, fits(route)?))).unwrap_or((self.routes.len(), path))
    }

    /// The route at a place; that of all other calls where there is none.
    pub(super) fn route_at(&self, place: usize) -> &Route {
        self.routes.get(place).unwrap_or(&self.default_route)
    }

    /// The dearest model of the premium tier's list.
    pub(super) fn premium(&self) -> Option<&Model> {
        let first = self.candidates.last().and_then(|all| all.first())?;
        self.model(*first)
    }

    /// The tier that a requested model stands for; none for one that is never routed.
    pub(super) fn tier_of(&self, requested: &str) -> Option<ModelTier> {
        tier_of(&self.config, requested)
    }

    /// A model of the catalog by its name or one of its others.
    pub(super) fn index(&self, name: &str) -> Option<ModelIndex> {
        let model = self.catalog.find(name)?;
        index_of(self.names.iter().position(|known| **known == *model.id)?)
    }

    /// The model at an index.
    pub(super) fn model(&self, index: ModelIndex) -> Option<&Model> {
        self.catalog.find(self.names.get(usize::from(index))?)
    }

    /// The name of a model as a label.
    pub(super) fn label(&self, index: Option<ModelIndex>) -> &Arc<str> {
        index.and_then(|index| self.names.get(usize::from(index))).unwrap_or(&self.other)
    }

    /// The tier of a model of the catalog.
    pub(super) fn tier_at(&self, index: ModelIndex) -> Option<ModelTier> {
        self.tiers.get(usize::from(index)).copied().flatten()
    }

    /// The models of a tier, those of the requested model's generation first.
    pub(super) fn candidates(&self, tier: ModelTier, requested: Option<&Model>) -> Vec<ModelIndex> {
        let all = self.candidates.get(tier.index()).map(Vec::as_slice).unwrap_or_default();
        let is_kin = |index: &ModelIndex| {
            let model = self.model(*index);
            requested.zip(model).is_none_or(|(requested, model)| requested.is_kin(model))
        };
        let (kin, others): (Vec<_>, Vec<_>) = all.iter().partition(|index| is_kin(index));
        kin.into_iter().chain(others).collect()
    }

    /// The preference of a user.
    pub(super) fn preference(&self, user: Option<&str>) -> Preference {
        let preferences = &self.config.preferences;
        user.and_then(|user| preferences.users.get(user)).copied().unwrap_or(preferences.default)
    }

    /// Whether a call may go from one tier to another.
    pub(super) fn may_move(&self, from: ModelTier, to: ModelTier) -> bool {
        match self.config.moves {
            Moves::Both => true,
            Moves::Down => to <= from,
            Moves::Up => to >= from,
        }
    }
}

impl Route {
    fn new(route: &ClaudeRoute, config: &config::Claude) -> Self {
        Self {
            name: Arc::from(route.path.as_str()),
            mode: route.mode.unwrap_or(config.mode),
            tier: route.tier,
            context: route.context.clone().unwrap_or_else(|| config.context.clone()),
            prefix: route.path.trim_end_matches('/').to_owned(),
        }
    }
}

fn index_of(place: usize) -> Option<ModelIndex> {
    ModelIndex::try_from(place).ok()
}

fn tier_of(config: &config::Claude, requested: &str) -> Option<ModelTier> {
    if config.pass.iter().any(|pattern| fits(pattern, requested)) {
        return None;
    }
    let named =
        ModelTier::ALL.into_iter().find(|tier| config.tiers.of(*tier).iter().any(|id| id == requested));
    let aliased = || {
        let fitting = config.aliases.iter().filter(|(pattern, _)| fits(pattern, requested));
        fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, tier)| *tier)
    };
    named.or_else(aliased)
}

/// Whether a name fits a pattern, in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The classifier's settings from the file.
#[must_use]
pub fn classifier_settings(config: &config::Claude) -> Settings {
    let router = &config.router;
    let replaces = |list: WordList| router.words.replace.contains(&list);
    Settings {
        types: config::MessageType::ALL.map(|kind| router.types.of(kind)),
        small_talk: Words { words: router.words.small_talk.clone(), replace: replaces(WordList::SmallTalk) },
        serious: Words { words: router.words.serious.clone(), replace: replaces(WordList::Serious) },
        threshold: router.economy.threshold.ratio(),
        max_words: usize::try_from(router.economy.max_words).unwrap_or(usize::MAX),
        max_history_words: usize::try_from(router.economy.max_history_words).unwrap_or(usize::MAX),
        systems: router.systems.iter().filter_map(system_rule).collect(),
        strip: router.user_text.strip.clone(),
        after_serious: usize::from(config.hold.after_serious),
    }
}

/// A rule for system prompts, if it says both what it is for and what it decides; the configuration's own checks see to
/// that.
fn system_rule(rule: &config::SystemRule) -> Option<SystemRule> {
    let pattern = match (&rule.contains, &rule.regex) {
        (Some(text), _) => SystemPattern::Contains(text.clone()),
        (None, Some(pattern)) => SystemPattern::Regex(pattern.clone()),
        (None, None) => return None,
    };
    let decision = match (rule.tier, rule.kind) {
        (Some(tier), _) => SystemDecision::Tier(tier),
        (None, Some(kind)) => SystemDecision::Type(kind),
        (None, None) => return None,
    };
    Some(SystemRule { pattern, decision })
}

#[cfg(test)]
mod tests {
    use super::{Rules, fits};
    use crate::config::{self, ClaudeRoute, ModelTier, Moves};

    fn rules(config: config::Claude) -> Rules {
        Rules::compile(config).unwrap()
    }

    #[test]
    fn patterns_fit_whole_names() {
        let table = [
            ("claude-*haiku*", "claude-3-haiku-20240307", true),
            ("claude-*haiku*", "claude-haiku", true),
            ("claude-*haiku*", "my-claude-haiku", false),
            ("claude-haiku", "claude-haiku-4-5", false),
            ("*", "", true),
            ("a*b*c", "a-c-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_tier_of_a_model_is_that_of_its_list_else_of_its_longest_alias() {
        let mut config = config::Claude::default();
        config.aliases.insert("claude-sonnet-mini*".to_owned(), ModelTier::Economy);
        let rules = rules(config);

        assert_eq!(rules.tier_of("claude-haiku-5-5"), Some(ModelTier::Economy));
        assert_eq!(rules.tier_of("claude-3-opus-20240229"), Some(ModelTier::Premium));
        assert_eq!(rules.tier_of("claude-sonnet-mini-1"), Some(ModelTier::Economy));
        assert_eq!(rules.tier_of("claude-fable-1"), None);
        assert_eq!(rules.tier_of("gpt-4"), None);
    }

    #[test]
    fn candidates_of_the_same_generation_come_first() {
        let rules = rules(config::Claude::default());
        let names = |requested: &str| {
            let requested = rules.catalog.find(requested);
            let candidates = rules.candidates(ModelTier::Economy, requested);
            candidates.into_iter().map(|index| rules.label(Some(index)).to_string()).collect::<Vec<_>>()
        };

        assert_eq!(names("claude-sonnet-5-5"), ["claude-haiku-5-5", "claude-haiku-4-5"]);
        assert_eq!(names("claude-sonnet-4-6"), ["claude-haiku-4-5", "claude-haiku-5-5"]);
    }

    #[test]
    fn a_route_takes_its_path_off() {
        let route = |path: &str| ClaudeRoute { path: path.to_owned(), ..ClaudeRoute::default() };
        let rules = rules(config::Claude {
            routes: vec![route("/reports"), route("/reports/weekly/")],
            ..config::Claude::default()
        });
        let table = [
            ("/reports/v1/messages", "/reports", "/v1/messages"),
            ("/reports/weekly/v1/messages", "/reports/weekly/", "/v1/messages"),
            ("/reportsv1/messages", "default", "/reportsv1/messages"),
            ("/v1/messages", "default", "/v1/messages"),
        ];
        for (path, name, rest) in table {
            let (route, left) = rules.route(path);

            assert_eq!((rules.route_at(route).name.as_ref(), left), (name, rest), "{path}");
        }
    }

    #[test]
    fn directions_may_be_forbidden() {
        let down = rules(config::Claude { moves: Moves::Down, ..config::Claude::default() });

        assert!(down.may_move(ModelTier::Standard, ModelTier::Economy));
        assert!(!down.may_move(ModelTier::Standard, ModelTier::Premium));
    }
}
