import { useDevices } from "./device.ts";

Deno.test("a thread with devices: three", () => useDevices(2));
