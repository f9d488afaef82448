/** Joins the group that this process was started in: by the launcher, by mpirun, or alone. */
import { UserError } from "../errors.ts";
import { type Communicator, type Deadlines, PeerError } from "./exchange/communicator.ts";
import { groupMember } from "./launch/membership.ts";
import { createSingle } from "./exchange/single.ts";

/**
 * The group of this process. A rank on shared memory is killed by the kernel when its launcher ends, and leaves Ctrl-C
 * to it. `deadlines` are those of ranks that mpirun started; the launcher gives its own.
 *
 * @throws {PeerError} when the launcher is gone already.
 * @throws {UserError} when this rank does not find the graphics card it was given.
 */
export async function connect(deadlines?: Deadlines): Promise<Communicator> {
  const member = groupMember();
  // Libraries are loaded where they are needed only: a run with one process needs no permission for native code.
  if (member !== undefined) {
    const { dieWithParent } = await import("./native/libc.ts");
    const { joinSharedMemory } = await import("./shared_memory/shared_memory.ts");
    dieWithParent();
    if (Deno.ppid !== member.launcher) throw new PeerError(`rank ${member.rank}: the launcher is gone`);
    const { checkOwnGpu, gpuVariable } = await import("./gpus/gpus.ts");
    const { vulkanDevices } = await import("./native/vulkan.ts");
    checkOwnGpu(Deno.env.get(gpuVariable), vulkanDevices);
    // A terminal tells every process of Ctrl-C and of its own end; ranks that ended on their own would not save.
    for (const name of ["SIGINT", "SIGHUP"] as const) Deno.addSignalListener(name, () => {});
    return joinSharedMemory(member);
  }
  if (Deno.env.get("OMPI_COMM_WORLD_SIZE") !== undefined) {
    const { joinMpi } = await import("./mpi/mpi.ts");
    await pinLocalRank();
    return joinMpi(deadlines === undefined ? {} : { deadlines });
  }
  return createSingle();
}

/**
 * Gives this process the card of its place among the ranks of its host. Where there is one, the scheduler has chosen
 * it.
 */
async function pinLocalRank(): Promise<void> {
  const { pinCard, probeGpus, trainingCards } = await import("./gpus/gpus.ts");
  const devices = await probeGpus({});
  const cards = trainingCards(devices);
  if (cards.length < 2) return;
  const place = Number(Deno.env.get("OMPI_COMM_WORLD_LOCAL_RANK"));
  if (place >= cards.length) {
    throw new UserError(
      `${place + 1} or more ranks on a host with ${cards.length} graphics cards`,
      "start one rank per card: mpirun --map-by ppr:CARDS:node",
    );
  }
  // Drivers read these when the first adapter is requested.
  for (const [name, value] of Object.entries(await pinCard(devices, place))) Deno.env.set(name, value);
}

/** Runs `body` as a rank: leaves the group when it returns, and tells the other ranks at once when it throws. */
export async function withCommunicator<T>(
  body: (communicator: Communicator) => Promise<T>,
  deadlines?: Deadlines,
): Promise<T> {
  const communicator = await connect(deadlines);
  try {
    const result = await body(communicator);
    await communicator.leave();
    return result;
  } catch (error) {
    communicator.abort();
    throw error;
  }
}
