/** Checkpoints for a repository of the hub: on command, and by itself when a run has finished. */
import type { TrainConfig } from "../../config/config.ts";
import { messageOf } from "../../errors.ts";
import { type UploadedFile, uploadFiles, writeAccess } from "../../models/folder/hub_upload.ts";
import type { ServerOptions } from "../../models/folder/hub_server.ts";
import type { Environment } from "../machine/environment.ts";
import type { Terminal } from "../machine/terminal.ts";
import { programCall, quoted } from "../show/program_call.ts";
import { shortPath } from "../show/short_path.ts";
import { formatBytes, formatTable } from "../show/text.ts";
import { publicCheckpoint } from "./checkpoint_files.ts";
import { modelCard } from "./model_card.ts";

/** How a checkpoint is pushed. */
export interface PushOptions extends ServerOptions {
  /** As `owner/name`. */
  readonly repo: string;
  /** Whether the repository is made private when it does not exist. */
  readonly isPrivate: boolean;
  /** Tell what would be sent, and send nothing. */
  readonly dryRun?: boolean;
}

/**
 * Sends the files of a checkpoint that others need, with a model card. Returns the address of the repository unless
 * nothing was to be sent.
 *
 * @throws {UserError} when the checkpoint is damaged, or the hub refuses it.
 */
export async function pushCheckpoint(
  terminal: Terminal,
  path: string,
  options: PushOptions,
): Promise<string | undefined> {
  const { repo, isPrivate, dryRun = false, ...server } = options;
  if (!dryRun) writeAccess(server);
  const checkpoint = await publicCheckpoint(path);
  const card = modelCard(checkpoint, repo);
  const files = [...checkpoint.weights, ...checkpoint.videos];
  const sizes = [{ name: "README.md", size: new TextEncoder().encode(card).length }, ...files];
  const total = formatBytes(sizes.reduce((sum, { size }) => sum + size, 0));
  const what = `${sizes.length} files of ${shortPath(checkpoint.folder)}, ${total},`;
  if (dryRun) {
    terminal.write(`Would push ${what} to ${repo}; nothing was sent\n`);
    const rows = sizes.map(({ name, size }) => [name, formatBytes(size)]);
    terminal.write(`${formatTable(["file", "size"], rows).join("\n")}\n`);
    return undefined;
  }
  terminal.status(`pushing ${what} to ${repo}\n`);
  const uploaded: UploadedFile[] = files.map(({ name, path }) => ({ name, content: { path } }));
  const title = checkpoint.step === undefined ? "Upload a model" : `Upload the model after step ${checkpoint.step}`;
  return await uploadFiles(repo, [{ name: "README.md", content: { text: card } }, ...uploaded], {
    ...server,
    isPrivate,
    title,
  });
}

/** Pushes the result of a run that asks for it. Whatever goes wrong is a warning: the run itself is finished. */
export async function pushResult(
  { terminal, json }: Environment,
  { push_to_hub: repo, output_dir, keep_best }: TrainConfig,
  { last, ...server }: ServerOptions & { readonly last: string },
): Promise<void> {
  if (repo === undefined) return;
  const path = keep_best ? output_dir : last;
  try {
    const address = await pushCheckpoint(terminal, path, { ...server, repo, isPrivate: true });
    if (json) terminal.json({ type: "pushed", repo, address });
    else terminal.write(`Pushed to ${address}\n`);
  } catch (error) {
    const again = ["push", shortPath(path), "--repo", repo, "--private"].map(quoted).join(" ");
    const message = `the result is on disk, but was not pushed to ${repo}: ${
      messageOf(error)
    }\nTo push it:\n  ${programCall()} ${again}`;
    if (json) terminal.json({ type: "warning", message });
    else terminal.writeError(`warning: ${message}\n`);
  }
}
