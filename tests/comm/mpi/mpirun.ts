/** Runs programs as ranks of Open MPI, where it is installed. */

function isInstalled(tool: string): boolean {
  try {
    return new Deno.Command(tool, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

export const hasMpi = isInstalled("mpirun");

/** Command line of a rank of `program`. */
export function rankOf(program: string): string[] {
  return [Deno.execPath(), "run", "--allow-all", "--no-check", program];
}

/** A program with what it printed on both streams. */
export async function run(program: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

export function mpirun(count: number, program: string, ...args: readonly string[]) {
  return run("mpirun", ["--allow-run-as-root", "--oversubscribe", "-n", String(count), ...rankOf(program), ...args]);
}
