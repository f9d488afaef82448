/** `cogtune init`: five questions, and a config file from their answers. */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { problemOf, UserError, UserErrors } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import type { Environment } from "../machine/environment.ts";
import { programCall, quoted } from "../show/program_call.ts";
import { type Answers, type Question, QUESTIONS } from "./questions.ts";
import { configText } from "./write_config.ts";

/** Flags of the command: an answer each, and where to write. */
export interface InitFlags extends Readonly<Partial<Record<keyof Answers, string>>> {
  readonly to: string;
  readonly overwrite: boolean;
}

/** Reads the answers that flags give, and reports all that are wrong at once. */
async function readFlags(flags: InitFlags): Promise<Partial<Answers>> {
  const problems: string[] = [];
  let answers: Partial<Answers> = {};
  for (const question of QUESTIONS) {
    const text = flags[question.name];
    if (text === undefined) continue;
    try {
      answers = { ...answers, [question.name]: await question.read(text, answers) };
    } catch (error) {
      problems.push(`--${question.name}: ${problemOf(error)}`);
    }
  }
  if (problems.length > 0) {
    throw new UserErrors("Cannot use these answers", problems, "correct them or leave them out: init asks");
  }
  return answers;
}

/** Asks until the answer is one. */
async function ask(environment: Environment, question: Question, answers: Partial<Answers>): Promise<Partial<Answers>> {
  const { terminal } = environment;
  const { name, asks, fallback } = question;
  const number = `${QUESTIONS.indexOf(question) + 1}/${QUESTIONS.length}`;
  for (;;) {
    terminal.write(`${number} ${asks}${fallback === undefined ? "" : ` [${fallback || "none"}]`}: `);
    const line = await environment.answer();
    if (line === undefined) {
      terminal.write("\n");
      throw new UserError(`The input ended before question ${number} was answered`, `answer it with --${name}`);
    }
    const text = line.trim() === "" ? fallback : line.trim();
    if (text === undefined) {
      terminal.write("    There has to be an answer.\n");
      continue;
    }
    try {
      return { ...answers, [name]: await question.read(text, answers) };
    } catch (error) {
      terminal.write(`    ${problemOf(error)}\n`);
    }
  }
}

async function mayWrite(environment: Environment, { to, overwrite }: InitFlags): Promise<void> {
  if (overwrite || !existsSync(to)) return;
  environment.terminal.write(`"${to}" exists. Overwrite it? y or n [n]: `);
  const answer = await environment.answer();
  if (answer === undefined) environment.terminal.write("\n");
  if (/^y(es)?$/i.test(answer?.trim() ?? "")) return;
  throw new UserError(`"${to}" exists and is left as it is`, "choose another file with --to, or add --overwrite");
}

/** Runs the command; returns the exit code. Throws UserError for whatever the user has to mend. */
export async function initCommand(environment: Environment, flags: InitFlags): Promise<number> {
  const { terminal } = environment;
  if (!/\.ya?ml$/i.test(flags.to)) {
    throw new UserError(`--to is "${flags.to}": expected a name that ends in .yaml`, "as --to my-run.yaml");
  }
  if (!existsSync(dirname(flags.to))) {
    throw new UserError(
      `--to is "${flags.to}": there is no folder "${dirname(flags.to)}"`,
      "make it, or choose another",
    );
  }
  let answers = await readFlags(flags);
  await mayWrite(environment, flags);
  for (const question of QUESTIONS) {
    if (answers[question.name] === undefined) answers = await ask(environment, question, answers);
  }
  await writeFileAtomic(flags.to, configText(answers as Answers, flags.to));
  const [call, file] = [programCall(), quoted(flags.to)];
  terminal.write(`Wrote ${flags.to}. Check the clips, see what it needs, and train:\n`);
  for (const command of ["data check", "plan", "train"]) terminal.write(`  ${call} ${command} --config ${file}\n`);
  return 0;
}
