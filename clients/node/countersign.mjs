// Signs the requests of `fetch` for a Countersign gateway. Copy this file into your project (Node 18 or later).
//
//   const fetch = signedFetch({ machineId: "web-1", key: readFileSync("key.pem") });
//   const answer = await fetch("https://gateway.example/v1/secret/db");

import { createHash, createPrivateKey, randomBytes, sign as signBytes } from "node:crypto";

/** Makes the four signing headers of a request. */
export class Signer {
  #machineId;
  #key;
  #signQuery;

  /** `key` is PKCS#8 PEM. Pass `signQuery: false` if the gateway's route has `query: strip`. */
  constructor({ machineId, key, signQuery = true }) {
    this.#machineId = machineId;
    this.#key = createPrivateKey(key);
    if (this.#key.asymmetricKeyType !== "ed25519") {
      throw new TypeError("the key is not an Ed25519 key. Make one: countersign keygen --out key.pem");
    }
    this.#signQuery = signQuery;
  }

  /** The headers of a request with this target (path and query, as sent): new ones at each call. */
  headers(method, target, body) {
    const path = this.#signQuery ? target : target.split("?", 1)[0];
    const timestamp = String(Math.floor(Date.now() / 1000));
    const nonce = nextNonce();
    return {
      "X-Machine-Id": this.#machineId,
      "X-Timestamp": timestamp,
      "X-Nonce": nonce,
      "X-Signature": this.sign(method, path, timestamp, nonce, body),
    };
  }

  sign(method, path, timestamp, nonce, body) {
    const bodyHash = createHash("sha256").update(body).digest("hex");
    const message = Buffer.from(`${method}:${path}:${timestamp}:${nonce}:${bodyHash}`);
    return signBytes(null, message, this.#key).toString("base64");
  }
}

/**
 * A `fetch` that signs: takes what `fetch` takes, except for bodies that are streams. Redirects are refused.
 * Options are those of `Signer`, and `fetch`, the function to send with.
 */
export function signedFetch({ fetch = globalThis.fetch, ...options }) {
  const signer = new Signer(options);
  return async (input, init) => {
    const given = init?.body ?? (input instanceof Request ? input.body : undefined);
    if (given?.[Symbol.asyncIterator]) {
      throw new TypeError(
        "cannot sign a streamed body: its hash is part of the signature. " +
          "Pass a string, bytes, URLSearchParams, FormData or a Blob as `body`, beside the URL",
      );
    }
    // Request does what fetch would: it spells the method, encodes the URL, and serialises the body.
    const request = new Request(input, init);
    const body = request.body ? Buffer.from(await request.arrayBuffer()) : undefined;
    const { pathname, search } = new URL(request.url);
    const { method, url, signal } = request;
    const headers = new Headers(request.headers);
    const signing = signer.headers(method, pathname + search, body ?? "");
    for (const [name, value] of Object.entries(signing)) headers.set(name, value);

    // fetch would send the same headers to wherever the answer points.
    const answer = await fetch(url, { ...init, method, headers, body, signal, redirect: "manual" });
    const location = answer.headers.get("location");
    if (request.redirect !== "manual" && answer.status >= 300 && answer.status < 400 && location !== null) {
      await answer.body?.cancel();
      throw new TypeError(
        "redirect refused: a signature is good for one request to one server. " +
          `Use the final URL: ${location.split("?", 1)[0]}`,
      );
    }
    return answer;
  };
}

const instance = randomBytes(8).toString("base64url");
let count = 0;

/**
 * `CS1`, a random name of this process, a counter, and 96 random bits, each as base64url. The gateway tells a
 * process that goes on from a copied key that is used beside it. A worker thread counts as a process.
 */
function nextNonce() {
  const counter = Buffer.alloc(6);
  counter.writeUIntBE(count, 0, 6);
  count = (count + 1) % 2 ** 48;
  return `CS1${instance}${counter.toString("base64url")}${randomBytes(12).toString("base64url")}`;
}
