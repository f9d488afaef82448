/**
 * Scripts with which shells complete commands, flags and values. Written out in full: asking the program at every tab
 * would take the third of a second in which it starts.
 */
import { UserError } from "../../errors.ts";

/** A flag as completion knows it. */
export interface CompletedFlag {
  readonly name: string;
  readonly brief: string;
  /** What can stand behind it: these words, a file or text (none), or nothing. */
  readonly values?: readonly string[];
  readonly isSwitch?: boolean;
}

/** A command as completion knows it. */
export interface CompletedCommand {
  /** Its words, as "data check". */
  readonly name: string;
  readonly brief: string;
  readonly flags: readonly CompletedFlag[];
  /** Words that stand behind it without a flag. */
  readonly words?: readonly string[];
}

/** Name that the scripts complete; one of a person's own is replaced in them. */
const PROGRAM = "cogtune";

const INTRO = (shell: string, place: string) =>
  `# Completion of ${PROGRAM} for ${shell}, which deno install makes:\n` +
  `#   deno install --global --allow-all --config deno.json --name ${PROGRAM} mod.ts\n` +
  `# Keep this as ${place}.\n`;

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** First words of commands, and per first word the second ones. */
function wordsOf(commands: readonly CompletedCommand[]): ReadonlyMap<string, readonly string[]> {
  const groups = Map.groupBy(commands, ({ name }) => name.split(" ")[0]!);
  return new Map([...groups].map(([first, list]) => [first, list.flatMap(({ name }) => name.split(" ").slice(1))]));
}

function bash(commands: readonly CompletedCommand[]): string {
  const first = wordsOf(commands);
  const list = (words: readonly string[]) => quoted(words.join(" "));
  const values = new Map(
    commands.flatMap(({ flags }) => flags).filter(({ values }) => values !== undefined).map(({ name, values }) =>
      [name, values!] as const
    ),
  );
  const takesNothing = commands.flatMap(({ flags }) => flags).filter(({ isSwitch }) => isSwitch).map(({ name }) =>
    name
  );
  const lines = [
    `_${PROGRAM}() {`,
    `  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" command=train options=`,
    `  case "\${COMP_WORDS[1]}" in`,
    ...[...first].map(([name, second]) =>
      second.length === 0
        ? `    ${name}) command=${name} ;;`
        : `    ${name}) command="${name} \${COMP_WORDS[2]}"; ((COMP_CWORD == 2)) && options=${list(second)} ;;`
    ),
    `  esac`,
    `  ((COMP_CWORD == 1)) && [[ $word != -* ]] && options=${list([...first.keys()])}`,
    `  if [[ -z $options ]]; then`,
    `    case "$before" in`,
    ...[...values].map(([name, words]) => `      --${name}) options=${list(words)} ;;`),
    `      ${[...new Set(takesNothing)].map((name) => `--${name}`).join("|")}) ;;`,
    `      --*) return ;;`,
    `    esac`,
    `  fi`,
    `  if [[ -z $options ]]; then`,
    `    case "$command" in`,
    ...commands.map(({ name, flags, words = [] }) =>
      `      ${quoted(name)}) options=${list([...words, ...flags.map(({ name }) => `--${name}`)])} ;;`
    ),
    `    esac`,
    `    [[ $word == -* || $command == explain || $command == completions ]] || return`,
    `  fi`,
    `  COMPREPLY=($(compgen -W "$options" -- "$word"))`,
    `}`,
    `complete -o default -F _${PROGRAM} ${PROGRAM}`,
  ];
  return lines.join("\n");
}

function zsh(commands: readonly CompletedCommand[]): string {
  return `#compdef ${PROGRAM}\nautoload -U +X compinit && compinit -C\nautoload -U +X bashcompinit && bashcompinit\n${
    bash(commands)
  }`;
}

function fish(commands: readonly CompletedCommand[]): string {
  const text = (words: string) => `'${words.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const first = wordsOf(commands);
  const others = [...first.keys()].filter((name) => name !== "train").join(" ");
  const lines = [...first].map(([name, second]) => {
    const [command] = commands.filter((command) => command.name === name);
    return `complete -c ${PROGRAM} -n __fish_use_subcommand -a ${name} -d ${text(command?.brief ?? second.join(", "))}`;
  });
  for (const { name, brief, flags, words = [] } of commands) {
    const [one, two] = name.split(" ");
    const seen = `__fish_seen_subcommand_from`;
    if (two !== undefined) {
      const rest = first.get(one!)!.join(" ");
      lines.push(`complete -c ${PROGRAM} -n '${seen} ${one}; and not ${seen} ${rest}' -f -a ${two} -d ${text(brief)}`);
    }
    // Train is meant where no command is named.
    const when = name === "train"
      ? `not ${seen} ${others}`
      : two === undefined
      ? `${seen} ${one}`
      : `${seen} ${one}; and ${seen} ${two}`;
    if (words.length > 0) lines.push(`complete -c ${PROGRAM} -n '${when}' -f -a ${text(words.join(" "))}`);
    for (const { name, brief, values, isSwitch } of flags) {
      const takes = isSwitch ? "" : values === undefined ? " -r" : ` -x -a ${text(values.join(" "))}`;
      lines.push(`complete -c ${PROGRAM} -n '${when}' -l ${name}${takes} -d ${text(brief)}`);
    }
  }
  return lines.join("\n");
}

/** The shells, with how each script is made and where it belongs. */
const SHELLS = {
  bash: { write: bash, place: `~/.local/share/bash-completion/completions/${PROGRAM}` },
  zsh: { write: zsh, place: `_${PROGRAM} in a folder of $fpath` },
  fish: { write: fish, place: `~/.config/fish/completions/${PROGRAM}.fish` },
} as const;

/** Names of the shells. */
export const shellNames: readonly string[] = Object.keys(SHELLS);

/**
 * The script for a shell.
 *
 * @throws {UserError} for a shell that is not known.
 */
export function completionScript(shell: string, commands: readonly CompletedCommand[]): string {
  if (!Object.hasOwn(SHELLS, shell)) {
    throw new UserError(`There is no completion for "${shell}"`, `there is for ${shellNames.join(", ")}`);
  }
  const { write, place } = SHELLS[shell as keyof typeof SHELLS];
  const script = write(commands);
  // The first line of a zsh script names what it completes.
  const [head, ...rest] = script.split("\n");
  return shell === "zsh" ? [head, INTRO(shell, place) + rest.join("\n")].join("\n") : INTRO(shell, place) + script;
}
