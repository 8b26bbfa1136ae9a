//! Notes: small values that a process leaves for the next one of the same name, which goes on from them after a restart.
//!
//! A name belongs to the process that holds it, for as long as it says so: two that live at once under one name would
//! both go on from the same note, and overwrite one another's. One that ends in order gives its name back at once.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    fault::{fault_of, words_of},
    server::Conn,
    tier::{Failed, LATE, RedisTier},
    writer::RELEASE,
};
use crate::telemetry::RedisFault;

/// How long a name is held without a word.
const HOLD: Duration = Duration::from_secs(5);

/// Bytes of the longest note.
const MAX_NOTE: usize = 256 * 1024;

/// Takes a name, or holds it for longer, unless another process has it.
const HOLD_ON: &str = "local by=redis.call('GET',KEYS[1]) if by and by~=ARGV[1] then return 0 end \
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1";

/// What taking the name of a note brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedNote {
    /// The name is ours, with what was left under it.
    Ours(Option<Vec<u8>>),
    /// Another process holds the name.
    Taken,
}

/// What is known of a note whose name was held for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldNote {
    /// It is there, and lives for longer.
    There,
    /// There is none.
    Missing,
    /// Another process holds the name.
    Taken,
}

impl RedisTier {
    /// Takes the name of a note and reads what was left there. What is no text at all, or too long, is an empty one.
    pub(in crate::cache) async fn open_note(&self, name: &str) -> Result<OpenedNote, Failed> {
        let (note, mut connection) = self.note(name)?;
        if !self.hold(&mut connection, name, HOLD).await? {
            return Ok(OpenedNote::Taken);
        }
        let mut get = redis::cmd("GETRANGE");
        get.arg(&note).arg(0).arg(MAX_NOTE);
        match timeout(self.server.patience(), get.query_async::<Vec<u8>>(&mut connection)).await {
            Ok(Ok(value)) => Ok(OpenedNote::Ours(Some(value).filter(|value| !value.is_empty()))),
            Ok(Err(error)) => {
                let fault = fault_of(&error);
                self.failed(fault, &words_of(&error));
                let is_stranger = fault == RedisFault::Server;
                if is_stranger { Ok(OpenedNote::Ours(Some(Vec::new()))) } else { Err(Failed) }
            }
            Err(_) => {
                self.failed(RedisFault::Timeout, LATE);
                Err(Failed)
            }
        }
    }

    /// Holds the name of a note for longer, and gives the note another `life`.
    pub(in crate::cache) async fn hold_note(&self, name: &str, life: Duration) -> Result<HeldNote, Failed> {
        let (note, mut connection) = self.note(name)?;
        if !self.hold(&mut connection, name, HOLD).await? {
            return Ok(HeldNote::Taken);
        }
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&note).arg(to_ms(life));
        let is_there: bool = self.within(self.server.patience(), expire.query_async(&mut connection)).await?;
        Ok(if is_there { HeldNote::There } else { HeldNote::Missing })
    }

    /// Writes a note under a name that is held.
    pub(in crate::cache) async fn write_note(
        &self,
        name: &str,
        value: &[u8],
        life: Duration,
    ) -> Result<(), Failed> {
        if value.len() > MAX_NOTE {
            return Err(Failed);
        }
        let (note, mut connection) = self.note(name)?;
        let mut set = redis::cmd("SET");
        set.arg(&note).arg(value).arg("PX").arg(to_ms(life));
        self.stats.bytes_written.add(u64::try_from(value.len()).unwrap_or(0));
        self.within(self.server.patience(), set.query_async::<()>(&mut connection)).await
    }

    /// Gives a name back.
    pub(in crate::cache) async fn leave_note(&self, name: &str) -> Result<(), Failed> {
        let (_, mut connection) = self.note(name)?;
        let mut script = redis::cmd("EVAL");
        script.arg(RELEASE).arg(1).arg(self.names.holder(name)).arg(&self.replica);
        self.within(self.server.patience(), script.query_async(&mut connection)).await
    }

    /// Takes a name for `life`, or holds it for longer; false when another process has it.
    pub(in crate::cache) async fn hold_name(&self, name: &str, life: Duration) -> Result<bool, Failed> {
        let (_, mut connection) = self.note(name)?;
        self.hold(&mut connection, name, life).await
    }

    async fn hold(&self, connection: &mut Conn, name: &str, life: Duration) -> Result<bool, Failed> {
        let mut script = redis::cmd("EVAL");
        script.arg(HOLD_ON).arg(1).arg(self.names.holder(name)).arg(&self.replica).arg(to_ms(life));
        self.within(self.server.patience(), script.query_async(connection)).await
    }

    fn note(&self, name: &str) -> Result<(String, Conn), Failed> {
        let note = self.names.note(name);
        let connection = self.connection(self.shard_of_name(&note)).ok_or(Failed)?;
        Ok((note, connection))
    }
}

fn to_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 48)
}
