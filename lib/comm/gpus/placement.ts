/**
 * Whether ranks sit on the cards they were given, once they have opened them: NVIDIA's driver tells which process uses
 * which card, and so proves what the choice before could only prepare.
 */
import { UserErrors } from "../../errors.ts";
import type { Communicator, ExchangeOptions } from "../exchange/communicator.ts";
import { gpuVariable } from "./gpus.ts";
import { type NvidiaCard, nvidiaCards } from "../native/nvml.ts";
import { gatherValues } from "../exchange/gather.ts";

/** A rank and the card it was given. */
export interface Assignment {
  readonly rank: number;
  readonly process: number;
  /** PCI address. */
  readonly pci: string;
}

/** Where a rank runs. */
export interface RankPlace {
  readonly host: string;
  readonly process: number;
  /** PCI address of the card it was given; undefined where there was nothing to choose. */
  readonly pci?: string | undefined;
}

/** Options of {@linkcode checkPlacement}; place and cards are replaced by tests. */
export interface PlacementOptions extends ExchangeOptions {
  readonly place?: RankPlace;
  readonly cards?: () => readonly NvidiaCard[];
}

/**
 * Makes sure that every rank uses the card it was given. To be called by all ranks when they have opened their devices.
 * Without NVIDIA's driver there is nothing to compare.
 *
 * @throws {UserErrors} on the first rank of a host, naming each rank of that host which uses another card.
 */
export async function checkPlacement(communicator: Communicator, options: PlacementOptions = {}): Promise<void> {
  if (communicator.size === 1) return;
  const { place = ownPlace(), cards = nvidiaCards, ...exchange } = options;
  const places = await gatherValues(communicator, place, exchange);
  const assigned = places.flatMap(({ host, process, pci }, rank) =>
    host === place.host && pci !== undefined ? [{ rank, process, pci }] : []
  );
  if (assigned[0]?.rank !== communicator.rank) return;
  const problems = misplacedRanks(cards(), assigned);
  if (problems.length > 0) {
    throw new UserErrors(
      "Ranks use other graphics cards than theirs",
      problems,
      "give each rank a container with one card",
    );
  }
}

function ownPlace(): RankPlace {
  return { host: Deno.hostname(), process: Deno.pid, pci: Deno.env.get(gpuVariable) };
}

/** Ranks of one host that use another card than theirs, as messages. */
export function misplacedRanks(cards: readonly NvidiaCard[], assigned: readonly Assignment[]): string[] {
  const usedBy = ({ process }: Assignment) => cards.filter(({ processes }) => processes.has(process));
  // In a container a process has another id than the driver knows it by, and that id may be somebody else's.
  if (!assigned.every((rank) => usedBy(rank).length > 0)) return [];
  return assigned.flatMap((own) => {
    const used = usedBy(own).map(({ pci }) => pci);
    if (used.includes(own.pci)) return [];
    const others = assigned.filter((other) => other !== own && usedBy(other).some(({ pci }) => used.includes(pci)));
    const sharing = others.length === 0 ? "" : `, as rank ${others.map(({ rank }) => rank).join(", ")} does`;
    return [`rank ${own.rank} was given the card at ${own.pci} and uses ${used.join(", ")}${sharing}`];
  });
}
