/** Tests that put stand-ins for ffmpeg on the PATH. */
import { testInOwnProcess } from "../own_process.ts";

testInOwnProcess("./own_environment/video_tools.ts", import.meta.url);
testInOwnProcess("./own_environment/slow_tools.ts", import.meta.url);
testInOwnProcess("./own_environment/probes.ts", import.meta.url);
testInOwnProcess("own_environment/program_places.ts", import.meta.url);
