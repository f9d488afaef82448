/** A program that prints, as JSON, the Vulkan devices that a process with its environment sees. */
import { vulkanDevices } from "../native/vulkan.ts";

if (import.meta.main) {
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(vulkanDevices())));
}
