//! What Redis says of itself (`INFO`): read now and then, to be shown and for nothing else. So a right that is missing, or
//! an answer that is late or makes no sense, is no fault of the tier: then these figures are not known.

use std::time::Duration;

use redis::Value;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{
    fault::{fault_of, words_of},
    server::Conn,
    tier::{LATE, RedisTier},
};
use crate::telemetry::{RedisFault, RedisInfo};

/// How often it is read.
const EVERY: Duration = Duration::from_secs(10);

/// How long a server that refuses it is left alone: it writes a log of its refusals.
const REFUSED: Duration = Duration::from_secs(3600);

/// The longest word that is believed, and how many versions of the servers of a cluster are told.
const LONGEST: usize = 32;
const VERSIONS: usize = 4;

/// What one server says. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    version: Option<String>,
    clients: Option<u64>,
    bytes: Option<u64>,
    memory: Option<String>,
    commands: Option<u64>,
}

impl RedisTier {
    /// Reads for ever what the server says of itself, beside the purges, which wait for nothing. Dropping it is safe.
    pub(super) async fn read_info(&self, mut connection: Conn) {
        let info = redis::cmd("INFO");
        loop {
            let asked = info.query_async::<Value>(&mut connection);
            let (info, rest) = match timeout(self.server.patience(), asked).await {
                Ok(Ok(answer)) => (info_of(&answer), EVERY),
                Ok(Err(error)) => {
                    debug!(why = words_of(&error), "redis does not say how it is");
                    let is_refused = fault_of(&error) == RedisFault::Auth;
                    (RedisInfo::default(), if is_refused { REFUSED } else { EVERY })
                }
                Err(_) => {
                    debug!(why = LATE, "redis does not say how it is");
                    (RedisInfo::default(), EVERY)
                }
            };
            self.stats.set_info(info);
            sleep(rest).await;
        }
    }
}

/// The figures of an answer: that of one server, or those of all servers of a cluster that take writes, by address.
fn info_of(answer: &Value) -> RedisInfo {
    match answer {
        Value::Map(nodes) => {
            let all: Vec<_> = nodes.iter().map(|(_, node)| Said::of(node)).collect();
            together(&all)
        }
        server => {
            let said = Said::of(server);
            RedisInfo {
                version: said.version,
                clients: said.clients,
                memory: said.memory,
                commands: said.commands,
            }
        }
    }
}

impl Said {
    fn of(answer: &Value) -> Self {
        let text = match answer {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.as_str().into(),
            _ => return Self::default(),
        };
        let mut said = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim_end();
            match name {
                "redis_version" => said.version = word(value),
                "connected_clients" => said.clients = value.parse().ok(),
                "used_memory" => said.bytes = value.parse().ok(),
                "used_memory_human" => said.memory = word(value),
                "total_commands_processed" => said.commands = value.parse().ok(),
                _ => {}
            }
        }
        said
    }
}

/// A word that may be shown.
fn word(text: &str) -> Option<String> {
    let is_word =
        !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| text.to_owned())
}

/// The figures of several servers as if they were one. What one of them does not say is not known of all.
fn together(all: &[Said]) -> RedisInfo {
    let sum = |of: fn(&Said) -> Option<u64>| {
        let mut sum = (!all.is_empty()).then_some(0_u64);
        for said in all {
            sum = sum.zip(of(said)).map(|(sum, more)| sum.saturating_add(more));
        }
        sum
    };
    let mut versions: Vec<_> = all.iter().filter_map(|said| said.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.truncate(VERSIONS);
    RedisInfo {
        version: (!versions.is_empty()).then(|| versions.join(", ")),
        clients: sum(|said| said.clients),
        memory: sum(|said| said.bytes).map(human),
        commands: sum(|said| said.commands),
    }
}

/// A size as Redis writes it.
fn human(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let Some((unit, power)) = UNITS.into_iter().find(|(_, power)| bytes >> power > 0) else {
        return format!("{bytes}B");
    };
    let hundredths = (u128::from(bytes) * 100 + (1 << (power - 1))) >> power;
    format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use redis::{Value, VerbatimFormat};

    use super::{human, info_of};
    use crate::telemetry::RedisInfo;

    /// What a server answers, shortened.
    fn server(version: &str, clients: &str, bytes: &str, memory: &str) -> Value {
        let text = format!(
            "# Server\r\nredis_version:{version}\r\nredis_git_sha1:00000000\r\nexecutable:/usr/bin/redis:server\r\n\r\n\
             # Clients\r\nconnected_clients:{clients}\r\nmaxclients:10000\r\n\r\n# Memory\r\nused_memory:{bytes}\r\n\
             used_memory_human:{memory}\r\nused_memory_peak_human:9.99G\r\n\r\n# Stats\r\n\
             total_commands_processed:102\r\n"
        );
        Value::VerbatimString { format: VerbatimFormat::Text, text }
    }

    fn figures(version: &str, clients: u64, memory: &str, commands: u64) -> RedisInfo {
        RedisInfo {
            version: Some(version.to_owned()),
            clients: Some(clients),
            memory: Some(memory.to_owned()),
            commands: Some(commands),
        }
    }

    fn cluster(nodes: Vec<Value>) -> Value {
        let name = |at: usize| Value::BulkString(format!("10.0.0.{at}:6379").into_bytes());
        Value::Map(nodes.into_iter().enumerate().map(|(at, node)| (name(at), node)).collect())
    }

    #[test]
    fn one_server_is_told_in_its_own_words() {
        let answer = server("7.0.15", "2", "1153433", "1.10M");
        let Value::VerbatimString { text, .. } = &answer else { unreachable!() };
        let plain = Value::BulkString(text.clone().into_bytes());

        assert_eq!(info_of(&answer), figures("7.0.15", 2, "1.10M", 102));
        assert_eq!(info_of(&plain), figures("7.0.15", 2, "1.10M", 102));
    }

    #[test]
    fn a_cluster_is_told_as_one() {
        let nodes = vec![
            server("7.2.4", "3", "1048576", "1.00M"),
            server("7.0.15", "4", "1572864", "1.50M"),
            server("7.2.4", "5", "512", "512B"),
        ];

        assert_eq!(info_of(&cluster(nodes)), figures("7.0.15, 7.2.4", 12, "2.50M", 306));
        assert_eq!(info_of(&cluster(Vec::new())), RedisInfo::default());
    }

    #[test]
    fn a_sum_without_one_of_its_parts_is_not_told() {
        let nodes = vec![server("7.2.4", "3", "1048576", "1.00M"), server("7.2.4", "many", "-1", "1.50M")];
        let info = info_of(&cluster(nodes));
        let silent = info_of(&cluster(vec![server("7.2.4", "3", "1", "1B"), Value::Nil]));

        assert_eq!((info.clients, info.memory, info.commands), (None, None, Some(204)));
        assert_eq!((silent.clients, silent.memory, silent.commands), (None, None, None));
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        let long = "9".repeat(33);
        let answers = [
            Value::Nil,
            Value::Int(7),
            Value::Array(vec![Value::Int(1)]),
            Value::BulkString(vec![0xff, b':', 0xfe]),
            Value::BulkString(b"redis_version".to_vec()),
            Value::BulkString(
                b"redis_version:\r\nconnected_clients:-3\r\nused_memory_human:1 <M>\r\n".to_vec(),
            ),
            server(&long, "18446744073709551616", "0", "\u{202e}M"),
        ];
        for answer in &answers[..6] {
            assert_eq!(info_of(answer), RedisInfo::default(), "{answer:?}");
        }
        let info = info_of(&answers[6]);
        assert_eq!((info.version, info.clients, info.memory, info.commands), (None, None, None, Some(102)));
    }

    #[test]
    fn sizes_are_written_as_redis_writes_them() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1536, "1.50K"),
            (1_153_434, "1.10M"),
            (3 << 30, "3.00G"),
            (u64::MAX, "16384.00P"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }
}
