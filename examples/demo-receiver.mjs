// The demo's receiver: says what it is told, and delivers what is ordered. It checks signatures with Node alone, so that the demo installs nothing; what
// a merchant would run is in examples/receiver, with the official library.
import crypto from "node:crypto";
import http from "node:http";
import { listen } from "./demo-backend.mjs";

const BODY_LIMIT_BYTES = 64 * 1024;
const TOLERANCE_S = 300;

/** Whether a request bears a signature of Standard Webhooks 1.0.0 under the secret, and a recent one. */
function isSigned(secret, headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (!id || !signatures || !(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_S)) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = crypto.createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(" ").some((signature) => {
    const [version, value = ""] = signature.split(",");
    const given = Buffer.from(value, "base64");
    return version === "v1" && given.length === expected.length && crypto.timingSafeEqual(given, expected);
  });
}

async function readBody(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_LIMIT_BYTES) throw new Error("the body is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/**
 * Starts it; resolves with its port. `told` gets each event once it is verified, `ordered` the data of each order, once per `repurchase_id` while this
 * process lives; it returns at once and sees to the package itself.
 */
export function startReceiver(preferredPort, { secret, told, ordered }) {
  const orders = new Set();
  const server = http.createServer(async (request, response) => {
    const body = await readBody(request).catch(() => undefined);
    if (body === undefined) return response.writeHead(413, { connection: "close" }).end();
    if (!isSigned(secret, request.headers, body)) return response.writeHead(401).end();
    const event = JSON.parse(body);
    if (request.url !== "/orders") {
      told(event);
      return response.writeHead(204).end();
    }
    if (!orders.has(event.data.repurchase_id)) ordered(event.data);
    orders.add(event.data.repurchase_id);
    response.writeHead(200, { "content-type": "application/json" }).end('{"status":"pending"}');
  });
  return listen(server, preferredPort);
}
