/** Tests that keep measurements of kernels in a cache folder of their own. */
import { testInOwnProcess } from "../own_process.ts";

testInOwnProcess("./own_environment/kernels.ts", import.meta.url);
testInOwnProcess("./own_environment/row_kernels.ts", import.meta.url);
