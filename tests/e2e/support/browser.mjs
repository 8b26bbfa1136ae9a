// Drives Debian's Chromium for the tests: a command per line on standard input, an answer per line on standard output.
//   {"do": "open", "url", "width", "height", "scheme", "scripts"} gives a page's number; every other command names it
// Arguments: the folder whose node_modules has playwright-core and axe-core, and the browser.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [, , home, executablePath] = process.argv;
const require = createRequire(`${home}/`);
const { chromium } = require('playwright-core');
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
const browser = await chromium.launch({
  executablePath,
  // A browser does not run as root with its sandbox, and small containers have a small /dev/shm. The pages are our own.
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'],
});
const pages = new Map();

// Runs in each document before its own scripts; the page's policy does not hold for it.
function watch() {
  globalThis.violations = [];
  document.addEventListener('securitypolicyviolation', event => {
    globalThis.violations.push(`policy: ${event.violatedDirective} refused ${event.blockedURI} ${event.sample}`);
  });
}

async function open({ url, width, height, scheme, scripts }) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: scheme, reducedMotion: 'reduce', javaScriptEnabled: scripts, locale: 'en-GB',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const [problems, requests] = [[], []];
  page.on('console', message => message.type() === 'error' && problems.push(`console: ${message.text()}`));
  page.on('pageerror', error => problems.push(`exception: ${error.message}`));
  page.on('dialog', dialog => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss().catch(() => {});
  });
  page.on('request', request => requests.push(request.url()));
  // For work on the page without a build of the binary: the files of this folder in place of those in it.
  const folder = process.env.DASHBOARD_DIST;
  if (folder) await page.route(/\/dashboard\.(js|css)$/, route => route.fulfill({ path: `${folder}/${route.request().url().split('/').pop()}` }));
  if (scripts) await page.addInitScript(watch);
  const number = pages.size + 1;
  pages.set(number, { context, page, problems, requests, scripts });
  const answer = await page.goto(url);
  return { number, status: answer.status() };
}

const commands = {
  open,
  // What a person can read.
  text: ({ page }, { selector }) => page.innerText(selector),
  eval: ({ page }, { code, value }) => page.evaluate(({ code, value }) => (0, eval)(`(${code})`)(value), { code, value }),
  press: ({ page }, { keys }) => page.keyboard.press(keys),
  type: ({ page }, { text }) => page.keyboard.type(text),
  focus: ({ page }, { selector }) => page.focus(selector),
  click: ({ page }, { selector }) => page.click(selector),
  shot: ({ page }, { path, full }) => page.screenshot({ path, fullPage: full }),
  async problems({ page, problems, scripts }) {
    return [...problems, ...(scripts ? await page.evaluate(() => globalThis.violations) : [])];
  },
  requests: ({ requests }) => requests,
  async axe({ page }, { without }) {
    await page.evaluate(axe);
    const rules = Object.fromEntries(without.map(rule => [rule, { enabled: false }]));
    const { violations } = await page.evaluate(rules => globalThis.axe.run(document, { rules }), rules);
    return violations.map(({ id, nodes }) => `${id}: ${nodes.length} times, first ${nodes[0].html.slice(0, 200)} ${nodes[0].any[0]?.message ?? ''}`);
  },
  close: ({ context }) => context.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, page, ...parameters } = JSON.parse(line);
  let answer;
  try {
    const value = name === 'open' ? await open(parameters) : await commands[name](pages.get(page), parameters);
    answer = { value: value ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
