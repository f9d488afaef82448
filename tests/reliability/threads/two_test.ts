import { useDevices } from "./device.ts";

Deno.test("a thread with devices: two", () => useDevices(2));
