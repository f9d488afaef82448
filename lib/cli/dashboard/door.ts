/**
 * Who may see a dashboard: whoever has the token that its address holds. The address of this machine is open to all its
 * users, and to any program that runs in a browser here.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";

/** Bits of a token, as many as nobody guesses. */
const TOKEN_BITS = 128;

const REFUSAL = "Open the address that the command has printed: it holds a token.\n";

/** The door of one server. */
export class Door {
  readonly #token = randomBytes(TOKEN_BITS / 8).toString("base64url");

  /** What is to be added to the address of the server that people open. */
  readonly query: string = `?token=${this.#token}`;

  /**
   * The answer to a request that may not pass, or that brings the token in its address: that goes into a cookie at
   * once, so that it stays out of the address line and of what is copied from there. Undefined for a request that may
   * pass.
   */
  stop(request: Request): Response | undefined {
    const { pathname, port, searchParams } = new URL(request.url);
    // Cookies are those of a host, whatever the port: two servers at a time need two names.
    const cookie = `cogtune-${port}`;
    const brought = searchParams.get("token");
    if (brought !== null && this.#isToken(brought)) {
      // One slash at the start: two begin the name of another host.
      const location = pathname.replace(/^\/+/, "/");
      const headers = { location, "set-cookie": `${cookie}=${brought}; Path=/; HttpOnly; SameSite=Strict` };
      return new Response(null, { status: 303, headers });
    }
    const kept = (request.headers.get("cookie") ?? "").split(/; */).filter((pair) => pair.startsWith(`${cookie}=`));
    const isKnown = brought === null && kept.some((pair) => this.#isToken(pair.slice(cookie.length + 1)));
    // Servers at other ports of this machine count as the same site: their pages could ask with the cookie.
    const origin = request.headers.get("origin") ?? `http://${request.headers.get("host")}`;
    return isKnown && origin === `http://${request.headers.get("host")}`
      ? undefined
      : new Response(REFUSAL, { status: 403 });
  }

  /** Compares in a time that says nothing about the token. */
  #isToken(text: string): boolean {
    const [given, expected] = [text, this.#token].map((word) => new TextEncoder().encode(word));
    return given!.length === expected!.length && timingSafeEqual(given!, expected!);
  }
}
