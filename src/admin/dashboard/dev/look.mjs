// Opens every scenario in headless Chromium, wide and narrow, dark and light, and says what is wrong with it: console errors,
// exceptions, requests to another host, sideways scroll, violations that axe finds, markup made of hostile text.
//   npm install --no-save playwright-core axe-core && node dev/look.mjs [FOLDER-FOR-PICTURES] [SCENARIO...]
// CHROMIUM names the browser (/usr/bin/chromium).
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { SCENARIOS } from './scenarios.mjs';
import { serve } from './serve.mjs';

const require = createRequire(`${process.cwd()}/`);
const { chromium } = require('playwright-core');
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
const [folder, ...chosen] = process.argv.slice(2);
const KEY = encodeURIComponent('GET /api/challenges');
/// Scenario, what follows in the address, what to do before looking.
const VIEWS = [
  ...(chosen.length ? chosen : Object.keys(SCENARIOS)).map(name => [name, name, '', async () => {}]),
  ...(chosen.length ? [] : [
    ['drawer', 'degraded', `#route=${KEY}`, page => page.waitForSelector('.drawer .recent')],
    ['drawer-hostile', 'hostile', `#route=${encodeURIComponent('GET /api/challenges<img src=x onerror=alert(1)>\u202egnp.\u0007')}`, page => page.waitForSelector('.drawer .recent')],
    ['help', 'degraded', '', page => page.keyboard.press('?')],
    ['lost', 'lost', '', page => page.waitForSelector('.notice.bad')],
    ['full', 'full', '', page => page.waitForSelector('#ready', { state: 'attached' })],
    ['locked', 'locked', '', page => page.waitForSelector('.notice.bad')],
  ]),
];
const REFUSES = new Set(['lost', 'full', 'locked']);

async function look(browser, base, [name, scenario, hash, prepare], width, colorScheme) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  const problems = [];
  page.on('console', message => {
    const isExpected = REFUSES.has(name) && message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isExpected) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', error => problems.push(`exception: ${error.message}`));
  page.on('dialog', dialog => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('request', request => {
    if (!request.url().startsWith(base) && !request.url().startsWith('data:')) problems.push(`off-host request: ${request.url()}`);
  });
  await page.goto(`${base}/?scenario=${scenario}${hash}`);
  if (!REFUSES.has(name)) await page.waitForSelector('#ready', { state: 'attached' });
  await prepare(page);
  await page.waitForTimeout(900);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) problems.push(`sideways scroll: ${overflow} px`);
  const markup = await page.evaluate(() => document.querySelectorAll('img, [onerror], [style*="url"]').length);
  if (markup > 0) problems.push('hostile text became markup');
  if (folder) await page.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: !hash && name !== 'help' });
  await page.evaluate(axe);
  // The values of a lost stream are grey on purpose, and the banner says so.
  const rules = name === 'lost' || name === 'full' ? { 'color-contrast': { enabled: false } } : {};
  const { violations } = await page.evaluate(options => globalThis.axe.run(document, options), { rules });
  for (const { id, nodes } of violations) problems.push(`axe ${id}: ${nodes.length} times, first ${nodes[0].html.slice(0, 160)} ${(nodes[0].any[0]?.message ?? '').slice(0, 160)}`);
  await context.close();
  return problems;
}

const server = await serve(0);
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'] });
let bad = 0;
for (const view of VIEWS) {
  for (const width of [1440, 390]) {
    for (const scheme of ['dark', 'light']) {
      const problems = await look(browser, base, view, width, scheme);
      bad += problems.length;
      if (problems.length) console.log(`${view[0]} ${width} ${scheme}\n  ${[...new Set(problems)].join('\n  ')}`);
    }
  }
}
console.log(`${VIEWS.length * 4} views, ${bad} problems`);
await browser.close();
server.close();
server.closeAllConnections();
process.exitCode = bad ? 1 : 0;
