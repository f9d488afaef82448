/** Every fault of the catalogue has a test that exists, or a reason why it has none. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../../paths.ts";
import { FAMILIES, type Fault } from "./catalogue.ts";

const root = fromFileUrl("../../..", import.meta.url);

/** Names of the lists that lie here, without `.ts`. */
const names = readdirSync(fromFileUrl(".", import.meta.url))
  .filter((name) => name !== "catalogue.ts" && !name.endsWith("_test.ts"))
  .map((name) => name.replace(/\.ts$/, ""));

/** The faults of one list, which is all that its file exports. */
async function faultsOf(name: string): Promise<readonly Fault[]> {
  const module: Record<string, readonly Fault[]> = await import(new URL(`${name}.ts`, import.meta.url).href);
  return Object.values(module).flat();
}

/** What keeps a test of a fault from being one; nothing where it is one. */
function wrongWith(test: string): string[] {
  const [file, name, ...more] = test.split(" > ");
  if (!file!.startsWith("tests/") || !name || more.length > 0) return [`${test}: is not "tests/file > name"`];
  const path = join(root, file!);
  if (!existsSync(path)) return [`${test}: no such file`];
  const text = readFileSync(path, "utf8");
  if (!text.includes("Deno.test")) return [`${test}: the file has no tests`];
  return text.includes(name) ? [] : [`${test}: the file does not name this test`];
}

Deno.test("no list of the catalogue is missing", () => {
  assert.deepEqual(names.toSorted(), Object.keys(FAMILIES).toSorted());
});

for (const name of names) {
  Deno.test(`every fault of the list ${name} is there once, with tests that exist or a reason for none`, async () => {
    const faults = await faultsOf(name);
    const ids = Object.entries(FAMILIES[name] ?? {})
      .flatMap(([family, count]) => Array.from({ length: count }, (_, i) => `${family}${i + 1}`));
    assert.deepEqual(faults.map(({ id }) => id), ids);
    const bare = faults.filter(({ fault, tests, instead }) => fault === "" || (tests.length === 0 && !instead));
    assert.deepEqual(bare.map(({ id }) => id), []);
    assert.deepEqual(faults.flatMap(({ id, tests }) => tests.flatMap(wrongWith).map((wrong) => `${id}: ${wrong}`)), []);
  });
}
