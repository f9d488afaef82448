/**
 * The program of a rank, tied to its launcher before the rest of the program is loaded: that takes from a quarter of a
 * second to several on a busy machine, in which a rank would outlive a launcher that is killed.
 */
import { dieWithParent } from "../../comm/native/libc.ts";

dieWithParent();
const { runRank } = await import("./ranks.ts");
const { trainAsRank } = await import("../trainer.ts");
await runRank(trainAsRank);
