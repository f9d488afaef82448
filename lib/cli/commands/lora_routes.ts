/** The words and flags of the `lora` commands. */
import { buildCommand, buildRouteMap, type Command, numberParser, type RouteMap } from "@stricli/core";
import { UserError } from "../../errors.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import { type LoraFormat, loraFormats } from "../../models/lora/keys.ts";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";
import {
  exportCommand,
  extractCommand,
  inspectCommand,
  type LoraFlags,
  mergeCommand,
  verifyCommand,
} from "./lora_commands.ts";

const file = {
  kind: "tuple",
  parameters: [{ brief: "LoRA in safetensors format, or the folder it is in", parse: String, placeholder: "file" }],
} as const;

const modelPath = {
  kind: "parsed",
  parse: String,
  brief: "Diffusers folder of the model the LoRA was trained on",
  placeholder: "folder",
} as const;

const alpha = {
  kind: "parsed",
  parse: positiveNumber,
  brief: "Alpha the LoRA was trained with, whatever the file says",
  optional: true,
  placeholder: "number",
} as const;

const dtypes: readonly StorageType[] = ["f32", "f16", "bf16"];

const inspect: Command<CliContext> = buildCommand<Record<never, never>, [string], CliContext>({
  func(_flags, path) {
    inspectCommand(this.environment, path);
  },
  parameters: { positional: file },
  docs: describedCommand("lora inspect", "List layers, ranks, alpha and the norm of each update of a LoRA file"),
});

const verify: Command<CliContext> = buildCommand<Pick<LoraFlags, "model_path" | "alpha">, [string], CliContext>({
  async func(flags, path) {
    this.exitWith(await verifyCommand(this.environment.terminal, path, flags));
  },
  parameters: { positional: file, flags: { model_path: modelPath, alpha } },
  docs: describedCommand("lora verify", "Check that a LoRA belongs to a model and by how much it changes each weight"),
});

const merge: Command<CliContext> = buildCommand<LoraFlags & { strength: number }, [string], CliContext>({
  async func(flags, path) {
    await mergeCommand(this.environment.terminal, path, flags);
  },
  parameters: {
    positional: file,
    flags: {
      model_path: modelPath,
      output: { kind: "parsed", parse: String, brief: "Transformer folder to create", placeholder: "folder" },
      strength: { kind: "parsed", parse: finiteNumber, brief: "Factor on the LoRA's own scale", default: "1" },
      alpha,
      dtype: {
        kind: "enum",
        values: dtypes,
        brief: "Storage of the result; that of the model when unset",
        optional: true,
      },
    },
  },
  docs: describedCommand("lora merge", "Add a LoRA to its model: writes a transformer folder that diffusers loads"),
});

interface ExtractFlags extends Omit<LoraFlags, "alpha"> {
  readonly rank: number;
  readonly target_modules?: readonly string[];
}

const extract: Command<CliContext> = buildCommand<ExtractFlags, [string], CliContext>({
  async func(flags, path) {
    this.exitWith(await extractCommand(this.environment.terminal, path, flags));
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Diffusers folder of the fully fine-tuned model", parse: String, placeholder: "tuned" }],
    },
    flags: {
      model_path: { ...modelPath, brief: "Diffusers folder of the model before fine-tuning" },
      output: { kind: "parsed", parse: String, brief: "LoRA file or folder to write", placeholder: "path" },
      rank: { kind: "parsed", parse: wholeNumber, brief: "Rank of the LoRA", default: "64" },
      target_modules: {
        kind: "parsed",
        parse: String,
        brief: "Layers to take, separated by commas; all linear layers when unset",
        variadic: ",",
        optional: true,
        placeholder: "names",
      },
      dtype: { kind: "enum", values: dtypes, brief: "Storage of the result; f32 when unset", optional: true },
    },
  },
  docs: describedCommand("lora extract", "Make a LoRA from what full fine-tuning changed"),
});

interface ExportFlags extends Omit<LoraFlags, "model_path"> {
  readonly to: LoraFormat;
  readonly model_path?: string;
}

const exportTo: Command<CliContext> = buildCommand<ExportFlags, [string], CliContext>({
  async func(flags, path) {
    await exportCommand(this.environment.terminal, path, flags);
  },
  parameters: {
    positional: file,
    flags: {
      to: { kind: "enum", values: loraFormats, brief: "Format to write" },
      output: { kind: "parsed", parse: String, brief: "File or folder to write", placeholder: "path" },
      model_path: { ...modelPath, optional: true },
      alpha,
      dtype: { kind: "enum", values: dtypes, brief: "Storage of the result; f32 when unset", optional: true },
    },
  },
  docs: describedCommand(
    "lora export",
    "Write a LoRA in the format of another program",
    [
      "Every format can be read by every lora command.",
      "",
      "diffusers  pytorch_lora_weights.safetensors with alpha in the adapter metadata",
      "peft       a folder with adapter_model.safetensors and adapter_config.json",
      "kohya      lora_unet__ names with an alpha tensor per layer: VideoX-Fun, ComfyUI-CogVideoXWrapper",
      "comfyui    names of ComfyUI's own CogVideoX model, with an alpha tensor per layer",
      "sat        names of the original SAT code, alpha folded into B because SAT assumes 1",
    ],
  ),
});

/** `lora inspect | verify | merge | extract | export`. */
export const loraRoutes: RouteMap<CliContext> = buildRouteMap({
  routes: { inspect, verify, merge, extract, export: exportTo },
  docs: { brief: "Look at LoRA files, merge, extract and convert them" },
});

function finiteNumber(text: string): number {
  const value = numberParser(text);
  if (!Number.isFinite(value)) throw new UserError(`"${text}" is no finite number`, "write it like 0.5");
  return value;
}

function positiveNumber(text: string): number {
  const value = finiteNumber(text);
  if (value <= 0) throw new UserError(`"${text}" is no positive number`, "write it like 0.5");
  return value;
}

function wholeNumber(text: string): number {
  const value = numberParser(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new UserError(`"${text}" is no whole number above 0`, "write it like 16");
  }
  return value;
}
