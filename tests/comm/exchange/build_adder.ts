/**
 * Assembles lib/comm/exchange/adder.wat into lib/comm/exchange/adder_wasm.ts. Needs wat2wasm (Debian package wabt).
 * Run: deno run -A tests/comm/exchange/build_adder.ts
 */
import { createHash } from "node:crypto";

const source = new URL("../../../lib/comm/exchange/adder.wat", import.meta.url);
const target = new URL("../../../lib/comm/exchange/adder_wasm.ts", import.meta.url);
const output = await Deno.makeTempFile({ suffix: ".wasm" });
try {
  const { success, stderr } = await new Deno.Command("wat2wasm", {
    args: ["--enable-memory64", source.pathname, "-o", output],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const hash = createHash("sha256").update(await Deno.readFile(source)).digest("hex");
  const lines = (await Deno.readFile(output)).toBase64().match(/.{1,100}/g)!;
  const text = [
    `/**`,
    ` * Made by tests/comm/exchange/build_adder.ts from adder.wat, of SHA-256 ${hash};`,
    ` * registries of packages accept text, not WebAssembly files.`,
    ` */`,
    ``,
    `/** The module's bytes in base64. */`,
    `export const adderWasm = [`,
    ...lines.map((line) => `  "${line}",`),
    `].join("");`,
    ``,
  ];
  await Deno.writeTextFile(target, text.join("\n"));
} finally {
  await Deno.remove(output);
}
