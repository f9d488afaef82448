/** A headless Chromium under the hand of a test, by the DevTools protocol: pages, keys, what is drawn. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { HUNG, until } from "./patience.ts";

/** Where Debian installs it; tests that need it are skipped elsewhere and say so in their name. */
const PATH = "/usr/bin/chromium";

/** Whether tests with a browser can run. */
export const hasChromium: boolean = existsSync(PATH);

const FLAGS =
  "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb --remote-debugging-port=0";

interface Answer {
  readonly id?: number;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
  readonly method?: string;
  readonly params?: Record<string, unknown>;
}

function isRemoved(folder: string): boolean {
  try {
    Deno.removeSync(folder, { recursive: true });
    return true;
  } catch {
    return !existsSync(folder);
  }
}

/** A running browser; dispose it. */
export class Chromium implements AsyncDisposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  #last = 0;

  private constructor(
    readonly process: Deno.ChildProcess,
    readonly socket: WebSocket,
    readonly profile: string,
  ) {
    socket.onmessage = ({ data }) => {
      const { id, result, error } = JSON.parse(data) as Answer;
      if (id === undefined) return;
      const { resolve, reject } = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (error === undefined) resolve(result!);
      else reject(new Error(error.message));
    };
  }

  /** Starts a browser with a profile of its own. */
  static async start(): Promise<Chromium> {
    const profile = Deno.makeTempDirSync({ prefix: "cogtune-chromium-" });
    const args = [...FLAGS.split(" "), `--user-data-dir=${profile}`, "about:blank"];
    const process = new Deno.Command(PATH, { args, stdout: "null", stderr: "piped" }).spawn();
    const lines = process.stderr.pipeThrough(new TextDecoderStream()).getReader();
    let said = "";
    while (!/DevTools listening on (ws:\S+)\n/.test(said)) {
      const { value, done } = await lines.read();
      assert.ok(!done, `Chromium ended: ${said}`);
      said += value;
    }
    const drain = async () => {
      while (!(await lines.read()).done);
    };
    drain();
    const socket = new WebSocket(/DevTools listening on (ws:\S+)\n/.exec(said)![1]!);
    await new Promise((resolve) => socket.onopen = resolve);
    return new Chromium(process, socket, profile);
  }

  /** Sends a command of the protocol; its answer. */
  send(method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    this.#waiting.set(id, answer);
    this.socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    return answer.promise;
  }

  /** Opens an address in a window of this many pixels. */
  async open(url: string, { width = 1280, dark = false } = {}): Promise<Page> {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId as string);
    await page.resize(width);
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await page.send("Emulation.setEmulatedMedia", { features });
    await page.send("Page.navigate", { url });
    await page.until(`document.readyState === "complete" && location.href !== "about:blank"`);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.socket.onclose = resolve);
    await this.send("Browser.close");
    await closed;
    await this.process.status;
    // Its other processes end after it, and write until then.
    await until(() => isRemoved(this.profile), `the end of all that write to ${this.profile}`);
  }
}

/** One page of the browser. */
export class Page {
  constructor(readonly browser: Chromium, readonly session: string) {}

  /** Sends a command about this page. */
  send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.browser.send(method, params, this.session);
  }

  /** Gives the page another width. */
  async resize(width: number): Promise<void> {
    const metrics = { width, height: 844, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send("Emulation.setDeviceMetricsOverride", metrics);
  }

  /** The value of an expression in the page, which may be a promise. */
  async evaluate<T>(expression: string): Promise<T> {
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    const { result, exceptionDetails } = answer as { result: { value: T }; exceptionDetails?: unknown };
    assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** Waits until an expression is true; throws when it is not for long. */
  async until(expression: string): Promise<void> {
    const end = performance.now() + HUNG;
    while (!await this.evaluate<boolean>(expression).catch(() => false)) {
      assert.ok(performance.now() < end, `never true: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Presses a key, as ArrowLeft. */
  async press(key: string): Promise<void> {
    const codes: Readonly<Record<string, number>> = { ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 };
    const event = { key, code: key, windowsVirtualKeyCode: codes[key] };
    await this.send("Input.dispatchKeyEvent", { type: "rawKeyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  /** The whole page, or the upper part of it, as a PNG, with all that is drawn lazily. */
  async screenshot(mostRows = Infinity): Promise<Uint8Array> {
    const { cssContentSize } = await this.send("Page.getLayoutMetrics") as { cssContentSize: { height: number } };
    const width = await this.evaluate<number>("innerWidth");
    const height = Math.min(mostRows, Math.ceil(cssContentSize.height));
    const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send("Emulation.setDeviceMetricsOverride", metrics);
    await this.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    const { data } = await this.send("Page.captureScreenshot", { format: "png" }) as { data: string };
    await this.resize(width);
    return Uint8Array.fromBase64(data);
  }
}
