//! The one pass over a body: a loop with a stack of its own, so that nesting costs a few bytes and never the thread.
//! Each value is looked at when it begins, and containers once more when they end.

use std::{borrow::Cow, ops::Range};

use super::{
    BlockSet, CacheMark, Given, LastBlock, MAX_MARKS, MAX_TURNS, Message, Parameters, Part, Role, System,
    Text, Thinking, Turn, Unreadable, Word,
    canonical::Canonical,
    copy::Copying,
    lexer::{Lexer, Piece},
    shape::{Field, Place},
};
use crate::claude::cost::Ttl;

/// A container that is open.
pub(super) struct Frame {
    pub(super) place: Place,
    /// The member whose value is being read.
    field: Field,
    is_object: bool,
    /// Whether nothing has been read of it.
    is_first: bool,
    /// Whether something of it has been copied, so that a comma comes first.
    pub(super) has_copied: bool,
    /// The members that were seen, by number.
    seen: u64,
    start: usize,
}

/// A value that is no container.
pub(super) enum Scalar {
    Text(Piece),
    Number(Range<usize>),
    True,
    False,
    Null,
}

/// The block that is open; `type` may come last in it.
#[derive(Default)]
struct Block {
    kind: BlockSet,
    text: Option<Piece>,
    id: Option<Piece>,
    tool_use_id: Option<Piece>,
}

/// Reads one body.
pub(super) struct Reader<'a> {
    pub(super) lexer: Lexer<'a>,
    body: &'a [u8],
    pub(super) depth: usize,
    pub(super) stack: Vec<Frame>,
    /// The closing brackets of what is skipped.
    pub(super) nest: Vec<u8>,
    pub(super) copying: Copying,
    block: Block,
    model: Option<Piece>,
    pub(super) message: Message,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8], depth: usize) -> Self {
        let message = Message {
            model: String::new(),
            model_span: 0..0,
            after_open: 0,
            system: System::None,
            turns: Vec::new(),
            marks: Vec::new(),
            mark_count: 0,
            parameters: Parameters::default(),
            has_repeated_keys: false,
            canonical: Canonical::with_capacity(body.len()),
        };
        let stack = Vec::with_capacity(16);
        let (lexer, copying, block) = (Lexer::new(body), Copying::Off, Block::default());
        Self { lexer, body, depth, stack, nest: Vec::new(), copying, block, model: None, message }
    }

    pub(super) fn run(mut self) -> Result<Message, Unreadable> {
        if std::str::from_utf8(self.body).is_err() {
            return Err(Unreadable::NotJson);
        }
        self.lexer.expect(b'{')?;
        self.message.after_open = self.lexer.at();
        self.push(Place::Top, true)?;
        while let Some(frame) = self.stack.last_mut() {
            let close = if frame.is_object { b'}' } else { b']' };
            let is_first = std::mem::replace(&mut frame.is_first, false);
            match self.lexer.peek() {
                Some(byte) if byte == close => {
                    self.lexer.take();
                    self.close(close);
                }
                Some(b',') if !is_first => {
                    self.lexer.take();
                    self.item()?;
                }
                Some(_) if is_first => self.item()?,
                _ => return Err(Unreadable::NotJson),
            }
        }
        if self.lexer.peek().is_some() {
            return Err(Unreadable::NotJson);
        }
        let model = self.model.ok_or(Unreadable::NoModel)?;
        self.message.model = model.decode(self.body).into_owned();
        self.message.model_span = model.quoted();
        Ok(self.message)
    }

    fn push(&mut self, place: Place, is_object: bool) -> Result<(), Unreadable> {
        if self.stack.len() >= self.depth {
            return Err(Unreadable::TooDeep);
        }
        let start = self.lexer.at().saturating_sub(1);
        self.stack.push(Frame {
            place,
            field: Field::Unknown,
            is_object,
            is_first: true,
            has_copied: false,
            seen: 0,
            start,
        });
        Ok(())
    }

    /// Reads a member or an element up to its end, or into it if it is a container.
    fn item(&mut self) -> Result<(), Unreadable> {
        let (place, is_object) =
            self.stack.last().map_or((Place::Skip, false), |top| (top.place, top.is_object));
        let key = if is_object { Some(self.key(place)?) } else { None };
        let field = self.stack.last().map_or(Field::Unknown, |top| top.field);
        let first = self.lexer.peek().ok_or(Unreadable::NotJson)?;
        self.begins(place, field, first)?;
        let start = key.as_ref().map_or(0, |key| key.start);
        self.copy_before(field, key);
        let scalar = match first {
            b'"' => Scalar::Text(self.lexer.string()?),
            b'{' | b'[' => {
                self.lexer.take();
                self.copy_byte(first);
                return self.open(place.child(field, first == b'{'), first == b'{');
            }
            b't' => self.lexer.literal(b"true").map(|_| Scalar::True)?,
            b'f' => self.lexer.literal(b"false").map(|_| Scalar::False)?,
            b'n' => self.lexer.literal(b"null").map(|_| Scalar::Null)?,
            _ => Scalar::Number(self.lexer.number()?),
        };
        self.copy_scalar(place, field, &scalar);
        self.note_place(place, field, start..self.lexer.at());
        self.scalar(place, field, scalar);
        self.value_ended();
        Ok(())
    }

    fn key(&mut self, place: Place) -> Result<Range<usize>, Unreadable> {
        if self.lexer.peek() != Some(b'"') {
            return Err(Unreadable::NotJson);
        }
        let key = self.lexer.string()?;
        self.lexer.expect(b':')?;
        let field = if key.is_escaped {
            Field::of(place, key.decode(self.body).as_bytes())
        } else {
            Field::of(place, self.lexer.text(key.span.clone()))
        };
        if let Some(frame) = self.stack.last_mut() {
            frame.field = field;
            if !matches!(field, Field::Unknown | Field::Thread | Field::Change) {
                let bit = 1 << field as u64;
                let is_repeated = frame.seen & bit != 0;
                frame.seen |= bit;
                if is_repeated && field == Field::Model {
                    return Err(Unreadable::ModelTwice);
                }
                self.message.has_repeated_keys |= is_repeated;
            }
        }
        Ok(key.quoted())
    }

    /// Notes what a value says by being there.
    fn begins(&mut self, place: Place, field: Field, first: u8) -> Result<(), Unreadable> {
        let message = &mut self.message;
        match (place, field) {
            (Place::Top, Field::Model) if first != b'"' => return Err(Unreadable::ModelNotString),
            (Place::Top, Field::Messages) => {
                message.turns.clear();
                message.canonical.forget_turns();
            }
            (Place::Top, Field::Unknown) => message.parameters.unknown_count += 1,
            (Place::Tools, _) => message.parameters.tool_count += 1,
            (Place::Top, Field::OutputConfig) => message.parameters.places.has_odd_effort |= first != b'{',
            (Place::OutputConfig, Field::Effort) => {
                message.parameters.places.has_odd_effort |= first != b'"';
            }
            _ if first == b'n' => return Ok(()),
            (_, Field::CacheControl) => self.mark(place),
            (Place::Turn, Field::Change) => self.note_blocks(BlockSet::CHANGE),
            (Place::Top, _) => self.present(field),
            (Place::OutputConfig, Field::Format) => message.parameters.has_output_format = true,
            _ => {}
        }
        Ok(())
    }

    fn present(&mut self, field: Field) {
        let parameters = &mut self.message.parameters;
        match field {
            Field::Fallbacks => parameters.has_fallbacks = true,
            Field::Container => parameters.has_container = true,
            Field::McpServers => parameters.has_mcp_servers = true,
            Field::Thread => parameters.has_thread = true,
            Field::StopSequences => parameters.has_stop_sequences = true,
            Field::OutputFormat => parameters.has_output_format = true,
            Field::ContextManagement => parameters.has_context_management = true,
            Field::Thinking => parameters.thinking = Some(Thinking::default()),
            _ => {}
        }
    }

    /// Notes where a member stands that may be changed for the sake of another model.
    fn note_place(&mut self, place: Place, field: Field, member: Range<usize>) {
        let places = &mut self.message.parameters.places;
        let [temperature, top_p, top_k] = &mut places.sampling;
        match (place, field) {
            (Place::Top, Field::Temperature) => *temperature = Some(member),
            (Place::Top, Field::TopP) => *top_p = Some(member),
            (Place::Top, Field::TopK) => *top_k = Some(member),
            (Place::Thinking, Field::BudgetTokens) => places.budget = Some(member),
            _ => {}
        }
    }

    fn mark(&mut self, place: Place) {
        let part = match place {
            Place::Top => Part::Top,
            Place::Tool => Part::Tools,
            Place::SystemBlock => Part::System,
            _ => Part::Messages,
        };
        self.message.mark_count += 1;
        if self.message.marks.len() < MAX_MARKS {
            self.message.marks.push(CacheMark { part, ttl: Ttl::FiveMinutes });
        }
    }

    fn note_blocks(&mut self, kinds: BlockSet) {
        if let Some(turn) = self.message.turns.last_mut() {
            turn.blocks = turn.blocks.with(kinds);
        }
    }

    fn open(&mut self, place: Place, is_object: bool) -> Result<(), Unreadable> {
        if place == Place::Skip {
            self.skip(if is_object { b'}' } else { b']' })?;
            self.value_ended();
            return Ok(());
        }
        self.push(place, is_object)?;
        let at = self.lexer.at();
        match place {
            Place::Turn => {
                if self.message.turns.len() >= MAX_TURNS {
                    return Err(Unreadable::TooManyTurns);
                }
                self.message.turns.push(Turn {
                    role: Role::Other,
                    span: at.saturating_sub(1)..at,
                    text: Text::default(),
                    blocks: BlockSet::default(),
                    tool_uses: Vec::new(),
                    tool_results: Vec::new(),
                });
            }
            Place::System => {
                let span = at.saturating_sub(1)..at;
                self.message.system = System::Blocks { span, text: Text::default(), last: None };
            }
            Place::SystemBlock | Place::Block => self.block = Block::default(),
            Place::OutputConfig => self.message.parameters.places.output_config = Some(at),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, byte: u8) {
        self.copy_byte(byte);
        let Some(frame) = self.stack.pop() else { return };
        let end = self.lexer.at();
        match frame.place {
            Place::Turn => {
                if let Some(turn) = self.message.turns.last_mut() {
                    turn.span.end = end;
                }
            }
            Place::System => {
                if let System::Blocks { span, .. } = &mut self.message.system {
                    span.end = end;
                }
            }
            Place::SystemBlock => self.close_system_block(&frame),
            Place::Block => self.close_block(),
            _ => {}
        }
        self.value_ended();
    }

    fn close_system_block(&mut self, frame: &Frame) {
        let after_open = frame.start + 1;
        let inside = self.lexer.text(after_open..self.lexer.at().saturating_sub(1));
        let is_empty = inside.trim_ascii().is_empty();
        let block = std::mem::take(&mut self.block);
        let is_text = block.kind.has(BlockSet::TEXT);
        let has_text = block.text.as_ref().is_some_and(|piece| !piece.span.is_empty());
        let System::Blocks { text, last, .. } = &mut self.message.system else { return };
        *last = Some(LastBlock { after_open, is_empty, can_be_marked: is_text && has_text });
        if let Some(piece) = block.text.filter(|_| is_text) {
            text.push(piece);
        }
    }

    fn close_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        let Some(turn) = self.message.turns.last_mut() else { return };
        let kind = if block.kind == BlockSet::default() { BlockSet::OTHER } else { block.kind };
        turn.blocks = turn.blocks.with(kind);
        if kind.has(BlockSet::TEXT) {
            turn.text.pieces.extend(block.text);
        } else if kind.has(BlockSet::TOOL_USE) {
            turn.tool_uses.extend(block.id.map(|piece| piece.span));
        } else if kind.has(BlockSet::TOOL_RESULT) {
            turn.tool_results.extend(block.tool_use_id.map(|piece| piece.span));
        }
    }

    fn scalar(&mut self, place: Place, field: Field, scalar: Scalar) {
        match place {
            Place::Top => self.top(field, scalar),
            Place::Turn => self.turn(field, scalar),
            Place::SystemBlock | Place::Block | Place::NestedBlock => self.block(place, field, scalar),
            Place::Tool => match (field, scalar) {
                (Field::Type, Scalar::Text(word)) => {
                    self.message.parameters.note_tool_type(&word.decode(self.body));
                }
                (Field::Strict, Scalar::True) => self.message.parameters.has_strict_tools = true,
                _ => {}
            },
            Place::CacheControl => {
                let Scalar::Text(word) = scalar else { return };
                if field == Field::Ttl
                    && word.decode(self.body) == Ttl::OneHour.as_str()
                    && self.message.marks.len() == self.message.mark_count
                    && let Some(mark) = self.message.marks.last_mut()
                {
                    mark.ttl = Ttl::OneHour;
                }
            }
            _ => self.setting(place, field, scalar),
        }
    }

    fn top(&mut self, field: Field, scalar: Scalar) {
        let given = self.given(&scalar);
        let parameters = &mut self.message.parameters;
        match (field, scalar) {
            (Field::Temperature, _) => parameters.temperature = Some(given),
            (Field::TopP, _) => parameters.top_p = Some(given),
            (Field::TopK, _) => parameters.top_k = Some(given),
            (Field::Stream, Scalar::True) => parameters.is_stream = true,
            (Field::MaxTokens, Scalar::Number(span)) => parameters.max_tokens = whole(self.lexer.text(span)),
            (Field::Model, Scalar::Text(piece)) => self.model = Some(piece),
            (Field::System, Scalar::Text(piece)) => self.message.system = System::Text(piece),
            (Field::System, _) => self.message.system = System::None,
            (field, Scalar::Text(piece)) => {
                let word = || Some(Word::new(&piece.decode(self.body)));
                match field {
                    Field::Effort => parameters.effort = word(),
                    Field::Speed => parameters.speed = word(),
                    Field::ServiceTier => parameters.service_tier = word(),
                    Field::InferenceGeo => parameters.inference_geo = word(),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn given(&self, scalar: &Scalar) -> Given {
        match scalar {
            Scalar::Null => Given::Null,
            Scalar::Number(span) => std::str::from_utf8(self.lexer.text(span.clone()))
                .ok()
                .and_then(|digits| digits.parse().ok())
                .map_or(Given::Other, Given::Number),
            Scalar::Text(_) | Scalar::True | Scalar::False => Given::Other,
        }
    }

    fn turn(&mut self, field: Field, scalar: Scalar) {
        let Some(turn) = self.message.turns.last_mut() else { return };
        let Scalar::Text(piece) = scalar else { return };
        match field {
            Field::Role => {
                turn.role = match &*piece.decode(self.body) {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" => Role::System,
                    _ => Role::Other,
                }
            }
            Field::Content => {
                turn.blocks = turn.blocks.with(BlockSet::TEXT);
                turn.text.push(piece);
            }
            _ => {}
        }
    }

    fn block(&mut self, place: Place, field: Field, scalar: Scalar) {
        let Scalar::Text(piece) = scalar else { return };
        if place == Place::NestedBlock {
            if field == Field::Type {
                let kind = BlockSet::of(&piece.decode(self.body));
                if kind.has(BlockSet::IMAGE.with(BlockSet::DOCUMENT)) {
                    self.note_blocks(kind);
                }
            }
            return;
        }
        match field {
            Field::Type => self.block.kind = BlockSet::of(&piece.decode(self.body)),
            Field::Text => self.block.text = Some(piece),
            Field::Id => self.block.id = Some(piece),
            Field::ToolUseId => self.block.tool_use_id = Some(piece),
            _ => {}
        }
    }

    /// A member of one of the small objects.
    fn setting(&mut self, place: Place, field: Field, scalar: Scalar) {
        let parameters = &mut self.message.parameters;
        match (place, field, scalar) {
            (Place::Citations, Field::Enabled, Scalar::True) => parameters.has_citations = true,
            (Place::Thinking, Field::BudgetTokens, Scalar::Number(span)) => {
                if let Some(thinking) = &mut parameters.thinking {
                    thinking.budget_tokens = whole(self.lexer.text(span));
                }
            }
            (Place::Metadata, Field::UserId, Scalar::Text(piece)) => parameters.user_id = Some(piece),
            (place, field, Scalar::Text(piece)) => {
                let text: Cow<'_, str> = piece.decode(self.body);
                match (place, field) {
                    (Place::Thinking, Field::Type) => {
                        parameters.places.thinking_type = Some(piece.quoted());
                        if let Some(thinking) = &mut parameters.thinking {
                            thinking.kind = Word::new(&text);
                        }
                    }
                    (Place::OutputConfig, Field::Effort) => parameters.effort = Some(Word::new(&text)),
                    (Place::ToolChoice, Field::Type) => parameters.tool_choice = Some(Word::new(&text)),
                    (Place::Edit, Field::Type) => {
                        parameters.has_compaction_edit |= text.starts_with("compact");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn whole(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
