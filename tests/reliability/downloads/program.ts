/** Downloads a file in a process of its own, to be killed. Argument: JSON of {@linkcode Order}. */
import { download } from "../../../lib/io/download.ts";

/** What is downloaded where. */
export interface Order {
  readonly url: string;
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

const { url, path, size, sha256 } = JSON.parse(Deno.args[0]!) as Order;
for await (const _ of download(url, path, { size, checksum: { algorithm: "sha256", value: sha256 } }));
