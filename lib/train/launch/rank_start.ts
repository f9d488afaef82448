/**
 * Starts the program of a rank, tied to its launcher before the rest of the program is loaded: that takes from a quarter of a
 * second to several on a busy machine, in which a rank would outlive a launcher that is killed.
 */
import { dieWithParent } from "../../comm/native/libc.ts";

dieWithParent();
await import("./rank_main.ts");
