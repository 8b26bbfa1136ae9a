//! Signatures of thinking blocks: issuing them, and what happens when a block comes back.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    failure::Failure,
    fields::Dialect,
    models::Model,
    prompt::{Layer, Part, Place, prefix},
    text::{Digest, base64, digest, from_base64, hex},
    turns,
};

/// The key of the signatures; nothing but the fake knows or needs it.
const KEY: &[u8] = b"the fake's own key";

/// The beta that makes `thinking.block_binding` a known field.
const BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    /// The model that is to read the blocks.
    pub(crate) model: &'a Model,
    /// A digest of the credential.
    pub(crate) account: &'a str,
    /// Whether the account is new enough for the check of prefixes.
    pub(crate) checks_prefix: bool,
}

/// The signature of a block that `model` makes after this prompt.
pub(crate) fn sign(model: &Model, account: &str, text: &str, prompt: &Digest) -> String {
    let (account, prompt) = (short(account.as_bytes()), hex(prompt));
    let mac = mac(model.family, &account, &prompt, text);
    base64(format!("fake1|{}|{account}|{prompt}|{mac}", model.family).as_bytes())
}

fn short(bytes: &[u8]) -> String {
    hex(&digest(&[bytes])).chars().take(16).collect()
}

/// An HMAC in kind: the key goes first and every part is kept apart by its length.
fn mac(family: &str, account: &str, prompt: &str, text: &str) -> String {
    hex(&digest(&[KEY, family.as_bytes(), account.as_bytes(), prompt.as_bytes(), text.as_bytes()]))
}

/// Checks every thinking block that comes back; the places of blocks that the model does not get to see.
pub(crate) fn check(
    body: &Map<String, Value>,
    parts: &[Part],
    reader: &Reader<'_>,
    dialect: &Dialect,
) -> Result<HashSet<Place>, Failure> {
    let drops_edited = drops_edited(body, dialect)?;
    let mut dropped = HashSet::new();
    let messages = body.get("messages").and_then(Value::as_array);
    for part in parts.iter().filter(|part| part.layer == Layer::Messages && part.kind == "thinking") {
        let (i, j) = part.place;
        let block = messages.and_then(|list| list.get(i)).and_then(|message| turns::blocks(message).get(j));
        let field = |name: &str| block.and_then(|block| block.get(name)).and_then(Value::as_str);
        let (text, signature) =
            (field("thinking").unwrap_or_default(), field("signature").unwrap_or_default());
        let path = format!("messages.{i}.content.{j}");
        let Some(claims) = read(signature, text) else {
            return Err(Failure::invalid(format!("{path}: Invalid `signature` in `thinking` block")));
        };
        let is_foreign =
            claims.is_bound_to_account(reader.model) && claims.account != short(reader.account.as_bytes());
        if !reader.model.can_read(&claims.family) || is_foreign {
            dropped.insert(part.place);
            continue;
        }
        let is_edited = claims.prompt != hex(&prefix(parts, Some(part.place)));
        if is_edited && reader.checks_prefix && reader.model.thinking.bound_to_prefix {
            if !drops_edited {
                return Err(Failure::invalid(format!(
                    "{path}: Invalid `signature` in `thinking` block. The block is bound to a different \
                     conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \
                     \"drop_block\"."
                )));
            }
            dropped.insert(part.place);
        }
    }
    Ok(dropped)
}

fn drops_edited(body: &Map<String, Value>, dialect: &Dialect) -> Result<bool, Failure> {
    let thinking = body.get("thinking");
    let Some(binding) = thinking.and_then(|thinking| thinking.get("block_binding")) else { return Ok(false) };
    if !dialect.betas.iter().any(|beta| beta == BINDING_BETA) {
        let kind = thinking.map_or("", turns::kind);
        return Err(Failure::extra(&format!("thinking.{kind}.block_binding")));
    }
    Ok(binding.get("prefix_mismatch_behavior").and_then(Value::as_str) == Some("drop_block"))
}

struct Claims {
    family: String,
    account: String,
    prompt: String,
}

impl Claims {
    /// Blocks of the model's own family follow the model's own rule.
    fn is_bound_to_account(&self, model: &Model) -> bool {
        model.thinking.bound_to_account && model.family == self.family
    }
}

/// The claims of a signature that fits this text.
fn read(signature: &str, text: &str) -> Option<Claims> {
    let plain = String::from_utf8(from_base64(signature)?).ok()?;
    let fields: Vec<_> = plain.split('|').collect();
    let ["fake1", family, account, prompt, claimed] = fields.as_slice() else { return None };
    let is_ours = mac(family, account, prompt, text) == *claimed;
    is_ours.then(|| Claims {
        family: (*family).to_owned(),
        account: (*account).to_owned(),
        prompt: (*prompt).to_owned(),
    })
}
