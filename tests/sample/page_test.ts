import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type PageEntry, renderPage, SamplePage } from "../../lib/sample/page.ts";

const entry: PageEntry = { prompt: "a kite", seed: 1, step: 10, file: "kite 10%.mp4", details: "DDIM" };

Deno.test("renderPage() puts prompts in rows and steps in columns, in order", () => {
  const entries = [
    entry,
    { ...entry, prompt: "a boat", file: "boat-10.mp4" },
    { ...entry, step: 2, file: "kite-2.mp4" },
    { ...entry, seed: 2, file: "other.gif", image: "first frame.png" },
  ];
  const html = renderPage("Samples", entries);
  assert.deepEqual([...html.matchAll(/<th>(Step \d+)<\/th>/g)].map((match) => match[1]), ["Step 2", "Step 10"]);
  const rows = [...html.split("<tbody>")[1]!.matchAll(/<tr>.*?<\/tr>/gs)].map(([row]) => row);
  assert.equal(rows.length, 3);
  assert.match(rows[0]!, /kite-2\.mp4[\s\S]*kite%2010%25\.mp4/);
  // A prompt without a sample of a step has an empty cell.
  assert.match(rows[1]!, /<td><\/td>\n<td><video/);
  assert.match(rows[2]!, /<img src="first%20frame\.png"[\s\S]*<td><img src="other\.gif"/);
});

Deno.test("renderPage() takes nothing from elsewhere and lets no prompt break out", () => {
  const prompt = `</script><script>alert("x")</script> & 'more'`;
  const html = renderPage(prompt, [{ ...entry, prompt, file: `a"><b>.mp4`, details: "<i>" }]);
  assert.equal(/(?:https?:)?\/\//.test(html.replace(/<\/\w+>/g, "")), false);
  assert.equal([...html.matchAll(/<script/g)].length, 2);
  assert.equal(html.includes('alert("'), false);
  assert.equal(html.includes("<i>"), false);
  assert.match(html, /a%22%3E%3Cb%3E\.mp4/);
});

Deno.test("SamplePage keeps what earlier runs added while its files exist", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const write = (name: string) => Deno.writeTextFile(`${folder}/${name}`, "");
    await Promise.all(["one.mp4", "two.mp4", "three.mp4"].map(write));
    const add = (page: SamplePage, step: number, name: string) =>
      page.add({ ...entry, step, file: `${folder}/${name}`, image: `${folder}/first.png` });
    const first = new SamplePage(folder, "Run");
    await add(first, 1, "one.mp4");
    await add(first, 2, "two.mp4");
    await Deno.remove(`${folder}/one.mp4`);
    const second = new SamplePage(folder, "Run");
    await add(second, 3, "three.mp4");
    await add(second, 3, "three.mp4");
    const html = await Deno.readTextFile(second.path);
    assert.deepEqual([...html.matchAll(/<video src="([^"]+)"/g)].map((match) => match[1]), ["two.mp4", "three.mp4"]);
    assert.match(html, /<img src="first\.png"/);
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
      "index.html",
      "three.mp4",
      "two.mp4",
    ]);
    await Deno.writeTextFile(second.path, "not a page");
    await add(new SamplePage(folder, "Run"), 4, "two.mp4");
    assert.equal([...(await Deno.readTextFile(second.path)).matchAll(/<video/g)].length, 1);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("renderPage() lets a browser run only the script and style it wrote", () => {
  const html = renderPage("Samples", [entry]);
  const policy = /Content-Security-Policy" content="([^"]+)"/.exec(html)![1]!;
  assert.match(policy, /^default-src 'none';/);
  for (const [directive, tag] of [["script-src", "<script>"], ["style-src", "<style>"]] as const) {
    const text = html.slice(html.indexOf(tag) + tag.length, html.indexOf(tag.replace("<", "</"), html.indexOf(tag)));
    const hash = createHash("sha256").update(text).digest("base64");
    assert.ok(policy.includes(`${directive} 'sha256-${hash}'`), directive);
  }
});
