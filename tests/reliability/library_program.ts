/** A program that trains with the library and ends by itself. Argument: JSON of settings. */
import { loadConfig, trainAnywhere } from "../../mod.ts";

const { config } = await loadConfig({ overrides: JSON.parse(Deno.args[0]!) });
for await (const { type } of trainAnywhere(config)) {
  if (type === "finished") Deno.stdout.writeSync(new TextEncoder().encode("finished\n"));
}
