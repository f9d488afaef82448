/** The original trainer: its flags are keys of this program. */
import { configKeys, keysWithoutEffect } from "../schema.ts";
import { type ForeignRule, type ForeignTrainer, reports, without } from "./foreign.ts";

const same = configKeys.filter((key) => key !== "preset" && !Object.hasOwn(keysWithoutEffect, key));

/** `train.py` of CogVideo's folder `finetune`, and CogKit's scripts with the same flags. */
export const original: ForeignTrainer = {
  name: "original",
  title: "train_ddp_t2v.sh and its kin of CogVideo's `finetune` folder",
  recognises: ({ kind, values }) =>
    kind === "command" && values.has("model_path") && (values.has("training_type") || values.has("model_type")),
  rules: {
    ...Object.fromEntries(same.map((key): [string, ForeignRule] => [key, key])),
    ...Object.fromEntries(Object.entries(keysWithoutEffect).map(([key, why]) => [key, without(why)])),
    tracker_name: without("names what is reported to a service"),
    report_to: reports,
    low_vram: without("base_weights: nf4 keeps the frozen weights in 4 bits"),
  },
  defaults: { lora_alpha: 64 },
};
