//! Manifests with the proxy beside the backend, and without it again: texts in, texts out, no cluster.
//!
//! `stream` finds the objects in the texts, `work` decides what becomes of them, and `yaml` puts the difference into
//! the texts, so that documents that do not change keep every byte, and those that do keep their comments, their order
//! and their quotes. What was changed in an object is kept in an annotation of it (`record`), by which it is taken back.
//! A second injection takes the first back before it begins, and so is an upgrade. Nothing is written where something
//! is wrong.

mod note;
mod output;
mod patch;
mod pod;
mod record;
mod service;
mod settings;
mod sidecar;
mod stream;
mod work;
mod yaml;

use self::{output::Pair, stream::Stream, work::Said};

pub use self::{
    note::{Level, Note},
    settings::{Flags, IMAGE, Mode, Refused, SETTINGS, Settings},
    stream::{Id, Source},
};

/// What became of texts.
#[derive(Debug)]
pub struct Outcome {
    before: Vec<Source>,
    after: Vec<Source>,
    pairs: Vec<Pair>,
    /// What there is to say.
    pub notes: Vec<Note>,
}

/// Puts the proxy beside every backend of the texts; or says everything that is wrong with them.
pub fn inject(sources: &[Source], settings: &Settings) -> Result<Outcome, Vec<Note>> {
    with(sources, |stream, said| work::inject(stream, settings, said))
}

/// Takes the proxy out of the texts; or says everything that is wrong with them.
pub fn uninject(sources: &[Source]) -> Result<Outcome, Vec<Note>> {
    with(sources, |stream, said| {
        work::undo(stream, said);
    })
}

fn with(sources: &[Source], change: impl FnOnce(&mut Stream, &mut Said)) -> Result<Outcome, Vec<Note>> {
    let mut stream = Stream::read(sources)?;
    let mut said = Said::default();
    change(&mut stream, &mut said);
    said.group();
    if said.has_problem {
        return Err(said.notes);
    }
    let (after, lost) = match stream.write() {
        Ok(written) => written,
        Err(problems) => {
            said.notes.extend(problems);
            return Err(said.notes);
        }
    };
    said.notes.extend(lost);
    let pairs =
        stream.objects.into_iter().map(|object| Pair { id: object.id, old: object.old, new: object.new });
    Ok(Outcome { before: sources.to_vec(), after, pairs: pairs.collect(), notes: said.notes })
}

impl Outcome {
    /// Whether any text differs.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.before != self.after
    }

    /// The manifests, as one stream.
    #[must_use]
    pub fn yaml(&self) -> String {
        output::yaml(self)
    }

    /// Every object as JSON, one after the other.
    #[must_use]
    pub fn json(&self) -> String {
        output::json(self)
    }

    /// A strategic merge patch for each object that changes, with how it is applied.
    #[must_use]
    pub fn patch(&self) -> String {
        output::patch(self)
    }

    /// The difference, as `diff -u` prints it.
    #[must_use]
    pub fn diff(&self) -> String {
        output::diff(self)
    }
}
