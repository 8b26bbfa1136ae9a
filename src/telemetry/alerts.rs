//! Alerts over the process's own numbers: rules, their states, and who is told.
//!
//! The way of a number: `collect` reads it, `rules` judge it, the `engine` keeps a state for each rule and set of labels,
//! the `dispatch` decides who is told what and when, and a `channel` brings each message to its receiver. Engine and
//! dispatch know neither clock nor network, so that the same code runs in the process and over written samples
//! (`samples`). Sending and the store that replicas share come from above, through [`Post`] and [`Claim`].

mod channel;
mod collect;
mod dispatch;
mod engine;
mod format;
mod notice;
mod reading;
mod rules;
mod samples;
mod view;
mod watch;

pub use self::{
    channel::{Channel, ChannelState, ChannelView, Outcome, Post, PostError, Posting},
    notice::Status,
    samples::{Report, SamplesError, try_rules},
    view::{AlertItem, AlertsView, BurnView},
    watch::{Claim, Holding, Releasing, Watch},
};
pub(in crate::telemetry) use self::{collect::budgets_spent, view::Board};
