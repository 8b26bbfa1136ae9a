//! What models cost and what they take: the shipped table, with `claude.models` laid over it.
//!
//! A model that is not in here has no price and is never routed. Nothing is guessed: a value that neither the table nor
//! the file has is the one that refuses most. What refusals of the API teach is in [`Learned`]; who may take which
//! call is decided in `guard`.

mod learned;
mod shipped;

use std::{collections::BTreeMap, sync::Arc};

use crate::config::{
    Date, Effort, Generation, ModelEntry, Models, OverPrice, PriceRow, Sampling, ThinkingType, UsdPerMillion,
};

pub use self::learned::{Feature, Features, Learned};

/// Tokens of the smallest cacheable prompt of a model that nothing is known of: the largest of the shipped ones.
const MIN_CACHEABLE: u32 = 4_096;
/// The generation whose tokenizer first counts more tokens for the same text.
const COUNTS_MORE: Generation = Generation::new(4, 7);
/// The same text in the tokens of either tokenizer, per thousand of the older one's.
const OLDER_TOKENS: u64 = 1_000;
const NEWER_TOKENS: u64 = 1_300;

/// Why the table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A model that is not in the shipped table lacks a value.
    #[error("model `{id}` is not in the shipped table and has no `{key}`")]
    Missing {
        /// The model.
        id: String,
        /// The key.
        key: &'static str,
    },
    /// Two models answer to one id.
    #[error("`{name}` is an id of both `{first}` and `{second}`")]
    SharedId {
        /// The id.
        name: String,
        /// The one model.
        first: String,
        /// The other model.
        second: String,
    },
    /// Two rows of prices begin on one day.
    #[error("model `{id}` has two rows of prices from {from}")]
    SameDay {
        /// The model.
        id: String,
        /// The day, or `the beginning`.
        from: String,
    },
    /// A limit of zero tokens.
    #[error("model `{id}` has a `{key}` of 0")]
    Zero {
        /// The model.
        id: String,
        /// The key.
        key: &'static str,
    },
    /// The default effort is not among those that are taken.
    #[error("model `{id}` has a default `effort` that is not in its `efforts`")]
    Effort {
        /// The model.
        id: String,
    },
}

/// Every known model.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<Model>,
    /// Places in `models` by id, the dated ones too.
    by_id: BTreeMap<String, usize>,
    learned: Arc<Learned>,
}

/// What one model costs and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its id.
    pub id: String,
    /// Its generation.
    pub generation: Generation,
    /// Tokens of prompt and answer together.
    pub context: u64,
    /// Tokens of answer.
    pub max_output: u64,
    /// Tokens of the smallest prompt that the cache takes.
    pub min_cacheable: u64,
    /// What it takes.
    pub takes: Capabilities,
    /// By their first day, the latest first.
    prices: Vec<Price>,
    also: Vec<String>,
}

/// What a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Words of `output_config.effort`.
    pub efforts: Vec<Effort>,
    /// The effort of a call that names none.
    pub effort: Option<Effort>,
    /// Types of `thinking`.
    pub thinking: Vec<ThinkingType>,
    /// Whether a call that says nothing about thinking gets it.
    pub thinks_by_default: bool,
    /// The greatest effort at which thinking may be disabled or held between tools.
    pub less_thinking_up_to: Effort,
    /// Other models whose thinking blocks it reads.
    pub reads_thinking_of: Vec<String>,
    /// Whether `tool_choice` may force a tool.
    pub forced_tools: bool,
    /// Whether the last message may be the assistant's.
    pub prefill: bool,
    /// Which sampling parameters it takes.
    pub sampling: Sampling,
    /// Whether images are taken.
    pub images: bool,
    /// Whether documents are taken.
    pub documents: bool,
    /// Whether citations are taken.
    pub citations: bool,
    /// Whether the answer's format may be set.
    pub structured_output: bool,
    /// Whether tools may be strict.
    pub strict_tools: bool,
    /// Whether `inference_geo` is taken.
    pub geo: bool,
    /// Types of server tools.
    pub server_tools: Vec<String>,
    /// Words of `anthropic-beta`.
    pub betas: Vec<String>,
}

/// What tokens cost from a day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    from_unix_s: u64,
    base: Rates,
    over: Option<(u64, Rates)>,
    fast: Option<Rates>,
}

/// Pico-dollars per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Prompt that the cache has no part in.
    pub input: u64,
    /// Answer.
    pub output: u64,
    /// Written to the cache for 5 minutes.
    pub cache_write_5m: u64,
    /// Written to the cache for an hour.
    pub cache_write_1h: u64,
    /// Read from the cache.
    pub cache_read: u64,
}

/// What `/v1/models` says about a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Correction {
    /// Its id.
    pub id: String,
    /// Tokens of prompt and answer together.
    pub context: Option<u64>,
    /// Tokens of answer.
    pub max_output: Option<u64>,
}

impl Catalog {
    /// Lays the written entries over the shipped table.
    pub fn compile(written: &Models) -> Result<Self, CatalogError> {
        let mut entries = shipped::table();
        for (id, entry) in written {
            let is_it = |(known, shipped): (&String, &ModelEntry)| {
                (known == id || shipped.also.iter().flatten().any(|also| also == id)).then(|| known.clone())
            };
            let known = entries.iter().find_map(is_it).and_then(|known| entries.get_mut(&known));
            match known {
                Some(known) => lay_over(known, entry),
                None => {
                    entries.insert(id.clone(), entry.clone());
                }
            }
        }
        let models = entries.iter().map(|(id, entry)| Model::of(id, entry)).collect::<Result<Vec<_>, _>>()?;
        let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
        for (index, model) in models.iter().enumerate() {
            for name in std::iter::once(&model.id).chain(&model.also) {
                let other = by_id.insert(name.clone(), index).filter(|other| *other != index);
                if let Some(first) = other.and_then(|other| models.get(other)) {
                    let (first, second) = (first.id.clone(), model.id.clone());
                    return Err(CatalogError::SharedId { name: name.clone(), first, second });
                }
            }
        }
        Ok(Self { models, by_id, learned: Arc::default() })
    }

    /// The same table with what another one has learned, for a reload.
    #[must_use]
    pub fn with_learned(mut self, learned: Arc<Learned>) -> Self {
        self.learned = learned;
        self
    }

    /// The same table with the limits that `/v1/models` tells. Models that are not in the table are ignored: they have
    /// no price.
    #[must_use]
    pub fn corrected(&self, corrections: &[Correction]) -> Self {
        let mut corrected = self.clone();
        for correction in corrections {
            let index = corrected.by_id.get(&correction.id).copied();
            let Some(model) = index.and_then(|index| corrected.models.get_mut(index)) else { continue };
            let told = |value: Option<u64>, known: u64| value.filter(|value| *value > 0).unwrap_or(known);
            model.context = told(correction.context, model.context);
            model.max_output = told(correction.max_output, model.max_output);
        }
        corrected
    }

    /// The model of an id, dated or not.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Model> {
        self.by_id.get(id).and_then(|index| self.models.get(*index))
    }

    /// Every model, by id.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// What refusals of the API have taught.
    #[must_use]
    pub const fn learned(&self) -> &Arc<Learned> {
        &self.learned
    }
}

impl Model {
    fn of(id: &str, entry: &ModelEntry) -> Result<Self, CatalogError> {
        let missing = |key| CatalogError::Missing { id: id.to_owned(), key };
        let limit = |value: Option<u32>, key| match value {
            None => Err(missing(key)),
            Some(0) => Err(CatalogError::Zero { id: id.to_owned(), key }),
            Some(limit) => Ok(u64::from(limit)),
        };
        let takes = Capabilities::of(entry);
        if takes.effort.is_some_and(|effort| !takes.efforts.contains(&effort)) {
            return Err(CatalogError::Effort { id: id.to_owned() });
        }
        Ok(Self {
            id: id.to_owned(),
            generation: entry.generation.ok_or_else(|| missing("generation"))?,
            context: limit(entry.context, "context")?,
            max_output: limit(entry.max_output, "max_output")?,
            min_cacheable: u64::from(entry.min_cacheable.unwrap_or(MIN_CACHEABLE)),
            takes,
            prices: prices(id, &entry.prices)?,
            also: entry.also.clone().unwrap_or_default(),
        })
    }

    /// The row of prices that counts at a time, in seconds since 1970. None before the first one.
    #[must_use]
    pub fn price_at(&self, unix_s: u64) -> Option<&Price> {
        self.prices.iter().find(|price| price.from_unix_s <= unix_s)
    }

    /// Whether two models are of one generation: they take about the same parameters.
    #[must_use]
    pub const fn is_kin(&self, other: &Self) -> bool {
        self.generation.major() == other.generation.major()
    }

    /// The tokens that this model counts where another one counts so many, rounded up.
    #[must_use]
    pub fn tokens_of(&self, tokens: u64, counted_by: &Self) -> u64 {
        let (to, from) = (self.per_thousand(), counted_by.per_thousand());
        if to == from {
            return tokens;
        }
        let scaled = (u128::from(tokens) * u128::from(to)).div_ceil(u128::from(from));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    fn per_thousand(&self) -> u64 {
        if self.generation >= COUNTS_MORE { NEWER_TOKENS } else { OLDER_TOKENS }
    }

    /// Whether it reads the thinking blocks of another model.
    #[must_use]
    pub fn reads_thinking_of(&self, catalog: &Catalog, other: &str) -> bool {
        let is_own = catalog.find(other).map_or(self.id == other, |other| other.id == self.id);
        is_own || self.takes.reads_thinking_of.iter().any(|id| id == other)
    }
}

impl Capabilities {
    fn of(entry: &ModelEntry) -> Self {
        Self {
            efforts: entry.efforts.clone().unwrap_or_default(),
            effort: entry.effort,
            thinking: entry.thinking.clone().unwrap_or_default(),
            thinks_by_default: entry.thinks_by_default.unwrap_or(true),
            less_thinking_up_to: entry.less_thinking_up_to.unwrap_or(Effort::High),
            reads_thinking_of: entry.reads_thinking_of.clone().unwrap_or_default(),
            forced_tools: entry.forced_tools.unwrap_or(false),
            prefill: entry.prefill.unwrap_or(false),
            sampling: entry.sampling.unwrap_or(Sampling::None),
            images: entry.images.unwrap_or(false),
            documents: entry.documents.unwrap_or(false),
            citations: entry.citations.unwrap_or(false),
            structured_output: entry.structured_output.unwrap_or(false),
            strict_tools: entry.strict_tools.unwrap_or(false),
            geo: entry.geo.unwrap_or(false),
            server_tools: entry.server_tools.clone().unwrap_or_default(),
            betas: entry.betas.clone().unwrap_or_default(),
        }
    }
}

impl Price {
    fn of(row: &PriceRow) -> Self {
        let base = rates([row.input, row.output, row.cache_read], row.cache_write_5m, row.cache_write_1h);
        let over_rates = |over: &OverPrice| {
            rates([over.input, over.output, over.cache_read], over.cache_write_5m, over.cache_write_1h)
        };
        Self {
            from_unix_s: row.from.map_or(0, Date::unix_s),
            base,
            over: row.over.as_ref().map(|over| (u64::from(over.tokens), over_rates(over))),
            fast: row
                .fast
                .as_ref()
                .map(|fast| base.dearer(fast.input.picos_per_token(), fast.output.picos_per_token())),
        }
    }

    /// What tokens cost in a call with a prompt of so many, cached ones too.
    #[must_use]
    pub fn rates(&self, prompt_tokens: u64) -> &Rates {
        match &self.over {
            Some((limit, rates)) if prompt_tokens > *limit => rates,
            _ => &self.base,
        }
    }

    /// What tokens cost with `speed: fast`.
    #[must_use]
    pub const fn fast(&self) -> Option<&Rates> {
        self.fast.as_ref()
    }
}

impl Rates {
    /// Rates with another price of input and output; the cache keeps its ratio to input.
    fn dearer(&self, input: u64, output: u64) -> Self {
        let scaled = |rate: u64| match self.input {
            0 => rate,
            base => {
                let rate = (u128::from(rate) * u128::from(input)).div_ceil(u128::from(base));
                u64::try_from(rate).unwrap_or(u64::MAX)
            }
        };
        Self {
            input,
            output,
            cache_write_5m: scaled(self.cache_write_5m),
            cache_write_1h: scaled(self.cache_write_1h),
            cache_read: scaled(self.cache_read),
        }
    }
}

/// Rates from input, output and read, with the written prices of writes or the usual ones.
fn rates(
    [input, output, read]: [UsdPerMillion; 3],
    write_5m: Option<UsdPerMillion>,
    write_1h: Option<UsdPerMillion>,
) -> Rates {
    let input = input.picos_per_token();
    let written = |price: Option<UsdPerMillion>| price.map(UsdPerMillion::picos_per_token);
    Rates {
        input,
        output: output.picos_per_token(),
        cache_write_5m: written(write_5m).unwrap_or_else(|| input.saturating_mul(5).div_ceil(4)),
        cache_write_1h: written(write_1h).unwrap_or_else(|| input.saturating_mul(2)),
        cache_read: read.picos_per_token(),
    }
}

/// The rows of prices, the latest first.
fn prices(id: &str, rows: &[PriceRow]) -> Result<Vec<Price>, CatalogError> {
    if rows.is_empty() {
        return Err(CatalogError::Missing { id: id.to_owned(), key: "prices" });
    }
    let mut days: Vec<Option<Date>> = rows.iter().map(|row| row.from).collect();
    days.sort_unstable();
    if let Some([day, _]) = days.array_windows::<2>().find(|[day, next]| day == next) {
        let from = day.map_or_else(|| "the beginning".to_owned(), |day| day.to_string());
        return Err(CatalogError::SameDay { id: id.to_owned(), from });
    }
    let mut prices: Vec<Price> = rows.iter().map(Price::of).collect();
    prices.sort_unstable_by_key(|price| std::cmp::Reverse(price.from_unix_s));
    Ok(prices)
}

/// Puts every value that is written in the place of the shipped one.
fn lay_over(known: &mut ModelEntry, written: &ModelEntry) {
    fn lay<T: Clone>(known: &mut Option<T>, written: Option<&T>) {
        if let Some(value) = written {
            *known = Some(value.clone());
        }
    }
    // Taken apart, so that a new key cannot be forgotten here.
    let ModelEntry {
        also,
        generation,
        prices,
        context,
        max_output,
        min_cacheable,
        efforts,
        effort,
        thinking,
        thinks_by_default,
        less_thinking_up_to,
        reads_thinking_of,
        forced_tools,
        prefill,
        sampling,
        images,
        documents,
        citations,
        structured_output,
        strict_tools,
        geo,
        server_tools,
        betas,
    } = written;
    lay(&mut known.also, also.as_ref());
    lay(&mut known.generation, generation.as_ref());
    if !prices.is_empty() {
        known.prices.clone_from(prices);
    }
    lay(&mut known.context, context.as_ref());
    lay(&mut known.max_output, max_output.as_ref());
    lay(&mut known.min_cacheable, min_cacheable.as_ref());
    lay(&mut known.efforts, efforts.as_ref());
    lay(&mut known.effort, effort.as_ref());
    lay(&mut known.thinking, thinking.as_ref());
    lay(&mut known.thinks_by_default, thinks_by_default.as_ref());
    lay(&mut known.less_thinking_up_to, less_thinking_up_to.as_ref());
    lay(&mut known.reads_thinking_of, reads_thinking_of.as_ref());
    lay(&mut known.forced_tools, forced_tools.as_ref());
    lay(&mut known.prefill, prefill.as_ref());
    lay(&mut known.sampling, sampling.as_ref());
    lay(&mut known.images, images.as_ref());
    lay(&mut known.documents, documents.as_ref());
    lay(&mut known.citations, citations.as_ref());
    lay(&mut known.structured_output, structured_output.as_ref());
    lay(&mut known.strict_tools, strict_tools.as_ref());
    lay(&mut known.geo, geo.as_ref());
    lay(&mut known.server_tools, server_tools.as_ref());
    lay(&mut known.betas, betas.as_ref());
}

#[cfg(test)]
mod tests;
