//! Whole conversations through the plane's own code, against a provider that keeps a cache per model and bills: does
//! routing save, and does it ever lose? Calls are read, classified, decided, changed and settled by what serves them in
//! earnest; only the connection is missing, and time is simulated.
//!
//! The traffic is assumed, not measured: five mixes of messages, three lengths of system prompt, three of conversation,
//! replies after about a minute or about seven. Nothing thinks. All conversations with one system prompt and one speed go
//! through one plane, as one backend's do, which learns as it goes. The texts are those that the router is trained on.

mod provider;
mod talk;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request};

use self::{
    provider::{ASKED, Arrived, Provider, Seen},
    talk::{Data, Setting, Talk},
};
use super::{
    Claude, Core, Parts,
    asked::{self, Read},
    books::Books,
    money::PicoUsd,
    pipeline,
    plan::{self, Case},
    relay::Relay,
    send::Ready,
};
use crate::{
    config::{self, BackendAddress, ModelTier, Moves, Usd},
    net::{Body, Context, drain::Drain},
    telemetry::{Facts, Telemetry},
    upstream::{Client, Upstream},
};

/// 2026-11-23, in seconds since 1970.
const NOW_S: u64 = 1_795_392_000;

/// What a conversation may cost more by rounding.
const ROUNDING: PicoUsd = PicoUsd::new(10_000_000);

/// What a conversation may lose by chance, in thousandths: a visit puts off the moment at which the life of its marks is
/// chosen anew, and by then other gaps have been seen.
const CHANCE_PERMILLE: u32 = 6;

/// A `premium_max_extra` that long prompts exceed.
const CAP: Usd = Usd::from_micros(30_000);

/// What a call may then cost more at the most: the estimate before it may be wrong by a tenth.
const CAP_ALLOWED: PicoUsd = PicoUsd::new(33_000_000_000);

/// How conversations are routed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Policy {
    /// Never moved, with breakpoints.
    Twin,
    /// As shipped.
    Routed,
    /// As shipped, with `moves: down`.
    Down,
    /// To the tier that the content wants, at any price.
    Ungated,
    /// As shipped, with a `premium_max_extra` that binds.
    Capped,
}

/// One call and what it came to.
struct Charged {
    cost: PicoUsd,
    tier: Option<ModelTier>,
    wanted: Option<ModelTier>,
    /// What it costs without a cache: on the requested model, and on the one that answered.
    uncached: [PicoUsd; 2],
}

/// One conversation under one policy.
struct Running<'a> {
    talk: &'a Talk,
    head: String,
    messages: String,
    seen: Seen,
    charged: Vec<Charged>,
    pending: Option<(Arc<Ready>, Body)>,
}

impl<'a> Running<'a> {
    fn new(talk: &'a Talk, system: &str) -> Self {
        let text = serde_json::to_string(system).unwrap();
        let system_json =
            if talk.has_blocks { format!(r#"[{{"type":"text","text":{text}}}]"#) } else { text };
        let head = format!(r#"{{"model":"{ASKED}","max_tokens":2048,"system":{system_json},"messages":["#);
        Self {
            talk,
            head,
            messages: String::new(),
            seen: Seen::new(system),
            charged: Vec::new(),
            pending: None,
        }
    }

    fn say(&mut self, role: &str, text: &str) {
        if !self.messages.is_empty() {
            self.messages.push(',');
        }
        let json = serde_json::to_string(text).unwrap();
        self.messages.push_str(&format!(r#"{{"role":"{role}","content":{json}}}"#));
        self.seen.add(text);
    }

    fn body(&self) -> String {
        let number = self.talk.number;
        format!(r#"{}{}],"metadata":{{"user_id":"user-{number}"}}}}"#, self.head, self.messages)
    }
}

/// A plane with a provider behind it.
struct Bench {
    core: Arc<Core>,
    provider: Provider,
    policy: Policy,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let mut config = config::Claude::default();
        match policy {
            Policy::Down => config.moves = Moves::Down,
            Policy::Capped => config.gate.premium_max_extra = CAP,
            Policy::Twin | Policy::Routed | Policy::Ungated => {}
        }
        let facts =
            Facts { service: String::new(), version: "0", pod: String::new(), config_hash: String::new() };
        let telemetry = Telemetry::new(&config::Telemetry::default(), facts, None);
        let address = BackendAddress::Tcp { host: "localhost".to_owned(), port: 1 };
        let upstream = Upstream::new(
            address,
            &Claude::upstream_settings(&config),
            &config::Limits::default(),
            telemetry.upstream("claude"),
        );
        let parts = Parts {
            telemetry,
            upstream: Arc::clone(&upstream),
            drain: Drain::new(),
            key: [7; 32],
            sums: None,
            states: None,
            chance: || 0,
        };
        let claude = Claude::new(&config, parts).unwrap();
        let provider = Provider::new(claude.rules.load().catalog.clone());
        let core = Arc::new(Core { claude, client: Client::new(upstream) });
        Self { core, provider, policy }
    }

    /// Runs conversations to their ends, in the order of time. `wanted` names the tiers of calls that are sent to them.
    async fn run<'a>(
        &mut self,
        talks: &'a [Talk],
        system: &str,
        wanted: Option<&[Vec<Charged>]>,
    ) -> Vec<Vec<Charged>> {
        let mut running: Vec<Running<'a>> = talks.iter().map(|talk| Running::new(talk, system)).collect();
        let mut events: BinaryHeap<_> =
            (0..talks.len()).map(|place| Reverse((talks[place].start_ms, place, false))).collect();
        let mut now_ms = 0;
        while let Some(Reverse((at_ms, place, is_answered))) = events.pop() {
            tokio::time::advance(Duration::from_millis(at_ms - now_ms)).await;
            now_ms = at_ms;
            let one = &mut running[place];
            if is_answered {
                let (ready, mut answer) = one.pending.take().unwrap();
                while answer.chunk().await.is_some() {}
                drop((ready, answer));
                if let Some(next) = one.talk.turns.get(one.charged.len()) {
                    let place_of_answer = one.charged.len() - 1;
                    let answered = one.talk.turns[place_of_answer].answered;
                    let number = one.talk.number + place_of_answer;
                    one.say("assistant", &talk::answer(answered, number, next.coach.as_deref()));
                    events.push(Reverse((now_ms + next.gap_ms, place, false)));
                }
                continue;
            }
            let turn = one.charged.len();
            let named = wanted.map(|wanted| wanted[place][turn].wanted);
            self.call(one, named, now_ms).await;
            // About 80 tokens a second, after half a second.
            let takes_ms = 500 + one.talk.turns[turn].answered * 1_000 / 80;
            events.push(Reverse((now_ms + takes_ms, place, true)));
        }
        running.into_iter().map(|one| one.charged).collect()
    }

    /// One call, up to the answer that is on its way.
    async fn call(&mut self, one: &mut Running<'_>, named: Option<Option<ModelTier>>, now_ms: u64) {
        let turn = &one.talk.turns[one.charged.len()];
        one.say("user", &turn.user);
        let own = one.body();
        let mut request = Request::post("/v1/messages")
            .header("x-api-key", "key")
            .header("anthropic-version", "2023-06-01");
        match named {
            Some(Some(tier)) => request = request.header("x-touchline-tier", tier.as_str()),
            _ if self.policy == Policy::Twin => request = request.header("x-touchline-tier", "off"),
            _ => {}
        }
        let request = request.body(Body::full(Bytes::from(own.clone()))).unwrap();
        let ready = self.decided(request).await;
        let changes = &ready.plan.changes;
        let body = if changes.is_none() {
            ready.asked.body.clone()
        } else {
            changes.apply(&ready.rules, &ready.asked)
        };
        let arrived = Arrived::read(std::str::from_utf8(&body).unwrap(), &own);
        let now_s = NOW_S + now_ms / 1_000;
        let billed = self.provider.answer(&arrived, &one.seen, turn.answered, now_s);
        ready.books.note(|call| call.status = 200);
        let answer = Relay::new(Body::full(billed.body), &HeaderMap::new(), ready.books.clone());
        let decision = &ready.plan.decision;
        let uncached = [ASKED, arrived.model()]
            .map(|model| self.provider.uncached(model, &one.seen, turn.answered, now_s));
        one.charged.push(Charged {
            cost: billed.cost,
            tier: decision.tier,
            wanted: decision.wanted,
            uncached,
        });
        one.pending = Some((ready, Body::of(answer)));
    }

    /// A call as the plane decides it, settled so far as that is done before it is sent.
    async fn decided(&self, request: Request<Body>) -> Arc<Ready> {
        let (core, rules) = (Arc::clone(&self.core), self.core.claude.rules.load_full());
        let (begun, body) = pipeline::begin(&core, &rules, request, Context::internal());
        let books = Books::open(&core, &rules, pipeline::record(&rules, rules.route_at(usize::MAX), &begun));
        let read = asked::read(body, &begun.head, &rules.config.inspect, &core.claude.key).await.unwrap();
        let Read::Asked(asked) = read else { panic!("a call passes unread") };
        let case = Case { core: &core, rules: &rules, begun: &begun, asked: &asked };
        let plan = plan::plan(&case, &books).await;
        let ready = Arc::new(Ready { core, rules, begun, asked, plan, books });
        plan::reserve(&ready).await.unwrap();
        ready
    }
}

type Results = BTreeMap<Policy, Vec<Vec<Charged>>>;

/// Conversations of one backend under every policy.
fn simulate(talks: &[Talk]) -> Results {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let system = talk::system(talks[0].setting.system);
    let mut policies = vec![Policy::Twin, Policy::Routed, Policy::Down, Policy::Ungated];
    if talks[0].setting.system == 8_000 {
        policies.push(Policy::Capped);
    }
    let mut results = Results::new();
    for policy in policies {
        let wanted = results.get(&Policy::Routed).filter(|_| policy == Policy::Ungated);
        let charged = runtime.block_on(async {
            let mut bench = Bench::new(policy);
            let charged = bench.run(talks, &system, wanted.map(Vec::as_slice)).await;
            bench.check_books(&charged);
            charged
        });
        results.insert(policy, charged);
    }
    results
}

impl Bench {
    /// What the plane tells of its calls is what the provider bills, and what it says they would have cost as they were
    /// asked for is what they cost there without a cache, as these clients have none.
    fn check_books(&self, charged: &[Vec<Charged>]) {
        let calls = || charged.iter().flatten();
        let spent: PicoUsd = calls().map(|call| call.cost).sum();
        let asked: PicoUsd = calls().map(|call| call.uncached[0]).sum();
        let told = self.core.claude.stats.totals().all;

        assert_eq!(told.calls, calls().count() as u64);
        assert_eq!(i128::from(told.cost), spent.picos());
        assert_eq!(i128::from(told.baseline_requested), asked.picos());
    }
}

/// One conversation, by what it costs.
struct Outcome {
    setting: Setting,
    /// All on the requested model, without a cache.
    sonnet: PicoUsd,
    twin: PicoUsd,
    down: PicoUsd,
    routed: PicoUsd,
    ungated: PicoUsd,
    /// On the tiers that the content wants, without a cache.
    uncached: PicoUsd,
    /// Calls that went to a tier when routed as shipped.
    calls: [usize; ModelTier::COUNT],
    /// The most that a call on the premium tier has cost beyond the same turn of the twin: as shipped, and capped.
    extra: [PicoUsd; 2],
    /// Calls on the premium tier with the cap, where there is one.
    capped: Option<usize>,
}

impl Outcome {
    fn new(talk: &Talk, results: &Results, place: usize) -> Self {
        let of = |policy: Policy| results[&policy][place].as_slice();
        let cost = |policy| of(policy).iter().map(|call| call.cost).sum();
        let uncached = |policy, which: usize| of(policy).iter().map(|call| call.uncached[which]).sum();
        let on = |calls: &[Charged], tier| calls.iter().filter(|call| call.tier == Some(tier)).count();
        let extra = |calls: &[Charged]| {
            let pairs = calls.iter().zip(of(Policy::Twin));
            let premium = pairs.filter(|(call, _)| call.tier == Some(ModelTier::Premium));
            premium.map(|(call, twin)| call.cost - twin.cost).max().unwrap_or(PicoUsd::ZERO)
        };
        let capped = results.get(&Policy::Capped).map(|all| all[place].as_slice());
        Self {
            setting: talk.setting,
            sonnet: uncached(Policy::Twin, 0),
            twin: cost(Policy::Twin),
            down: cost(Policy::Down),
            routed: cost(Policy::Routed),
            ungated: cost(Policy::Ungated),
            uncached: uncached(Policy::Ungated, 1),
            calls: ModelTier::ALL.map(|tier| on(of(Policy::Routed), tier)),
            extra: [extra(of(Policy::Routed)), capped.map_or(PicoUsd::ZERO, extra)],
            capped: capped.map(|calls| on(calls, ModelTier::Premium)),
        }
    }
}

/// A saving against Sonnet without a cache, in tenths of a percent.
fn saved(all: &[&Outcome], cost: impl Fn(&Outcome) -> PicoUsd) -> i128 {
    let sum = |of: &dyn Fn(&Outcome) -> PicoUsd| all.iter().map(|one| of(one).picos()).sum::<i128>();
    1_000 - sum(&cost) * 1_000 / sum(&|one| one.sonnet)
}

/// What a policy costs in a conversation.
type Cost = fn(&Outcome) -> PicoUsd;

/// The policies of the table, in the order of its columns.
const COLUMNS: [(&str, Cost); 5] = [
    ("never moved, cached", |one| one.twin),
    ("`moves: down`", |one| one.down),
    ("as shipped", |one| one.routed),
    ("three tiers at any price, cached", |one| one.ungated),
    ("three tiers at any price, uncached", |one| one.uncached),
];

fn replayed() -> Vec<Outcome> {
    let data = Data::load();
    let mut backends: BTreeMap<(u64, u64), Vec<Talk>> = BTreeMap::new();
    for (setting, number) in talk::settings().into_iter().zip(1..) {
        let backend = backends.entry((setting.system, setting.mean_gap_s)).or_default();
        backend.push(Talk::new(&data, setting, number));
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            backends.values().map(|talks| (talks, scope.spawn(|| simulate(talks)))).collect();
        let outcomes = threads.into_iter().flat_map(|(talks, thread)| {
            let results = thread.join().unwrap();
            talks.iter().zip(0..).map(move |(talk, place)| Outcome::new(talk, &results, place))
        });
        outcomes.collect()
    })
}

/// The savings in percent of every setting and of all, for `docs/benchmarks.md`.
#[expect(clippy::print_stdout, reason = "`--nocapture` is how the table is asked for")]
fn print(all: &[&Outcome]) {
    let percent = |tenths: i128| format!("{}.{}", tenths / 10, (tenths % 10).abs());
    let row = |of: &[&Outcome]| COLUMNS.map(|(_, cost)| percent(saved(of, cost))).join(" | ");
    println!(
        "| system | replies | turns | small talk, assessments | {} | economy, standard, premium |",
        COLUMNS.map(|(name, _)| name).join(" | ")
    );
    println!("|---|---|---|---|{}---|", "---|".repeat(COLUMNS.len()));
    for one in all {
        let Setting { mix: (small, assessments), system, turns, mean_gap_s } = one.setting;
        let calls = one.calls.map(|count| count.to_string()).join(", ");
        println!(
            "| {system} | {mean_gap_s} s | {turns} | {small} %, {assessments} % | {} | {calls} |",
            row(&[one])
        );
    }
    let sum = |tier: usize| all.iter().map(|one| one.calls[tier]).sum::<usize>();
    println!("| all | | | | {} | {}, {}, {} |", row(all), sum(0), sum(1), sum(2));
    println!("| median | | | | {} | |", COLUMNS.map(|(_, cost)| percent(median(all, cost))).join(" | "));
    let dollars = |cost: PicoUsd| cost.to_micros().micros();
    let premium: PicoUsd = all.iter().map(|one| one.routed - one.down).sum();
    let spent: PicoUsd = all.iter().map(|one| one.down).sum();
    println!("premium: {} beyond {} micro-USD", dollars(premium), dollars(spent));
}

fn median(all: &[&Outcome], cost: Cost) -> i128 {
    let mut shares: Vec<i128> = all.iter().map(|one| saved(&[one], cost)).collect();
    shares.sort_unstable();
    shares[shares.len() / 2]
}

#[test]
fn routing_saves_and_no_conversation_costs_more_than_its_unrouted_twin() {
    let outcomes = replayed();
    let all: Vec<&Outcome> = outcomes.iter().collect();
    print(&all);
    let [twin, down, _, ungated, uncached] = COLUMNS.map(|(_, cost)| median(&all, cost));

    for one in &all {
        let setting = one.setting;
        let allowed = one.twin.times(CHANCE_PERMILLE, 1000) + ROUNDING;
        let lost = one.down - one.twin;
        assert!(lost <= allowed, "moves down cost {} of {} more: {setting:?}", lost, one.twin);
        // More than its twin costs only what the content wants better.
        if one.calls[ModelTier::Premium.index()] == 0 {
            assert!(one.routed - one.twin <= allowed, "without premium: {setting:?}");
        }
        assert!(one.extra[0] <= PicoUsd::new(250_000_000_000), "{setting:?}: {:?}", one.extra);
        assert!(one.extra[1] <= CAP_ALLOWED, "{setting:?}: {:?}", one.extra);
    }
    let medians = [uncached, ungated, twin, down];
    assert!(medians.is_sorted(), "{medians:?}");
    let losers = all.iter().filter(|one| one.down > one.twin + ROUNDING).count();
    assert!(losers <= 1, "{losers} of {} conversations cost more for their moves down", all.len());
    let in_all = COLUMNS.map(|(_, cost)| saved(&all, cost));
    let [twin_in_all, down_in_all, shipped_in_all, ..] = in_all;
    assert!(down_in_all > twin_in_all && down_in_all >= 600, "{in_all:?}");
    // One call in twenty is an assessment here, and each of these reads all of its conversation at twice the price.
    assert!(shipped_in_all >= 600, "{in_all:?}");
    let bound = |count: fn(&Outcome) -> usize| {
        all.iter().filter(|one| one.capped.is_some()).map(|one| count(one)).sum()
    };
    let (free, capped): (usize, usize) = (bound(|one| one.calls[2]), bound(|one| one.capped.unwrap_or(0)));
    assert!(capped < free, "a bound on what premium may cost holds calls back: {capped} of {free}");
}
