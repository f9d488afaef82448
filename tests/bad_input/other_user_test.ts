/** Files of another user; they are met in a process of its own because a process has one user. */
import { testInOwnProcess } from "../own_process.ts";

testInOwnProcess("./own_environment/other_user.ts", import.meta.url);
