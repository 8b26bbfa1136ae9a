// Drives Anthropic's TypeScript SDK, whatever its version: a command per line on standard input, an answer per line on
// standard output, as in claude_sdk.py. Its argument is the folder whose node_modules has the SDK.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { setTimeout as rest } from 'node:timers/promises';

const { default: Anthropic } = createRequire(`${process.argv[2]}/`)('@anthropic-ai/sdk');
const made = new Map();

function clientOf(command) {
  const options = {};
  if (command.base_url != null) options.baseURL = command.base_url;
  if (command.api_key != null) options.apiKey = command.api_key;
  if (command.auth_token != null) options.authToken = command.auth_token;
  if (command.max_retries != null) options.maxRetries = command.max_retries;
  if (command.timeout != null) options.timeout = command.timeout * 1000;
  if (command.default_headers != null) options.defaultHeaders = command.default_headers;
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Anthropic(options));
  return made.get(key);
}

// The name of an error's class: minified or bundled builds keep it in the constructor.
function failure(error) {
  const kinds = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) kinds.push(kind.name);
  const headers = error.headers == null ? [] : Object.entries(error.headers);
  return {
    kind: kinds[0],
    kinds,
    status: error.status ?? null,
    body: error.error ?? null,
    message: String(error.message),
    headers: typeof error.headers?.entries === 'function' ? [...error.headers.entries()] : headers,
  };
}

async function run(command, answer) {
  const client = clientOf(command);
  const params = command.params;
  const options = {};
  if (command.headers) options.headers = command.headers;
  if (command.query) options.query = command.query;
  if (command.do === 'create') {
    if (command.raw) {
      const { data, response } = await client.messages.create(params, options).withResponse();
      answer.value = data;
      answer.headers = [...response.headers.entries()];
    } else {
      answer.value = await client.messages.create(params, options);
    }
  } else if (command.do === 'events') {
    answer.events = [];
    for await (const event of await client.messages.create({ ...params, stream: true }, options)) {
      answer.events.push(event);
    }
  } else if (command.do === 'final') {
    answer.texts = [];
    const stream = client.messages.stream(params, options);
    stream.on('text', (text) => answer.texts.push(text));
    answer.value = await stream.finalMessage();
  } else if (command.do === 'count') {
    if (client.messages.countTokens) answer.value = await client.messages.countTokens(params, options);
    else answer.value = await client.post('/v1/messages/count_tokens', { body: params, ...options });
  } else if (command.do === 'leave') {
    answer.events = [];
    for await (const event of await client.messages.create({ ...params, stream: true }, options)) {
      answer.events.push(event);
      if (answer.events.length === command.after) {
        answer.left_ms = Date.now();
        break;
      }
    }
  } else if (command.do === 'abandon') {
    const controller = new AbortController();
    const call = client.messages.create(params, { ...options, signal: controller.signal });
    call.catch(() => {});
    await rest(command.after_s * 1000);
    answer.left_ms = Date.now();
    controller.abort();
    await call.catch(() => {});
  } else {
    throw new Error(command.do);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = {};
  const command = JSON.parse(line);
  const started = performance.now();
  try {
    await run(command, answer);
  } catch (error) {
    answer.error = failure(error); // What the SDK throws is what the test is about.
  }
  answer.seconds = (performance.now() - started) / 1000;
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
