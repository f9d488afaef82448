import assert from "node:assert/strict";
import { checkDeno, diagnose } from "../../../lib/cli/commands/doctor.ts";
import { ensureSystem, missingPackages } from "../../../lib/cli/machine/setup.ts";
import { UserError } from "../../../lib/errors.ts";
import { cli, fakeSystem, soundFiles, soundPrograms } from "../fakes.ts";

const apt = "/usr/bin/apt-get";
const installAll =
  "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ffmpeg mesa-vulkan-drivers libvulkan1";

Deno.test("missingPackages() names what is not there", async () => {
  assert.deepEqual(await missingPackages(fakeSystem(soundFiles, soundPrograms)), []);
  assert.deepEqual(await missingPackages(fakeSystem(soundFiles, {})), ["ffmpeg"]);
  const noVulkan = ["mesa-vulkan-drivers", "libvulkan1"];
  assert.deepEqual(await missingPackages(fakeSystem(soundFiles.slice(0, 1), soundPrograms)), noVulkan);
  assert.deepEqual(await missingPackages(fakeSystem(soundFiles.slice(1), soundPrograms)), noVulkan);
  assert.deepEqual(await missingPackages(fakeSystem([], soundPrograms, { os: "darwin" })), []);
  const environment = (name: string) => name === "VK_ICD_FILENAMES" ? "/none.json" : undefined;
  assert.deepEqual(await missingPackages(fakeSystem(soundFiles, soundPrograms, { environment })), noVulkan);
});

Deno.test("ensureSystem() does nothing on a sound machine", async () => {
  const system = fakeSystem([apt, ...soundFiles], soundPrograms);
  await ensureSystem(() => assert.fail("nothing to print"), system);
  assert.deepEqual(system.ran, ["ffmpeg -version", "ffprobe -version"]);
});

Deno.test("ensureSystem() installs as root, or with sudo that asks nothing, and says so", async () => {
  const lines: string[] = [];
  const env = { success: true, text: "" };
  const root = fakeSystem([apt], { env }, { isRoot: true });
  await ensureSystem((line) => lines.push(line), root);
  assert.deepEqual(root.ran.slice(2), ["env DEBIAN_FRONTEND=noninteractive apt-get update", installAll]);
  assert.match(
    lines[0]!,
    /ffmpeg and a Vulkan driver are missing; running: apt-get update && apt-get install -y ffmpeg/,
  );
  const sudo = fakeSystem([apt], { sudo: env });
  await ensureSystem(() => {}, sudo);
  assert.deepEqual(sudo.ran.slice(-1), [`sudo -n ${installAll}`]);
});

Deno.test("ensureSystem() brings what tests alone need when they ask for it, and goes on without it", async () => {
  const found = { success: true, text: "" };
  const lines: string[] = [];
  const root = fakeSystem([apt, ...soundFiles], { ...soundPrograms, env: found }, { isRoot: true });
  await ensureSystem((line) => lines.push(line), root, { tests: true });
  const install = "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openmpi-bin iproute2";
  assert.equal(root.ran.at(-1), install);
  assert.match(
    lines[0]!,
    /^Open MPI and iproute2 are missing; running: apt-get update && apt-get install -y openmpi-bin/,
  );
  const whole = fakeSystem([apt, ...soundFiles], { ...soundPrograms, mpirun: found, ip: found });
  await ensureSystem(() => assert.fail("nothing to print"), whole, { tests: true });
  assert.deepEqual(whole.ran.slice(2), ["mpirun --version", "ip -V"]);
  const told: string[] = [];
  await ensureSystem((line) => told.push(line), fakeSystem(["/usr/bin/dnf", ...soundFiles], soundPrograms), {
    tests: true,
  });
  assert.deepEqual(told, [
    "Open MPI and iproute2 are missing; tests that need more are left out. Run: sudo dnf install openmpi iproute",
  ]);
});

Deno.test("ensureSystem() gives the exact command where it cannot install", async () => {
  const hintOf = async (system: ReturnType<typeof fakeSystem>) => {
    try {
      await ensureSystem(() => {}, system);
    } catch (error) {
      if (error instanceof UserError) return error.message;
    }
    return assert.fail("no error");
  };
  assert.match(
    await hintOf(fakeSystem([apt], {})),
    /sudo apt-get update && sudo apt-get install -y ffmpeg mesa-vulkan-drivers libvulkan1$/,
  );
  assert.match(
    await hintOf(fakeSystem(["/usr/bin/dnf"], {})),
    /sudo dnf install ffmpeg-free mesa-vulkan-drivers vulkan-loader$/,
  );
  assert.match(await hintOf(fakeSystem([], {}, { os: "darwin" })), /brew install ffmpeg$/);
  const failing = { env: { success: false, text: "E: Unable to locate package ffmpeg\n" } };
  assert.match(await hintOf(fakeSystem([apt], failing, { isRoot: true })), /installing failed:\nE: Unable to locate/);
});

Deno.test("doctor names every fault with its remedy and ends with 1", async () => {
  const { code, out } = await cli(["doctor"], { system: fakeSystem([apt, "/dev/nvidia0"], {}) });
  assert.equal(code, 1);
  for (const name of ["ffmpeg", "ffprobe", "Vulkan loader", "Vulkan drivers", "NVIDIA driver", "GPU"]) {
    assert.match(out, new RegExp(`^problem +${name} `, "m"));
  }
  assert.match(out, /sudo apt-get install -y mesa-vulkan-drivers libvulkan1/);
  assert.match(out, /NVIDIA_DRIVER_CAPABILITIES=all/);
  assert.match(out, /\n\nNot ready to train: 6 problems \(ffmpeg, ffprobe, Vulkan loader, .*, GPU\)\n$/);
});

Deno.test("doctor describes a sound machine and ends with 0", async () => {
  const adapter = {
    engine: "deno" as const,
    description: "llvmpipe (LLVM 15.0.6, 256 bits)",
    vendor: "mesa",
    architecture: "",
    matrix: [],
    software: true,
    subgroups: { min: 8, max: 8 },
    features: ["shader-f16", "timestamp-query"],
    missing: ["matrix units"],
    limits: { maxBufferSize: 2 ** 31, maxComputeWorkgroupSizeX: 1024 },
  };
  const shape = { component: "f16" as const, result: "f32" as const, m: 16, n: 8, k: 4 };
  const dawn = { ...adapter, engine: "dawn" as const, software: false, matrix: [shape], missing: [] };
  const engines = [{ engine: "deno" as const, adapter }, { engine: "dawn" as const, adapter: dawn }];
  const { code, out } = await cli(["doctor"], { commands: { describeEngines: () => Promise.resolve(engines) } });
  assert.equal(code, 0, out);
  assert.match(out, /^note +GPU +llvmpipe \(LLVM 15\.0\.6, 256 bits\) \(mesa\), engine deno$/m);
  assert.match(out, /^ok +Subgroups +8 to 8 lanes$/m);
  assert.match(out, /maxBufferSize 2\.00 GiB, maxComputeWorkgroupSizeX 1024/);
  assert.match(out, /^note +Missing +matrix units$/m);
  assert.match(out, /^ok +GPU +llvmpipe \(LLVM 15\.0\.6, 256 bits\) \(mesa\), engine dawn$/m);
  assert.match(out, /^ok +Matrix units +f16 to f32 16x8x4$/m);
  assert.match(out, /^ok +Memory +8\.00 GiB free of 16\.0 GiB$/m);
  assert.match(out, /\n\nReady to train on llvmpipe \(LLVM 15\.0\.6, 256 bits\), engine dawn\n$/);
  const software = { commands: { describeEngines: () => Promise.resolve(engines.slice(0, 1)) } };
  assert.match((await cli(["doctor"], software)).out, /\n\nReady for tests and tiny models only: no GPU was found/);
  const told = JSON.parse((await cli(["doctor", "--json"], software)).out);
  assert.deepEqual([told.type, told.ready, told.engines], ["doctor", true, engines.slice(0, 1)]);
});

Deno.test("doctor reports an adapter that cannot be opened, and an old Deno", async () => {
  const engines = (["deno", "dawn"] as const).map((engine) => ({ engine, problem: "lost" }));
  const checks = await diagnose(fakeSystem(soundFiles, soundPrograms), () => Promise.resolve(engines));
  const [own, dawn] = checks.filter(({ name }) => name === "GPU");
  assert.deepEqual(own, { name: "GPU", status: "problem", found: "engine deno: lost" });
  assert.equal(dawn!.status, "note", "Dawn is optional");
  assert.match(dawn!.remedy!, /deno add npm:webgpu@/);
  assert.equal(checkDeno("2.8.1").status, "problem");
  assert.equal(checkDeno("2.9.0").status, "ok");
  assert.equal(checkDeno("3.0.0").status, "ok");
});
