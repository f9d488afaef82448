import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { compareRuns, movedTo } from "../../../lib/cli/dashboard/compare.ts";
import { RunFolder } from "../../../lib/cli/dashboard/runs.ts";
import { readPageData } from "../../../lib/io/html_page.ts";
import { cli, FakeSignals } from "../fakes.ts";
import { writeRun } from "./pages.ts";

async function inRuns(body: (root: string) => Promise<void>): Promise<void> {
  const parent = Deno.makeTempDirSync();
  try {
    const root = join(parent, "runs");
    mkdirSync(root);
    await body(root);
  } finally {
    Deno.removeSync(parent, { recursive: true });
  }
}

Deno.test("compareRuns() tells the settings that differ, the lowest held-out loss and the last videos", () =>
  inRuns(async (root) => {
    await writeRun(join(root, "one 1"), { rank: 4, heldOut: 0.3, prompt: "a kite" });
    await writeRun(join(root, "two"), { rank: 8, heldOut: 0.1, prompt: "a kite" });
    Deno.mkdirSync(join(root, "no run"));
    const compared = compareRuns(root, new RunFolder(root).runs());
    assert.deepEqual(compared.runs.map(({ name, address, settings }) => [name, address, settings]), [
      ["one 1", "one%201/", { rank: "4", lora_alpha: "4" }],
      ["two", "two/", { rank: "8", lora_alpha: "8" }],
    ]);
    // Bands lie 0, 0.1, 0.2 and 0.3 above the end, which step 40 reaches.
    for (const [i, lowest] of [0.45, 0.25].entries()) assert.ok(Math.abs(compared.runs[i]!.heldOut! - lowest) < 1e-5);
    assert.deepEqual(compared.runs[0]!.samples, [
      { step: 40, prompt: "a kite", address: "one%201/validation_res/40.mp4" },
    ]);
    const heldOut = compared.charts.find(({ title }) => title === "Held-out loss")!;
    assert.deepEqual(heldOut.curves.map(({ name, points }) => [name, points.length]), [["one 1", 3], ["two", 3]]);
    // The smoothed loss of each, not every curve of it.
    assert.deepEqual(compared.charts.find(({ title }) => title === "Loss")!.curves.map(({ name }) => name), [
      "one 1",
      "two",
    ]);
  }));

Deno.test("movedTo() takes videos along while they are few, and points at them where they are many", () =>
  inRuns(async (root) => {
    await writeRun(join(root, "a b"), { video: Uint8Array.of(1, 2, 3) });
    const compared = compareRuns(root, new RunFolder(root).runs());
    const [embedded] = movedTo(join(root, "../x.html"), root, compared).runs;
    assert.deepEqual(embedded!.samples.map(({ address }) => address), ["data:video/mp4;base64,AQID"]);
    assert.equal(embedded!.address, "runs/a%20b/index.html");
    await Deno.truncate(join(root, "a b/validation_res/40.mp4"), 49 * 2 ** 20);
    for (
      const [page, way] of [["../x.html", "runs/"], ["x.html", ""], ["../other/x.html", "../runs/"], [
        "a b/x.html",
        "../",
      ]] as const
    ) {
      const [linked] = movedTo(join(root, page), root, compared).runs;
      assert.equal(linked!.samples[0]!.address, `${way}a%20b/validation_res/40.mp4`, page);
    }
  }));

Deno.test("dashboard: one file, or a server until Ctrl-C; what is wrong is said with what to do", () =>
  inRuns(async (root) => {
    await writeRun(join(root, "a"));
    const out = join(root, "../x.html");
    const written = await cli(["dashboard", root, "--out", out]);
    assert.deepEqual([written.code, written.calls], [0, []], written.error);
    assert.equal((readPageData(Deno.readTextFileSync(out)) as { title: string }).title, "runs");

    const signals = new FakeSignals();
    const serving = cli(["dashboard", join(root, "a"), "--port", "9000"], { signals });
    while (signals.handlers.size === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    signals.send("SIGINT");
    const { code, out: text, calls } = await serving;
    assert.deepEqual([code, calls], [0, [`serve ${join(root, "a")} 9000`, "served"]]);
    assert.match(text, /^Dashboard: http:\/\/127\.0\.0\.1:1\/ \(this machine only/);

    for (
      const [words, message] of [
        [[join(root, "nowhere")], /is no folder\nHint: give the output_dir/],
        [[join(root, "a/metrics.jsonl")], /is no folder/],
        [[join(root, "a/validation_res")], /There is no run in .*\nHint: /],
        [[root, "--port", "many"], /"many" is no port/],
        [[root, "--port", "99999"], /"99999" is no port/],
        [[root, "--port", "1", "--out", out], /--out writes a file, --port serves/],
        [[root, "--out", join(root, "none/x.html")], /none/],
      ] as const
    ) {
      const { code, error } = await cli(["dashboard", ...words]);
      assert.equal(code, 2, `${words}: ${error}`);
      assert.match(error, message);
      assert.equal(/\n\s+at /.test(error), false, error);
    }
  }));
