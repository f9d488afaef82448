/** Pages of runs in a real browser: from disk and served, while a run goes on and after, one and several compared. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { serveDashboard } from "../../../lib/cli/dashboard/server.ts";
import { Chromium, hasChromium, type Page } from "../../chromium.ts";
import { cli } from "../fakes.ts";
import { fromFileUrl } from "../../paths.ts";
import { HOSTILE, stepOf, writeRun } from "./pages.ts";

const clip = readFileSync(fromFileUrl("../../../examples/clips/videos/ball.mp4", import.meta.url));

const textOf = (page: Page, selector: string) =>
  page.evaluate<string>(`document.querySelector("${selector}").innerText`);

/** Points of a curve as they are drawn. */
async function pointsOf(page: Page, title: string, curve: number): Promise<number[][]> {
  const selector = `[id="chart ${title}"] g:nth-of-type(${curve + 1}) polyline`;
  const points = await page.evaluate<string>(`document.querySelector('${selector}').getAttribute("points")`);
  return points.split(" ").map((point) => point.split(",").map(Number));
}

/** At desk and phone width: nothing hangs over, videos are large enough to judge, and something is drawn. */
async function look(page: Page): Promise<void> {
  for (const width of [1280, 390]) {
    await page.resize(width);
    assert.equal(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, `${width}`);
    const narrowest = await page.evaluate<number>(
      `Math.min(...[...document.querySelectorAll("video")].map((video) => video.getBoundingClientRect().width))`,
    );
    assert.ok(narrowest >= 240, `a video of ${narrowest} at ${width}`);
    assert.ok((await page.screenshot()).length > 20_000);
  }
  await page.resize(1280);
}

/** What HOSTILE says is seen, as text, and nothing of it has happened. */
async function isUnharmed(page: Page, selector: string): Promise<void> {
  const seen = await page.evaluate<string>(`document.querySelector("${selector}").textContent`);
  assert.equal(seen.includes(HOSTILE.replace("\u202e", "\\u{202e}")), true, seen);
  assert.equal(
    await page.evaluate(`document.querySelector("img[src=x]") === null && document.title !== "broken"`),
    true,
  );
}

Deno.test({
  name: "Chromium shows runs in progress, finished and compared, from disk and served (needs Debian's chromium)",
  ignore: !hasChromium,
  fn: async (t) => {
    const root = join(Deno.makeTempDirSync(), "runs");
    mkdirSync(root);
    await using browser = await Chromium.start();
    const finished = join(root, "finished");
    await writeRun(finished, { prompt: HOSTILE, video: clip, heldOut: 0.9 });

    await t.step("a finished run, from disk", async () => {
      const page = await browser.open(`file://${finished}/index.html`);
      await page.until(`document.querySelectorAll("video").length === 2`);
      assert.match(await textOf(page, "header"), /^finished\s+finished\s+Step 40 of 40 · written/);
      for (const selector of [".prompt", "#clips figcaption", "#clips figure:nth-child(2) small", "#notes li", "pre"]) {
        if (selector === "pre") {
          assert.match(
            await page.evaluate<string>(`document.querySelector("pre").textContent`),
            /<\/script><img src=x/,
          );
        } else await isUnharmed(page, selector);
      }
      // Losses 0.2 + 1 / step + 0.1 sin(2.3 step) at equal distances: heights are in proportion.
      const points = await pointsOf(page, "Loss", 0);
      const loss = (step: number) => 0.2 + 1 / step + 0.1 * Math.sin(step * 2.3);
      const scale = (points[39]![1]! - points[0]![1]!) / (loss(40) - loss(1));
      for (const [i, [x, y]] of points.entries()) {
        assert.ok(Math.abs(y! - points[0]![1]! - scale * (loss(i + 1) - loss(1))) < 0.2, `step ${i + 1}`);
        assert.ok(Math.abs(x! - points[0]![0]! - i / 39 * (points[39]![0]! - points[0]![0]!)) < 0.2);
      }
      assert.equal(await page.evaluate(`document.querySelectorAll("[id='chart Loss'] .mark").length`), 1);
      // Layers 1 to 6 have norms 1 to 6.
      assert.match(await textOf(page, "#norm"), /^transformer_blocks\.2\.attn1\.to_v: 6, the largest of 6 layers$/);
      assert.match(await textOf(page, "#phases"), /training\s+6 GiB of 5 GiB planned/);
      await look(page);
    });

    await t.step("by keyboard: the slider of videos, the cursor of a chart, the layers", async () => {
      const page = await browser.open(`file://${finished}/index.html`);
      const shown = `[...document.querySelectorAll("video")].map((video) => video.getAttribute("src")).join()`;
      await page.until(`${shown} === "validation_res/0.mp4,validation_res/40.mp4"`);
      await page.evaluate(`document.getElementById("step").focus()`);
      assert.notEqual(await page.evaluate(`getComputedStyle(document.activeElement).outlineStyle`), "none");
      await page.press("ArrowLeft");
      assert.equal(await page.evaluate(shown), "validation_res/0.mp4,validation_res/20.mp4");
      assert.equal(await page.evaluate(`document.activeElement.getAttribute("aria-valuetext")`), "step 20");
      await page.evaluate(`document.getElementById("chart Loss").focus()`);
      for (let i = 0; i < 3; i++) await page.press("ArrowLeft");
      assert.match(
        await page.evaluate<string>(`document.activeElement.getAttribute("aria-label")`),
        /^Loss at step 37: /,
      );
      await page.evaluate(`document.getElementById("norms").focus()`);
      await page.press("ArrowUp");
      assert.match(await textOf(page, "#norm"), /^transformer_blocks\.2\.attn1\.to_q: 5$/);
      await page.until(`[...document.querySelectorAll("video")].every((video) => video.readyState >= 1)`);
    });

    const running = join(root, "running");
    const records = (await writeRun(running, { rank: 8, steps: 25, heldOut: 0.1, prompt: HOSTILE, video: clip }))!;
    const disk = await browser.open(`file://${running}/index.html`);
    await disk.until(`document.getElementById("state").textContent === "running"`);
    {
      await using dashboard = await serveDashboard(root, 0);

      await t.step("a run that goes on, served: what is new appears, and what plays goes on", async () => {
        const page = await browser.open(dashboard.address.replace("?", "running/?"));
        await page.until(`document.querySelectorAll("video").length === 2`);
        await isUnharmed(page, ".prompt");
        assert.match(
          await textOf(page, "#status"),
          /^Step \d+ of 40 · about \d+ s left, until .* · written (just now|\d+ (s|min) ago)/,
        );
        await page.evaluate(`window.kept = document.querySelector("video")`);
        await page.until(`[...document.querySelectorAll("video")].every((video) => video.readyState >= 1)`);
        await records.write(stepOf(26));
        await records.write({ type: "warning", message: "it rains" });
        await page.until(`document.getElementById("status").textContent.startsWith("Step 26 of 40")`);
        assert.equal(await page.evaluate(`document.querySelector("#notes li:last-child").textContent`), "it rains");
        assert.equal(await page.evaluate(`window.kept === document.querySelector("video")`), true);
        await look(page);
        // An hour later, without a word from the run.
        const told = `(data.written -= 3600e3, tellAge(), document.getElementById("status").textContent)`;
        assert.match(await page.evaluate<string>(told), / · no news for 6\d min: it may have been ended$/);
      });

      await t.step("two runs compared, served: differences, order, videos of one prompt", async () => {
        const page = await browser.open(dashboard.address);
        await page.until(`document.querySelectorAll("video").length === 2`);
        const heads = `[...document.querySelectorAll("th")].map((cell) => cell.textContent).join()`;
        assert.equal(await page.evaluate(heads), "Run,State,Step,Loss,Lowest held-out ↑,rank,lora_alpha");
        const names = `[...document.querySelectorAll("tbody a, .pairs b")].map((node) => node.textContent).join()`;
        assert.equal(await page.evaluate(names), "running,finished,running,finished");
        await page.evaluate(`document.getElementById("by heldOut").click()`);
        assert.equal(await page.evaluate(names), "finished,running,finished,running");
        await page.evaluate(`document.getElementById("by name").click()`);
        await isUnharmed(page, ".prompt");
        assert.equal((await pointsOf(page, "Held-out loss", 0)).length, 3);
        await look(page);
        await page.evaluate(`document.getElementById("show running").click()`);
        assert.equal(await page.evaluate(`document.querySelectorAll("video").length`), 1);
        // A run that ends is seen here too.
        await records.write({ type: "finished", step: 26, seconds: 1, path: "checkpoint-26", interrupted: true });
        await page.until(`document.getElementById("state").textContent === "no run goes on"`);
      });
    }
    records[Symbol.dispose]();

    await t.step(
      "the page on disk has followed the run",
      () => disk.until(`document.getElementById("state").textContent === "interrupted"`),
    );

    await t.step("a comparison in one file plays its videos without the runs", async () => {
      const file = join(root, "../sent/compare.html");
      mkdirSync(join(root, "../sent"));
      const { code, error } = await cli(["dashboard", root, "--out", file]);
      assert.equal(code, 0, error);
      Deno.renameSync(root, `${root}.gone`);
      const page = await browser.open(`file://${file}`);
      await page.until(`[...document.querySelectorAll("video")].filter((video) => video.readyState >= 1).length === 2`);
      await look(page);
      assert.equal(existsSync(root), false);
    });
    await Deno.remove(join(root, ".."), { recursive: true });
  },
});
