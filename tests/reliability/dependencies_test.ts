/** What this program is made of besides its own text: few packages, each of one version and one content, and native calls. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";

const root = fromFileUrl("../..", import.meta.url);
const json = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"));

/** Files of the program with their text. */
const sources = ["lib", "kernels"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => [join(folder, name), readFileSync(join(root, folder, name), "utf8")] as const)
);

/** What the program imports that is neither its own nor of the runtime. */
const imported = new Set(
  sources.flatMap(([, text]) =>
    [...text.matchAll(/^(?:import|export)\b[^"]*?\bfrom "([^"]+)"|\bimport\("([^"]+)"/gm)].map(([, from, name]) =>
      from ?? name!
    )
  ).filter((name) => !/^(\.|node:)/.test(name)),
);

Deno.test("every package has one version and a hash, and nothing runs when it is installed", () => {
  const { imports, allowScripts } = json("deno.json") as {
    imports: Record<string, string>;
    allowScripts?: unknown;
  };
  assert.equal(allowScripts, undefined, "Deno runs no script of a package that is not named there");
  assert.ok(imported.size >= 5, [...imported].join(", "));
  for (const name of imported) assert.ok(name in imports, `${name} is not in the import map`);
  for (const [name, target] of Object.entries(imports)) {
    assert.match(target, /^(\.\/|npm:(@[\w-]+\/)?[\w-]+@\d+\.\d+\.\d+(\/\w+)?$)/, `${name}: ${target}`);
  }
  const { npm, specifiers, remote = {} } = json("deno.lock") as {
    specifiers: Record<string, string>;
    npm: Record<string, { readonly integrity?: string; readonly scripts?: boolean }>;
    remote?: Record<string, string>;
  };
  const wanted = Object.values(imports).filter((target) => target.startsWith("npm:"));
  const unlocked = wanted.map((target) => target.replace(/(@[\d.]+)\/\w+$/, "$1")).filter((name) =>
    !(name in specifiers)
  );
  assert.deepEqual(unlocked, [], "deno.lock is behind deno.json: run deno install");
  for (const [name, { integrity, scripts }] of Object.entries(npm)) {
    assert.match(integrity ?? "", /^sha512-/, name);
    // Dawn, where somebody has added it, has one; Deno runs it only for who allows it.
    if (!name.startsWith("webgpu@")) assert.notEqual(scripts, true, `${name} has a script for its installation`);
  }
  assert.deepEqual(remote, {}, "nothing is loaded from an address");
  // Each one brings others along, which somebody has to look at; Dawn is four of them.
  const most = "webgpu" in imports ? 24 : 20;
  assert.ok(Object.keys(npm).length <= most, Object.keys(npm).join(", "));
});

Deno.test("native code is called from few files, and only by programs that were given --allow-ffi", () => {
  const callers = sources.filter(([, text]) => /\bDeno\.(dlopen|UnsafePointer\w*|UnsafeCallback)\b/.test(text)).map((
    [path],
  ) => path);
  const allowed = /^lib\/comm\/(native|mpi)\/|^lib\/comm\/shared_memory\/region\.ts$/;
  assert.deepEqual(callers.filter((path) => !allowed.test(path)), []);
  const document = readFileSync(join(root, "docs/permissions.md"), "utf8");
  const rows = document.split("\n").filter((line) => line.startsWith("| `"));
  assert.ok(rows.length >= 12);
  // tests/cli/permissions_test.ts runs every one of these commands with exactly its flags.
  for (const row of rows) assert.doesNotMatch(row, /--allow-ffi|--allow-all|-A\b|--allow-run[^=]/, row);
});
