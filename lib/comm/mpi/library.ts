/** Open MPI's C library. Its handles are the addresses of objects that the library exports. */
import { messageOf, UserError } from "../../errors.ts";

const symbols = {
  MPI_Init_thread: { parameters: ["usize", "usize", "i32", "buffer"], result: "i32" },
  MPI_Finalize: { parameters: [], result: "i32" },
  MPI_Comm_rank: { parameters: ["pointer", "buffer"], result: "i32" },
  MPI_Comm_size: { parameters: ["pointer", "buffer"], result: "i32" },
  MPI_Isend: { parameters: ["buffer", "i32", "pointer", "i32", "i32", "pointer", "buffer"], result: "i32" },
  MPI_Iprobe: { parameters: ["i32", "i32", "pointer", "buffer", "buffer"], result: "i32" },
  MPI_Recv: { parameters: ["buffer", "i32", "pointer", "i32", "i32", "pointer", "usize"], result: "i32" },
  // Calls that wait run on the thread pool, so that timers and signal handlers go on.
  MPI_Allreduce: {
    parameters: ["usize", "buffer", "i32", "pointer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Reduce_scatter: {
    parameters: ["buffer", "buffer", "buffer", "pointer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Allgatherv: {
    parameters: ["usize", "i32", "pointer", "buffer", "buffer", "buffer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Alltoallv: {
    parameters: ["buffer", "buffer", "buffer", "pointer", "buffer", "buffer", "buffer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Bcast: { parameters: ["buffer", "i32", "pointer", "i32", "pointer"], result: "i32", nonblocking: true },
  ompi_mpi_comm_world: { type: "pointer" },
  ompi_mpi_float: { type: "pointer" },
  ompi_mpi_int: { type: "pointer" },
  ompi_mpi_byte: { type: "pointer" },
  ompi_mpi_op_sum: { type: "pointer" },
  ompi_mpi_op_max: { type: "pointer" },
} as const;

const THREAD_MULTIPLE = 3;

/** Open MPI, initialised. */
export interface MpiLibrary {
  readonly calls: Deno.DynamicLibrary<typeof symbols>["symbols"];
  readonly world: Deno.PointerValue;
  readonly types: { readonly f32: Deno.PointerValue; readonly i32: Deno.PointerValue; readonly u8: Deno.PointerValue };
  readonly sum: Deno.PointerValue;
  readonly max: Deno.PointerValue;
  readonly rank: number;
  readonly size: number;
}

/** Value of MPI_IN_PLACE. */
export const IN_PLACE = 1n;

/**
 * Loads and initialises Open MPI; needs `--allow-ffi`.
 *
 * @throws {UserError} when it is not installed, or cannot be used from several threads.
 */
export function loadMpi(): MpiLibrary {
  let library: Deno.DynamicLibrary<typeof symbols>;
  try {
    library = Deno.dlopen("libmpi.so.40", symbols);
  } catch (error) {
    throw new UserError(
      `Cannot load Open MPI: ${messageOf(error)}`,
      "on Debian and Ubuntu: apt-get install openmpi-bin libopenmpi-dev",
    );
  }
  const calls = library.symbols;
  const number = new Int32Array(1);
  calls.MPI_Init_thread(0n, 0n, THREAD_MULTIPLE, number);
  if (number[0]! < THREAD_MULTIPLE) {
    throw new UserError(
      `This Open MPI gives thread level ${number[0]}, expected ${THREAD_MULTIPLE} (MPI_THREAD_MULTIPLE)`,
      "use an Open MPI built with thread support",
    );
  }
  // Deno types an exported object as a value of its type; it is the object's address.
  const pointer = (name: keyof typeof calls) => calls[name] as unknown as Deno.PointerValue;
  const world = pointer("ompi_mpi_comm_world");
  const ask = (call: typeof calls.MPI_Comm_rank) => {
    call(world, number);
    return number[0]!;
  };
  return {
    calls,
    world,
    types: { f32: pointer("ompi_mpi_float"), i32: pointer("ompi_mpi_int"), u8: pointer("ompi_mpi_byte") },
    sum: pointer("ompi_mpi_op_sum"),
    max: pointer("ompi_mpi_op_max"),
    rank: ask(calls.MPI_Comm_rank),
    size: ask(calls.MPI_Comm_size),
  };
}
