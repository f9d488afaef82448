import { chaos } from "./chaos.ts";

/** A rank stopped, and the run continued; a rank killed; the launcher killed: one variant, so that one reference will do. */
const quick = [20, 9, 107];
const full = Array.from({ length: 40 }, (_, seed) => seed);

Deno.test("training that fails at random ends in time, names the culprit, leaves nothing and keeps its checkpoints", async () => {
  await chaos(Deno.env.has("COGTUNE_FULL") ? full : quick, () => {}, (_, error) => {
    throw error;
  });
});
