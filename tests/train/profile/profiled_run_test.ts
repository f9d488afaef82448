/** Tests that keep the peaks of the card in a cache folder of their own. */
import { testInOwnProcess } from "../../own_process.ts";

testInOwnProcess("./own_environment/profiled_runs.ts", import.meta.url);
