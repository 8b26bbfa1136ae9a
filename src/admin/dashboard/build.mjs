// Bundles the page into dist/, which is checked in: cargo embeds the files and needs no Node.
//   node build.mjs           rewrites dist/
//   node build.mjs --check   fails when dist/ is not what the sources give
//
// dist/sources.sha256 says which sources dist/ was made from. It is one line, 64 hex digits and a line feed: the SHA-256 over
//   path, a zero byte, the file's bytes, a zero byte
// of each source, in the byte order of their paths. The sources are build.mjs, package-lock.json, package.json, style.css and
// every file directly in src/; a path is relative to this folder, with slashes ("src/main.jsx").
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import esbuild from 'esbuild';

const HERE = new URL('.', import.meta.url);
/// What the browser may load in all, compressed.
const BUDGET = 60_000;

export async function sourcesHash() {
  const inner = await readdir(new URL('src/', HERE));
  const paths = ['build.mjs', 'package-lock.json', 'package.json', 'style.css', ...inner.map(name => `src/${name}`)];
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const hash = createHash('sha256');
  for (const path of paths) hash.update(path).update('\0').update(await readFile(new URL(path, HERE))).update('\0');
  return `${hash.digest('hex')}\n`;
}

/// The three files of dist/ by name.
export async function bundle() {
  const result = await esbuild.build({
    absWorkingDir: fileURLToPath(HERE),
    entryPoints: { dashboard: 'src/main.jsx', style: 'style.css' },
    outdir: 'dist',
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    target: ['es2022', 'chrome110', 'firefox115', 'safari16'],
    charset: 'utf8',
    legalComments: 'none',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    logLevel: 'warning',
  });
  const of = suffix => Buffer.from(result.outputFiles.find(file => file.path.endsWith(suffix)).contents);
  return {
    'dashboard.js': of('dashboard.js'),
    'dashboard.css': of('style.css'),
    'sources.sha256': Buffer.from(await sourcesHash()),
  };
}

async function main() {
  const files = await bundle();
  let total = 0;
  const stale = [];
  for (const [name, bytes] of Object.entries(files)) {
    const target = new URL(`dist/${name}`, HERE);
    if (process.argv.includes('--check')) {
      const present = await readFile(target).catch(() => Buffer.alloc(0));
      if (!present.equals(bytes)) stale.push(name);
    } else {
      await mkdir(new URL('dist/', HERE), { recursive: true });
      await writeFile(target, bytes);
    }
    if (name.startsWith('dashboard.')) {
      const compressed = gzipSync(bytes, { level: 9 }).length;
      total += compressed;
      console.log(`${name}: ${bytes.length} bytes, ${compressed} gzipped`);
    }
  }
  console.log(`in all ${total} of ${BUDGET} bytes gzipped`);
  if (total > BUDGET) throw new Error(`the page is over its budget of ${BUDGET} bytes`);
  if (stale.length) throw new Error(`dist/ is stale: ${stale.join(', ')}; run \`npm run build\``);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
