// Counts the results of a run with the suite's own judgement: node count.mjs SUITE_DIR RESULTS.json
// Prints one JSON object: passed and total of each kind of test, and the ids that did not pass.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, file] = process.argv.slice(2)
const load = path => import(pathToFileURL(resolve(suite, path)).href)
const { default: groups } = await load('tests/index.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')
const answers = JSON.parse(readFileSync(file, 'utf8'))

const counts = {}
for (const test of groups.flatMap(group => group.tests).filter(test => !test.browser_only)) {
  const kind = test.kind ?? 'required'
  const count = counts[kind] ??= { passed: 0, total: 0, missed: [] }
  const result = determineTestResult(groups, test.id, answers, true)
  const passed = result === resultTypes.pass || result === resultTypes.yes
  count.total += 1
  if (passed) count.passed += 1
  else count.missed.push(test.id)
}
console.log(JSON.stringify(counts))
