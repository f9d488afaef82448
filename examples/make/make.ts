/** Makes the example model and the clips of its demo again: `deno run -A examples/make/make.ts [SCRATCH]`. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { demoClips, writeClips } from "./clips.ts";
import { makeTextEncoder } from "./text_encoder.ts";
import { makeTransformer } from "./transformer.ts";
import { makeVae } from "./vae.ts";

const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
const examples = fileURLToPath(new URL("..", import.meta.url));
const model = join(examples, "toy");
const scratch = Deno.args[0] ?? Deno.makeTempDirSync();

await makeTextEncoder(model);
await makeVae(model, print);
await makeTransformer(model, scratch, print);
await writeClips(join(examples, "star"), demoClips(), 3);
