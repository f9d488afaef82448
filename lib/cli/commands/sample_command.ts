/** `cogtune sample`: prompts, pictures and videos in, videos and a page of them out. */
import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { readTextList } from "../../data/dataset/text_list.ts";
import { TOOLS } from "../../data/video/ffmpeg.ts";
import { problemOf, UserErrors } from "../../errors.ts";
import { openDevice } from "../../gpu/device.ts";
import { selfTest } from "../../gpu/self_test.ts";
import { Session } from "../../gpu/session.ts";
import { makeFolder } from "../../io/file_operations.ts";
import { requireOutside } from "../../io/program.ts";
import { resolveModelPath } from "../../models/folder/hub.ts";
import { type ModelFolder, openModelFolder } from "../../models/folder/model_folder.ts";
import { describeUnused } from "../../models/folder/unused_tensors.ts";
import { isVersion15 } from "../../models/transformer/config.ts";
import { sampleName, writePicture, writeSample } from "../../sample/files.ts";
import { SamplePage } from "../../sample/page.ts";
import { roundsWhenSampling } from "../../sample/load_transformer.ts";
import { readPicture, readVideo } from "../../sample/pictures.ts";
import { sampleOn, type SamplingEvent } from "../../sample/sample.ts";
import {
  checkRequests,
  defaultSettings,
  describeSettings,
  type SampleRequest,
  type SampleSettings,
} from "../../sample/settings.ts";
import type { Environment } from "../machine/environment.ts";
import type { SampleFlags } from "./sample_flags.ts";
import { withSignals } from "../machine/signals.ts";
import type { Terminal } from "../machine/terminal.ts";
import { shortPath } from "../show/short_path.ts";
import { formatBytes, formatDuration } from "../show/text.ts";

const DEFAULT_SEED = 42;

/** What mends a wrong request. */
const HELP = "correct them; cogtune sample --help lists every flag";

/** Frame rate a model was trained at. */
function modelRate({ transformer }: ModelFolder): number {
  return isVersion15(transformer) ? 16 : 8;
}

function settingsOf(flags: SampleFlags, model: ModelFolder): SampleSettings {
  const base = defaultSettings(model.transformer);
  const [frames, height, width] = flags.resolution ?? [base.frames, base.height, base.width];
  return {
    frames,
    height,
    width,
    sampler: flags.sampler,
    steps: flags.num_inference_steps,
    guidance: flags.guidance_scale,
    dynamic: flags.use_dynamic_cfg,
    strength: flags.strength,
    tiling: !flags.whole_frames,
    batched: flags.batched_guidance,
    streamed: flags.stream_weights,
    dtype: flags.dtype,
  };
}

/** What a run is asked to make: prompts, and per prompt the picture or video it starts from. */
interface Inputs {
  readonly prompts: readonly string[];
  readonly images: readonly string[];
  readonly videos: readonly string[];
}

/** Reads lists and pairs them with the prompts. Throws UserErrors with everything that does not fit. */
async function readInputs(flags: SampleFlags): Promise<Inputs> {
  const problems: string[] = [];
  const list = async (path: string | undefined, label: string) =>
    path === undefined ? [] : (await readTextList(path, `${label} "${path}"`, problems) ?? []).map(({ text }) => text);
  const prompts = [...flags.prompt ?? [], ...await list(flags.prompts, "prompts")];
  const listed = await list(flags.images, "images");
  const images = [...flags.image ?? [], ...listed.map((path) => resolve(dirname(flags.images!), path))];
  const videos = flags.video ?? [];
  if (prompts.length === 0 && problems.length === 0) problems.push("no prompt: add --prompt TEXT or --prompts FILE");
  for (const [what, files] of [["images", images], ["videos", videos]] as const) {
    if (files.length > 1 && files.length !== prompts.length) {
      problems.push(`${files.length} ${what} for ${prompts.length} prompts: expected one for all or one per prompt`);
    }
  }
  for (const { path } of flags.lora ?? []) if (!existsSync(path)) problems.push(`lora "${path}": no such file`);
  if (problems.length > 0) throw new UserErrors("Cannot sample", problems, HELP);
  return { prompts, images, videos };
}

/** What `read` returns, or nothing and one more problem. */
async function orProblem<T>(read: () => Promise<T>, problems: string[]): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    problems.push(problemOf(error));
  }
}

/** Decodes pictures and videos, each file once, and makes a request per prompt and seed. */
async function readRequests(
  flags: SampleFlags,
  { prompts, images, videos }: Inputs,
  { frames, fps, note }: { readonly frames: number; readonly fps: number; readonly note: (text: string) => void },
): Promise<SampleRequest[]> {
  const problems: string[] = [];
  const pictures = new Map<string, SampleRequest["image"]>();
  for (const path of new Set(images)) {
    const picture = await orProblem(() => readPicture(path), problems);
    if (picture !== undefined) pictures.set(path, picture);
  }
  const clips = new Map<string, SampleRequest["video"]>();
  for (const path of new Set(videos)) {
    const { video, warning } = await orProblem(() => readVideo(path, { frames, fps }), problems) ?? {};
    if (warning !== undefined) note(warning);
    if (video !== undefined) clips.set(path, video);
  }
  if (problems.length > 0) throw new UserErrors("Cannot sample", problems, HELP);
  const seeds = flags.seed === undefined || flags.seed.length === 0 ? [DEFAULT_SEED] : flags.seed;
  const at = (files: readonly string[], i: number) => files.length === 1 ? files[0]! : files[i] ?? "";
  return prompts.flatMap((prompt, i) =>
    seeds.map((seed) => ({
      prompt,
      negative: flags.negative_prompt,
      seed,
      image: pictures.get(at(images, i)),
      video: clips.get(at(videos, i)),
    }))
  );
}

/** Shows steps on one line that is redrawn, and nothing of them where nobody watches. */
class StatusLine {
  #drawn = false;

  constructor(readonly terminal: Terminal) {}

  draw(text: string): void {
    this.terminal.redraw(text);
    this.#drawn = true;
  }

  /** Says what goes on. */
  line(text: string): void {
    this.finish();
    this.terminal.status(`${text}\n`);
  }

  /** Names a result. */
  result(text: string): void {
    this.finish();
    this.terminal.write(`${text}\n`);
  }

  finish(): void {
    if (this.#drawn) this.terminal.redraw("");
    this.#drawn = false;
  }
}

const PHASES = {
  encode: "encoding prompts and pictures",
  load: "loading the transformer",
  decode: "decoding",
} as const;

/** Draws what is not a finished video. */
function show(status: StatusLine, event: SamplingEvent, total: number): void {
  if (event.type === "note") status.result(`note: ${event.message}`);
  else if (event.type === "phase") status.draw(PHASES[event.phase]);
  else if (event.type === "step") status.draw(`video ${event.index + 1}/${total}: step ${event.step}/${event.steps}`);
}

/** Writes a finished video, its picture and the page; returns the line to print. */
async function save(
  { index, video, seconds }: SamplingEvent & { readonly type: "video" },
  { prompt, seed, image }: SampleRequest,
  { page, flags, settings, fps }: {
    readonly page: SamplePage;
    readonly flags: SampleFlags;
    readonly settings: SampleSettings;
    readonly fps: number;
  },
): Promise<string> {
  const base = join(flags.output_dir, sampleName(index, prompt, seed));
  const formats = flags.format === undefined || flags.format.length === 0 ? ["mp4" as const] : new Set(flags.format);
  const paths = await writeSample(base, video, { formats: [...formats], fps });
  const start = image === undefined ? undefined : `${base}-start.png`;
  if (image !== undefined) await writePicture(start!, image);
  const shown = paths.find((path) => /\.(mp4|gif)$/.test(path));
  if (shown !== undefined) {
    await page.add({ prompt, seed, file: shown, image: start, details: describeSettings(settings) });
  }
  const { frames, width, height } = video;
  return `${paths.map((path) => shortPath(path)).join(", ")} (${frames} frames of ${width}x${height}, ${
    formatDuration(seconds)
  })`;
}

/** The folder that `model_path` means, downloaded first when it is a hub id. */
async function modelFolder(path: string, status: StatusLine): Promise<string> {
  const events = resolveModelPath(path);
  try {
    for (;;) {
      const { done, value } = await events.next();
      if (done) return value;
      if (value.type === "status") status.line(value.message);
      else status.draw(`${value.model}: ${formatBytes(value.done)} of ${formatBytes(value.total)}  ${value.file}`);
    }
  } finally {
    status.finish();
  }
}

/** Runs the command; returns the exit code. Throws UserError for whatever the user has to mend. */
export async function sampleCommand(environment: Environment, flags: SampleFlags): Promise<number> {
  const { terminal } = environment;
  const status = new StatusLine(terminal);
  const note = (text: string) => status.result(`note: ${text}`);
  const model = openModelFolder(await modelFolder(flags.model_path, status));
  describeUnused(model).forEach(note);
  const settings = settingsOf(flags, model);
  const fps = flags.fps ?? modelRate(model);
  const inputs = await readInputs(flags);
  await environment.ensureSystem((line) => terminal.writeError(`${line}\n`));
  const requests = await readRequests(flags, inputs, { frames: settings.frames, fps, note });
  checkRequests(model.transformer, settings, requests);
  requireOutside(TOOLS, [flags.output_dir]);
  makeFolder(flags.output_dir);
  const mixed = roundsWhenSampling(model, { dtype: settings.dtype, precision: flags.matmul_precision });
  using device = await openDevice({ engine: flags.engine, mixed });
  await selfTest(device);
  status.line(`on ${device.title}`);
  using session = new Session(device, flags.gpu_memory === undefined ? Infinity : flags.gpu_memory * 2 ** 30);
  const page = new SamplePage(flags.output_dir, `Samples of ${basename(resolve(flags.model_path))}`);
  return await withSignals(
    environment.signals,
    async (signal) => {
      try {
        for await (const event of sampleOn(session, model, requests, { settings, loras: flags.lora, signal })) {
          if (event.type !== "video") show(status, event, requests.length);
          else status.result(await save(event, requests[event.index]!, { page, flags, settings, fps }));
        }
        if (existsSync(page.path)) status.result(`page: ${shortPath(page.path)}`);
      } finally {
        status.finish();
      }
    },
    (name, again) =>
      status.line(again ? `${name} again: ended` : `${name}: ending after this step; finished videos are on disk`),
  );
}
