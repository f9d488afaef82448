/** All commands with their flags and the values these take, gathered from what reads them. */
import type { Command, CommandContext, RouteMap } from "@stricli/core";
import { presetNames } from "../../config/presets.ts";
import { configKeys, type KeyProperty } from "../../config/schema.ts";
import { outputFlagsOf } from "../settings/output_flags.ts";
import type { OwnFlag } from "../settings/own_flags.ts";
import { type CompletedCommand, type CompletedFlag, shellNames } from "./completions.ts";
import { relevantKeys } from "./config_help.ts";

type Target<Context extends CommandContext> = Command<Context> | RouteMap<Context>;

function isMap<Context extends CommandContext>(target: Target<Context>): target is RouteMap<Context> {
  return "getAllEntries" in target;
}

function valuesOf(property: KeyProperty): readonly string[] | undefined {
  if (property.type === "boolean") return ["true", "false"];
  return (property.enum ?? property.items?.enum)?.map(String);
}

function flag(name: string, brief: string, values: readonly string[] | undefined, isSwitch = false): CompletedFlag {
  return { name, brief, isSwitch, ...(values === undefined ? {} : { values }) };
}

/** The flags of a command whose words are settings. */
function settingFlags(name: string, own: readonly OwnFlag[]): CompletedFlag[] {
  return [
    ...own.map(({ name, brief, takes }) => flag(name, brief, undefined, takes === undefined)),
    flag("config", "YAML file with any of the keys", undefined),
    flag("preset", "Recipe to start from", presetNames),
    ...relevantKeys(name).map(([key, help]) => flag(key, help.description.split(/(?<=\.) /)[0]!, valuesOf(help))),
  ];
}

/** The flags of a command that the framework reads. */
function frameworkFlags<Context extends CommandContext>({ parameters }: Command<Context>): CompletedFlag[] {
  return Object.entries(parameters.flags ?? {}).map(([name, { brief, kind, ...rest }]) =>
    flag(name, brief, "values" in rest ? rest.values as readonly string[] : undefined, kind === "boolean")
  );
}

/** Words that follow a command without a flag. */
const WORDS: Readonly<Record<string, readonly string[]>> = { explain: configKeys, completions: shellNames };

/** The commands below `target`; `own` has the flags of those whose words are settings. */
export function commandTable<Context extends CommandContext>(
  target: RouteMap<Context>,
  own: Readonly<Record<string, { readonly flags: readonly OwnFlag[] }>>,
  before = "",
): CompletedCommand[] {
  return target.getAllEntries().flatMap(({ name: { original }, target }) => {
    const name = `${before}${original}`;
    if (isMap(target)) return commandTable(target, own, `${name} `);
    const settings = own[name];
    const flags = settings === undefined ? frameworkFlags(target) : settingFlags(name, settings.flags);
    const shared = outputFlagsOf(name).map(({ name, brief }) => flag(name, brief, undefined, true));
    const words = WORDS[name];
    return [{ name, brief: target.brief, flags: [...flags, ...shared], ...(words === undefined ? {} : { words }) }];
  });
}
