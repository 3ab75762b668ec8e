// What an application may do with the signer for Node: probe.mjs CASE URL, with the key in $COUNTERSIGN_KEY.
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";

import { signedFetch } from "../../../clients/node/countersign.mjs";

const [what, url] = process.argv.slice(2);
const fetch = signedFetch({ machineId: "web-1", key: readFileSync(process.env.COUNTERSIGN_KEY) });
const told = async (...request) => fetch(...request).then((answer) => answer.status, (error) => error.cause?.message ?? error.message);

const cases = {
  async many() {
    const statuses = await Promise.all(Array.from({ length: 200 }, () => told(url)));
    console.log([...new Set(statuses)].join());
  },
  async twice() {
    const request = new Request(url);
    console.log(await told(request), await told(request));
  },
  async streamed() {
    const streams = [new Blob(["body"]).stream(), Readable.from(["body"])];
    for (const body of streams) console.log(await told(url, { method: "POST", body, duplex: "half" }));
    console.log(await told(new Request(url, { method: "POST", body: "body" })));
  },
  async kinds() {
    const form = new FormData();
    form.set("field", new Blob(["a file"]), "name");
    for (const body of ["text", new Uint8Array([0, 255]), new URLSearchParams({ a: "b" }), new Blob(["blob"]), form]) {
      console.log(await told(url, { method: "POST", body, headers: new Headers({ Accept: "*/*" }) }));
    }
  },
  async aborted() {
    console.log(await told(url, { signal: AbortSignal.abort(new Error("given up")) }));
    console.log(await told(new Request(url, { signal: AbortSignal.abort(new Error("given up")) })));
    console.log(await told(url, { dispatcher: { dispatch: () => { throw new Error("the caller's dispatcher"); } } }));
  },
  async redirected() {
    console.log(await told(url));
    console.log(await told(url, { redirect: "manual" }));
  },
};
await cases[what]();
