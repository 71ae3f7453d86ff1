// The demo's API: answers every request with what it received. Run alone: `node examples/demo-backend.mjs [PORT]`.
import http from "node:http";
import { pathToFileURL } from "node:url";

const BODY_LIMIT_BYTES = 64 * 1024;

function answer(request, response) {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    if (body.length < BODY_LIMIT_BYTES) body += chunk;
  });
  request.on("end", () => {
    const reply = JSON.stringify({
      method: request.method,
      path: request.url,
      customer: request.headers["x-customer-id"] ?? null,
      request_id: request.headers["x-request-id"] ?? null,
      body: body.slice(0, BODY_LIMIT_BYTES),
    });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(reply) + 1 });
    response.end(reply + "\n");
  });
}

/** Lets a server listen on the preferred port, or on a free one where that is taken; resolves with the port. */
export function listen(server, preferredPort) {
  return new Promise((resolve, reject) => {
    const listening = () => resolve(server.address().port);
    server.once("error", (error) => {
      if (error.code !== "EADDRINUSE") return reject(error);
      server.once("error", reject);
      server.listen(0, "127.0.0.1", listening);
    });
    server.listen(preferredPort, "127.0.0.1", listening);
  });
}

/** Starts the demo's API; resolves with its port. */
export const startBackend = (preferredPort) => listen(http.createServer(answer), preferredPort);

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const port = await startBackend(Number(process.argv[2] ?? 9000));
  console.log(`demo backend on http://127.0.0.1:${port}`);
}
