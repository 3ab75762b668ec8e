// Uploads with Node's fetch: upload.mjs URL COUNT SIZE 1.1
//
// Prints a line for each upload: the status and the body of the answer, or `lost` and why there was none.
// Headers are the lines of $UPLOAD_HEADERS; $NODE_EXTRA_CA_CERTS is the authority of the server's certificate.

const [url, count, size] = process.argv.slice(2);
const headers = process.env.UPLOAD_HEADERS.split("\n").filter(Boolean).map((line) => line.split(": "));
const body = Buffer.alloc(Number(size));

for (let n = 0; n < Number(count); n++) {
  try {
    const answer = await fetch(url, { method: "POST", body, headers });
    console.log(answer.status, await answer.text());
  } catch (error) {
    console.log("lost", error.message, error.cause?.code ?? error.cause?.message ?? "");
  }
}
