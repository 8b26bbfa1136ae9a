// Server-sent events over fetch. EventSource hides the status and the body of a refusal, and the page has to say why it got nothing.
import { clean, parse } from './format.js';

/// A connection that said nothing for so long is gone: the server sends at least a comment every 15 s.
const SILENCE_MS = 20_000;
const RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000];
/// No message is larger; a longer one is not ours.
const MESSAGE_MAX = 8 * 1024 * 1024;

/// Cuts a stream of text into messages {event, data, id}. Feed it chunks as they come.
export class Messages {
  #rest = '';

  feed(chunk) {
    this.#rest += chunk;
    if (this.#rest.length > MESSAGE_MAX) throw new Error('a message of the stream is too large');
    // A lone CR at the end may be half a line end.
    const cut = this.#rest.endsWith('\r') ? this.#rest.length - 1 : this.#rest.length;
    const text = this.#rest.slice(0, cut).replace(/\r\n?/g, '\n');
    const blocks = text.split('\n\n');
    this.#rest = blocks.pop() + this.#rest.slice(cut);
    return blocks.map(one => Messages.#parse(one)).filter(message => message !== null);
  }

  static #parse(block) {
    const message = { event: 'message', data: '', id: null };
    const data = [];
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon === 0 || line === '') continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (name === 'data') data.push(value);
      else if (name === 'event' || name === 'id') message[name] = value;
    }
    message.data = data.join('\n');
    return data.length ? message : null;
  }
}

/// Why the server refused, in a sentence.
export async function refusal(response) {
  if (response.status === 401) {
    return 'The admin listener asks for a token (401): admin.token is set, and a browser cannot send it. Use “touchline top” with the token, or a proxy in front that adds it.';
  }
  let detail = '';
  try {
    detail = clean((await response.json()).detail ?? '').slice(0, 300);
  } catch {
    // Not JSON: the status alone has to do.
  }
  return `The admin listener answered ${response.status}${detail ? `: ${detail}` : ''}.`;
}

/// Reads `url()` until closed and connects again after a loss, with growing pauses.
///   onMessage(event, object), onState({phase: 'live' | 'lost', why, status, retryAt}); status is that of a refusal, else null
export class Stream {
  #abort = null;
  #timer = null;
  #silence = null;
  #tries = 0;
  #lastId = null;
  #isClosed = false;

  constructor({ url, onMessage, onState }) {
    this.url = url;
    this.onMessage = onMessage;
    this.onState = onState;
    this.#run();
  }

  close() {
    this.#isClosed = true;
    this.#stop();
  }

  /// Tries at once, without waiting for the pause.
  retry() {
    if (this.#timer === null) return;
    this.#stop();
    this.#run();
  }

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#timer = null;
    this.#abort?.abort();
  }

  #heard(abort) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => abort.abort(), SILENCE_MS);
  }

  async #run() {
    const abort = new AbortController();
    this.#abort = abort;
    let why = 'The stream ended.';
    let status = null;
    let isOpen = false;
    try {
      this.#heard(abort);
      const headers = this.#lastId === null ? {} : { 'last-event-id': this.#lastId };
      const response = await fetch(this.url(), { headers, signal: abort.signal, cache: 'no-store' });
      isOpen = response.ok;
      if (isOpen) await this.#read(response, abort);
      else {
        ({ status } = response);
        why = await refusal(response);
      }
    } catch (error) {
      why = isOpen ? 'The connection broke.' : 'The admin listener does not answer.';
      if (abort.signal.aborted) why = 'The stream fell silent.';
      else if (error instanceof SyntaxError) why = 'The stream sent something that is not JSON.';
    }
    clearTimeout(this.#silence);
    if (this.#isClosed || this.#abort !== abort) return;
    const pause = RETRY_MS[Math.min(this.#tries, RETRY_MS.length - 1)];
    this.#tries += 1;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#run();
    }, pause);
    this.onState({ phase: 'lost', why, status, retryAt: Date.now() + pause });
  }

  async #read(response, abort) {
    const messages = new Messages();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    this.onState({ phase: 'live', why: null, status: null, retryAt: null });
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#heard(abort);
      for (const message of messages.feed(value)) {
        if (this.#isClosed) return;
        if (message.id !== null) this.#lastId = message.id;
        this.#tries = 0;
        this.onMessage(message.event, parse(message.data));
      }
    }
  }
}
