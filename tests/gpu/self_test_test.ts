/** A driver that computes wrongly is refused before a run begins, with the parts that are wrong. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { UserError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { selfTest } from "../../lib/gpu/self_test.ts";
import { engine } from "../engine.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";

Deno.test("this machine's driver passes, with and without subgroups", async () => {
  for (const subgroups of [true, false]) {
    using device = await openDevice({ engine, subgroups });
    await selfTest(device);
  }
});

/** What a driver may get wrong, as a change to the texts that it compiles. */
const FAULTS: Readonly<Record<string, readonly [from: RegExp, to: string]>> = {
  "a matrix product": [/0\.7978845608028654/g, "0.7983"],
  "numbers in f16": [/unpack2x16float\(q\.x\)/g, "unpack2x16unorm(q.x)"],
  "numbers in bf16": [/q\.x << 16u/g, "q.x << 15u"],
  "a sum": [/let norm = sqrt\(squares\)/, "let norm = squares"],
  "the sight of NaN and infinity": [/vec4u\(0x7f800000u\)\);/, "vec4u(0x7f800001u));"],
};

for (const [part, [from, to]] of Object.entries(FAULTS)) {
  Deno.test(`a driver that gets ${part} wrong is refused by that name`, async () => {
    using device = await openDevice({ engine });
    const { gpu } = device;
    let changed = 0;
    const faulty = new Proxy(gpu, {
      get(target, name) {
        const value = Reflect.get(target, name, target);
        if (name === "createShaderModule") {
          return ({ code, ...rest }: GPUShaderModuleDescriptor) => {
            const text = code.replace(from, to);
            if (text !== code) changed++;
            return gpu.createShaderModule({ ...rest, code: text });
          };
        }
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    Object.defineProperty(device, "gpu", { value: faulty });
    await assert.rejects(selfTest(device), (error) => {
      assert.ok(error instanceof UserError, `${error}`);
      assert.ok(error.summary.includes(` gives wrong results for ${part}: nothing is computed on it`), error.summary);
      assert.match(error.hint!, /driver of the GPU.*engine: dawn/);
      return true;
    });
    assert.ok(changed > 0, "the texts have what is changed");
  });
}

Deno.test("a run begins with the test, and leaves no trace on a driver that fails it", () =>
  inScratch(async (folder) => {
    const config = configOf(folder);
    using device = await openDevice({ engine });
    const prototype: GPUDevice = Object.getPrototypeOf(device.gpu);
    const { createShaderModule } = prototype;
    try {
      prototype.createShaderModule = function ({ code, ...rest }) {
        return createShaderModule.call(this, { ...rest, code: code.replace(...FAULTS["a sum"]!) });
      };
      await assert.rejects(collect(config), /gives wrong results for a sum/);
      assert.ok(!existsSync(config.output_dir));
    } finally {
      prototype.createShaderModule = createShaderModule;
    }
  }));
