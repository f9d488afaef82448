/** What a launcher tells a rank about its group. */
import type { Deadlines } from "../exchange/communicator.ts";
import type { RegionShape } from "../shared_memory/region.ts";

/** A rank's place in a group on one host. */
export interface GroupMember {
  readonly rank: number;
  /** Process id of the launcher. */
  readonly launcher: number;
  /** The region of shared memory, as the launcher names it. */
  readonly path: string;
  readonly shape: RegionShape;
  readonly deadlines: Deadlines;
}

/** Environment variable that carries a {@linkcode GroupMember} as JSON. */
export const groupVariable = "COGTUNE_GROUP";

/** The place in a group that this process was started with, if it was. */
export function groupMember(): GroupMember | undefined {
  const text = Deno.env.get(groupVariable);
  return text === undefined ? undefined : JSON.parse(text) as GroupMember;
}
