//! Tests of the purge marks: what each scope ends, what is in flight, what is forgotten.

use http::HeaderMap;
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest, sample::select, strategy::Strategy};

use super::{Generation, MAX_MARKS, Marks, Verdict};
use crate::cache::{
    entry::{Entry, NewEntry},
    identity::IdentityTag,
    key::{KeyMaker, KeyRule, Scheme, Target},
    samples::{key, tagged},
    scope::Scope,
};

const DAY_MS: u64 = 86_400_000;

struct Fixture {
    maker: KeyMaker,
    marks: Marks,
}

fn marks() -> Fixture {
    let maker = KeyMaker::default();
    Fixture { marks: Marks::new(maker.clone(), DAY_MS), maker }
}

impl Fixture {
    /// An entry of a fetch that begins now.
    fn entry(&self, target: &str, tags: &[&str]) -> Entry {
        let generation = self.marks.generation();
        Entry::new(NewEntry { generation, ..tagged(&key(&self.maker, target), tags, Some("/users/{id}")) })
    }

    fn purge(&self, scope: &Scope) -> Generation {
        self.marks.purge(scope, false, 0)
    }
}

#[test]
fn each_scope_ends_what_it_names_and_nothing_else() {
    let url = |text: &str| Scope::url(text).unwrap();
    let prefix = |text: &str| Scope::prefix(text).unwrap();
    let dead = [
        Scope::All,
        Scope::tag("user:7"),
        Scope::tag("all"),
        Scope::tag("user:*"),
        Scope::tag("us*"),
        Scope::tag("*"),
        Scope::Route("/users/{id}".into()),
        url("/users/7?a=1"),
        url("http://A.example/users/7?a=1"),
        prefix("/users/"),
        prefix("/"),
        prefix("http://a.example/us"),
    ];
    let alive = [
        Scope::tag("user:"),
        Scope::tag("user:70"),
        Scope::tag("user:70*"),
        Scope::tag("/users/{id}"),
        Scope::Route("user:7".into()),
        url("/users/7"),
        url("/users/7?a=1&b"),
        url("http://b.example/users/7?a=1"),
        prefix("/users/7/"),
        prefix("http://b.example/users/"),
    ];

    for (scopes, verdict) in [(&dead[..], Verdict::Dead), (&alive[..], Verdict::Alive)] {
        for scope in scopes {
            let fixture = marks();
            let before = fixture.entry("/users/7?a=1", &["all", "user:7"]);

            fixture.purge(scope);

            let after = fixture.entry("/users/7?a=1", &["all", "user:7"]);
            assert_eq!(fixture.marks.verdict(&before), verdict, "{scope:?}");
            assert_eq!(fixture.marks.verdict(&after), Verdict::Alive, "{scope:?}");
        }
    }
}

#[test]
fn an_identity_ends_with_all_its_answers_and_nobody_elses() {
    let fixture = marks();
    let rule = KeyRule::default();
    let entry = |path: &'static str, tag: Option<IdentityTag>| {
        let target = Target { scheme: Scheme::Http, authority: b"a", path: path.as_bytes(), query: None };
        let key = fixture.maker.key_of(&rule, &target, &HeaderMap::new(), tag.as_ref());
        Entry::new(NewEntry { generation: fixture.marks.generation(), ..tagged(&key, &[], None) })
    };
    let tag =
        |identity: u8, subject: u8| Some(IdentityTag { identity: [identity; 32], subject: [subject; 32] });
    let before = fixture.marks.generation();
    let mine = [entry("/a", tag(1, 7)), entry("/b", tag(1, 7)), entry("/a", tag(2, 7))];
    let others = [entry("/a", tag(3, 8)), entry("/a", None)];

    fixture.marks.purge(&Scope::Identity([7; 32]), true, 0);
    assert!(mine.iter().all(|entry| fixture.marks.verdict(entry) == Verdict::Stale));
    fixture.purge(&Scope::Identity([7; 32]));

    assert!(mine.iter().all(|entry| fixture.marks.verdict(entry) == Verdict::Dead));
    assert!(others.iter().all(|entry| fixture.marks.verdict(entry) == Verdict::Alive));
    assert_eq!(fixture.marks.verdict(&entry("/a", tag(1, 7))), Verdict::Alive, "fetched after it");
    let late = NewEntry { generation: before, ..tagged(mine[0].key(), &[], None) };
    assert_eq!(fixture.marks.verdict(&Entry::new(late)), Verdict::Dead, "in flight when it was purged");
    // An identity whose name is that of the subject is not the subject.
    fixture.purge(&Scope::Identity([3; 32]));
    assert_eq!(fixture.marks.verdict(&others[0]), Verdict::Alive);
}

#[test]
fn what_was_fetched_before_and_comes_after_a_purge_is_dead() {
    let fixture = marks();
    let before_fetch = fixture.marks.generation();

    fixture.purge(&Scope::tag("t"));
    let arrived =
        Entry::new(NewEntry { generation: before_fetch, ..tagged(&key(&fixture.maker, "/"), &["t"], None) });

    assert_eq!(fixture.marks.verdict(&arrived), Verdict::Dead);
}

#[test]
fn an_answer_takes_the_place_of_older_copies_unless_it_was_ended_itself() {
    let target = "/users/7?a=1";
    let purges = [
        (Scope::url("/users/7").unwrap(), true),
        (Scope::tag("user:7"), true),
        (Scope::url(target).unwrap(), false),
        (Scope::Route("/users/{id}".into()), false),
        (Scope::prefix("/users/").unwrap(), false),
        (Scope::All, false),
    ];
    for (scope, lives) in purges {
        let fixture = marks();
        let key = key(&fixture.maker, target);
        let older = fixture.entry(target, &[]);
        let since = fixture.marks.generation();
        fixture.purge(&scope);

        let from = fixture.marks.supersede(&key, "/users/{id}", since, 0);

        assert_eq!(from.is_some(), lives, "{scope:?}");
        let Some(generation) = from else { continue };
        assert_eq!(fixture.marks.verdict(&older), Verdict::Dead, "{scope:?}");
        let newer = Entry::new(NewEntry { generation, ..tagged(&key, &[], Some("/users/{id}")) });
        assert_eq!(fixture.marks.verdict(&newer), Verdict::Alive, "{scope:?}");
        fixture.purge(&Scope::url(target).unwrap());
        assert_eq!(fixture.marks.verdict(&newer), Verdict::Dead, "{scope:?}");
    }
}

#[test]
fn a_soft_purge_makes_stale_and_a_later_hard_one_ends() {
    for scope in [Scope::All, Scope::tag("t"), Scope::tag("*"), Scope::prefix("/").unwrap()] {
        let fixture = marks();
        let entry = fixture.entry("/x", &["t"]);

        fixture.marks.purge(&scope, true, 0);
        assert_eq!(fixture.marks.verdict(&entry), Verdict::Stale, "{scope:?}");
        assert_eq!(fixture.marks.verdict(&entry), Verdict::Stale, "the finding is remembered");
        fixture.purge(&Scope::tag("other"));
        assert_eq!(fixture.marks.verdict(&entry), Verdict::Stale, "{scope:?}");
        fixture.purge(&scope);
        assert_eq!(fixture.marks.verdict(&entry), Verdict::Dead, "{scope:?}");
    }
}

#[test]
fn a_finding_lasts_only_until_the_next_purge() {
    let fixture = marks();
    let entry = fixture.entry("/x", &["t"]);

    fixture.purge(&Scope::tag("other"));
    assert_eq!(fixture.marks.verdict(&entry), Verdict::Alive);
    fixture.purge(&Scope::tag("t"));

    assert_eq!(fixture.marks.verdict(&entry), Verdict::Dead);
}

#[test]
fn marks_older_than_any_entry_go_and_never_bring_one_back() {
    let fixture = marks();
    let before = fixture.entry("/x", &["t"]);
    fixture.marks.purge(&Scope::tag("t"), false, 1_000);
    let between = fixture.entry("/y", &["t"]);
    fixture.marks.purge(&Scope::prefix("/z").unwrap(), false, 2_000);

    fixture.marks.purge(&Scope::tag("other"), false, DAY_MS + 900);
    assert_eq!(fixture.marks.count(), 3);
    fixture.marks.purge(&Scope::tag("other"), false, DAY_MS * 2);

    assert_eq!(fixture.marks.count(), 2, "the prefix and the last name");
    assert_eq!(fixture.marks.verdict(&before), Verdict::Dead);
    assert_eq!(fixture.marks.verdict(&between), Verdict::Alive);
    fixture.marks.purge(&Scope::tag("other"), false, DAY_MS * 3 + 1);
    assert_eq!(fixture.marks.count(), 1);
    assert_eq!(fixture.marks.verdict(&between), Verdict::Dead, "older than what is kept");
}

#[test]
fn too_many_marks_end_what_is_older_than_the_dropped_half() {
    let fixture = marks();
    let old = fixture.entry("/x", &[]);
    for n in 0..MAX_MARKS {
        fixture.purge(&Scope::Tag(n.to_string()));
    }
    let new = fixture.entry("/x", &[]);
    assert_eq!(fixture.marks.verdict(&old), Verdict::Alive);

    fixture.purge(&Scope::tag("one more"));

    assert!(fixture.marks.count() <= MAX_MARKS / 2 + 1);
    assert_eq!(fixture.marks.verdict(&old), Verdict::Dead);
    assert_eq!(fixture.marks.verdict(&new), Verdict::Alive);
}

#[test]
fn a_hard_purge_of_everything_needs_no_marks() {
    let fixture = marks();
    for n in 0..100 {
        fixture.purge(&Scope::Tag(n.to_string()));
    }

    fixture.purge(&Scope::All);

    assert_eq!(fixture.marks.count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Fetch { target: &'static str, tag: &'static str },
    Purge { scope: Scope, soft: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let target = select(vec!["/a", "/a?q", "/a/b", "/b"]);
    let tag = select(vec!["x", "x:1", "x:2", "y"]);
    let fetch = (target, tag).prop_map(|(target, tag)| Step::Fetch { target, tag });
    let scopes = ["x", "x:1", "x*", "x:*", "y"].map(Scope::tag).to_vec();
    let urls = ["/a", "/a?q", "http://a.example/b", "http://o.example/b"]
        .map(|text| Scope::url(text).unwrap())
        .to_vec();
    let prefixes = ["/a", "/a/", "/"].map(|text| Scope::prefix(text).unwrap()).to_vec();
    let scope = select([scopes, urls, prefixes, vec![Scope::All]].concat());
    let purge = (scope, any::<bool>()).prop_map(|(scope, soft)| Step::Purge { scope, soft });
    vec(proptest::prop_oneof![fetch, purge], 0..40)
}

/// Whether a purge is about an answer, by the words of its scope.
fn is_about(scope: &Scope, target: &str, tag: &str) -> bool {
    let path = target.split('?').next().unwrap();
    match scope {
        Scope::All => true,
        Scope::Tag(text) => text == tag,
        Scope::TagPrefix(text) => tag.starts_with(text.as_str()),
        Scope::Route(_) | Scope::Identity(_) => false,
        Scope::Url { authority, path: wanted, query } => {
            let on_host = authority.as_ref().is_none_or(|host| host == b"a.example");
            let query = query.as_ref().map(|query| String::from_utf8(query.clone()).unwrap());
            on_host
                && wanted == path.as_bytes()
                && query.as_deref() == target.split_once('?').map(|(_, query)| query)
        }
        Scope::Prefix { authority: _, path: wanted } => path.as_bytes().starts_with(wanted),
    }
}

proptest! {
    #[test]
    fn agrees_with_a_list_of_all_purges(steps in steps(), look_often in any::<bool>()) {
        let fixture = marks();
        let mut entries: Vec<(Entry, &str, &str, Verdict)> = Vec::new();

        for step in steps {
            match step {
                Step::Fetch { target, tag } => {
                    entries.push((fixture.entry(target, &[tag]), target, tag, Verdict::Alive));
                }
                Step::Purge { scope, soft } => {
                    fixture.marks.purge(&scope, soft, 0);
                    for (_, target, tag, verdict) in &mut entries {
                        if is_about(&scope, target, tag) && *verdict != Verdict::Dead {
                            *verdict = if soft { Verdict::Stale } else { Verdict::Dead };
                        }
                    }
                }
            }
            if look_often {
                for (entry, _, _, verdict) in &entries {
                    prop_assert_eq!(fixture.marks.verdict(entry), *verdict);
                }
            }
        }

        for (entry, target, tag, verdict) in &entries {
            prop_assert_eq!(fixture.marks.verdict(entry), *verdict, "{} {}", target, tag);
        }
    }
}
