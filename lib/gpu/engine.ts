/** Which engine a run uses, and why: Deno's own needs nothing, Dawn brings matrix units where the driver has them. */
import type { MatrixShape } from "../../kernels/core/kernel.ts";
import { messageOf, UserError } from "../errors.ts";
import { type AdapterReport, type OpenAdapter, openAdapter } from "./adapter.ts";
import { installDawn, isDawnInstalled } from "./dawn.ts";
import type { Engine } from "./dialect.ts";

/** `auto` takes Dawn where it is installed and brings matrix units, else Deno's own engine. */
export type EngineChoice = "auto" | Engine;

/** An adapter with why its engine was chosen. */
export interface ChosenAdapter extends OpenAdapter {
  /** As "engine dawn: it brings matrix units (f16 to f32 8x8x8)". */
  readonly reason: string;
}

/** What engines this machine has; replaced by tests. */
export interface Engines {
  open(engine: Engine): Promise<OpenAdapter | undefined>;
  isDawnInstalled(): boolean;
}

const machine: Engines = { open: openAdapter, isDawnInstalled };

/**
 * Opens the adapter of the chosen engine.
 *
 * @throws {UserError} when there is none: the hint names the packages that bring a software driver.
 */
export async function openEngine(choice: EngineChoice, engines: Engines = machine): Promise<ChosenAdapter> {
  if (choice !== "auto") return { ...await openOrThrow(choice, engines), reason: `engine ${choice}: as set` };
  const { dawn, problem } = await findDawn(engines);
  if (dawn !== undefined) {
    return { ...dawn, reason: `engine dawn: it brings matrix units (${describeMatrix(dawn.report.matrix)})` };
  }
  return { ...await openOrThrow("deno", engines), reason: `engine deno: ${problem}` };
}

/** Dawn's adapter if it has matrix units, else why it is of no use here. */
async function findDawn(engines: Engines): Promise<{ dawn?: OpenAdapter; problem?: string }> {
  if (!engines.isDawnInstalled()) {
    return { problem: `Dawn, which reaches the matrix units of many cards, is not installed (${installDawn})` };
  }
  try {
    const dawn = await engines.open("dawn");
    if (dawn === undefined) return { problem: "Dawn finds no adapter it can use" };
    return dawn.report.matrix.length > 0 ? { dawn } : { problem: "Dawn finds no matrix units with this driver either" };
  } catch (error) {
    return { problem: messageOf(error) };
  }
}

async function openOrThrow(engine: Engine, engines: Engines): Promise<OpenAdapter> {
  const opened = await engines.open(engine);
  if (opened !== undefined) return opened;
  throw new UserError(
    `No GPU adapter was found by engine ${engine}: neither a GPU driver nor a software Vulkan driver that it can use answers`,
    "on Debian: `apt-get install -y mesa-vulkan-drivers libvulkan1` brings a software driver; on a GPU machine install the " +
      `vendor's Vulkan driver${engine === "dawn" ? "; Dawn needs Mesa 25 or later, `engine: deno` does not" : ""}`,
  );
}

/** As "f16 to f32 16x16x16, f16 to f16 16x16x16", in m x n x k. */
export function describeMatrix(shapes: readonly MatrixShape[]): string {
  return shapes.map(({ component, result, m, n, k }) => `${component} to ${result} ${m}x${n}x${k}`).join(", ");
}

/** One engine as `doctor` shows it: its adapter, or why there is none. */
export interface EngineReport {
  readonly engine: Engine;
  readonly adapter?: AdapterReport | undefined;
  readonly problem?: string;
}

/** Looks at both engines. */
export function describeEngines(engines: Engines = machine): Promise<EngineReport[]> {
  return Promise.all((["deno", "dawn"] as const).map(async (engine): Promise<EngineReport> => {
    if (engine === "dawn" && !engines.isDawnInstalled()) return { engine, problem: "not installed" };
    try {
      return { engine, adapter: (await engines.open(engine))?.report };
    } catch (error) {
      return { engine, problem: messageOf(error) };
    }
  }));
}
