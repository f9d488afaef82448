/** A program that tells its parent the Vulkan devices that a process with its environment sees. */
import { tellParent } from "../launch/report_line.ts";
import { vulkanDevices } from "../native/vulkan.ts";

if (import.meta.main) tellParent(vulkanDevices());
