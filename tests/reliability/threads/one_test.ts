import { useDevices } from "./device.ts";

Deno.test("a thread with devices: one", () => useDevices(2));
