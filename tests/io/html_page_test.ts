/** Pages of one file: what is in them is data, and nothing is fetched from elsewhere. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { escapeHtml } from "../../lib/html.ts";
import { addressOf, contentPolicy, readPageData, renderHtml } from "../../lib/io/html_page.ts";

const hostile = `</script><script>alert(1)</script><!-- " ' & \u2028`;
const page = { title: hostile, style: "p { color: red }", body: "<p></p>", data: { hostile }, script: "go();" };

Deno.test("text from outside ends neither an element nor an attribute", () => {
  assert.equal(escapeHtml(`<a b="c" d='e'>&amp;`), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
});

Deno.test("data of a page come back as they were, and cannot end their element", () => {
  const html = renderHtml(page);
  assert.equal(html.split("</script>").length, 3, "one element for the data and one for the script");
  assert.deepEqual(readPageData(html), { hostile });
  assert.ok(html.includes(`<title>${escapeHtml(hostile)}</title>`));
  assert.equal(readPageData("<p>another page</p>"), undefined);
});

Deno.test("a page runs its own script alone and fetches nothing but media beside it", () => {
  const hash = createHash("sha256").update(page.script).digest("base64");
  const policy = new Map(
    contentPolicy(page).split("; ").map((part) => {
      const [name, ...sources] = part.split(" ");
      return [name!, sources.join(" ")];
    }),
  );
  assert.equal(policy.get("default-src"), "'none'");
  assert.equal(policy.get("script-src"), `'sha256-${hash}'`);
  assert.deepEqual([policy.get("base-uri"), policy.get("form-action")], ["'none'", "'none'"]);
  assert.equal(policy.get("img-src"), "'self' file: data:");
  assert.ok(renderHtml(page).includes(`content="${contentPolicy(page)}"`));
});

Deno.test("addresses keep folders and escape what has a meaning in them", () => {
  assert.equal(addressOf("a b/c#1?.mp4"), "a%20b/c%231%3F.mp4");
});
