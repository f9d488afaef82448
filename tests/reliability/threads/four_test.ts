import { useDevices } from "./device.ts";

Deno.test("a thread with devices: four", () => useDevices(2));
