/** Tests that have a home folder and a hub of their own. */
import { testInOwnProcess } from "../../own_process.ts";

testInOwnProcess("./own_environment/train_by_id.ts", import.meta.url);
