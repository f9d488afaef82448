import { chaos } from "./chaos.ts";

Deno.test("twenty runs that fail at random end in time, name the culprit and leave nothing", async () => {
  await chaos(20, 0, () => {});
});
