/** What a local checkpoint says about the shapes of a forecast. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonObject } from "../io/json_file.ts";
import { openModelFolder } from "../models/folder/model_folder.ts";
import { parseT5Config } from "../models/t5/config.ts";
import type { TrainConfig } from "../config/config.ts";
import type { ForecastOptions } from "./forecast.ts";

/**
 * The configs below `model_path`; nothing when that is unset or a hub id, which is not downloaded for a forecast.
 *
 * @throws {UserErrors} when the folder is no model that can be trained.
 */
export function folderShapes({ model_path }: TrainConfig): Pick<ForecastOptions, "model" | "encoders"> {
  if (model_path === undefined || !existsSync(model_path)) return {};
  const { transformer, vae, path } = openModelFolder(model_path);
  const t5File = join(path, "text_encoder/config.json");
  return { model: transformer, encoders: { vae, t5: parseT5Config(readJsonObject(t5File), t5File) } };
}
