// The demo: a backend, the gateway with one funded customer, and curl lines to try. Ctrl-C ends all of it.
//
// The tokens here are for this demo on the loopback interface and for nothing else.
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import { startBackend } from "../examples/demo-backend.mjs";

const HOST = "127.0.0.1";
const PORT = Number(process.env.PORT ?? 3000);
const GATEWAY = `http://${HOST}:${PORT}`;
const ADMIN_TOKEN = "demo-admin-token";
const DIRECTORY = "target/demo";
const START_DEADLINE_MS = 60_000;

function fail(message) {
  console.error(`make run: ${message}`);
  process.exit(1);
}

async function checkPort() {
  if (!Number.isInteger(PORT) || PORT < 1 || PORT > 65535) fail(`PORT is "${process.env.PORT}"; 1 to 65535 is accepted`);
  await new Promise((resolve) => {
    const probe = net.createServer();
    probe.once("error", (error) =>
      fail(`port ${PORT} cannot be used (${error.code}). End what listens there, or take another: PORT=3001 make run`),
    );
    probe.listen(PORT, HOST, () => probe.close(resolve));
  });
}

/** Spin from 4.1 on runs the component; older ones cannot. */
function spinIsUsable() {
  const version = spawnSync("spin", ["--version"], { encoding: "utf8" }).stdout?.match(/spin (\d+)\.(\d+)/);
  return Boolean(version) && (Number(version[1]) > 4 || (Number(version[1]) === 4 && Number(version[2]) >= 1));
}

function startGateway(backendPort) {
  fs.mkdirSync(`${DIRECTORY}/state`, { recursive: true });
  const config = fs.readFileSync("tollgate.toml", "utf8").replaceAll("127.0.0.1:9000", `${HOST}:${backendPort}`);
  fs.writeFileSync(`${DIRECTORY}/tollgate.toml`, config);
  const runner = spinIsUsable() ? "spin" : "target/release/tollgate-host";
  const args = ["up", "--listen", `${HOST}:${PORT}`, "--from", "spin.toml", "--state-dir", `${DIRECTORY}/state`];
  args.push("--variable", `config=@${DIRECTORY}/tollgate.toml`, "--variable", `admin_token=${ADMIN_TOKEN}`);
  console.log(`==> ${runner} up, the backend on port ${backendPort}, state in ${DIRECTORY}`);
  return spawn(runner, args, { stdio: ["ignore", "ignore", "inherit"] });
}

async function waitUntilReady(ended) {
  for (const deadline = Date.now() + START_DEADLINE_MS; Date.now() < deadline && !ended(); ) {
    const reply = await fetch(`${GATEWAY}/_tollgate/readyz`).catch(() => undefined);
    if (reply?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the gateway did not become ready; its own words are above");
}

async function grant(customerId, quantity) {
  const reply = await fetch(`${GATEWAY}/_tollgate/v1/packages/${customerId}-package`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
    body: JSON.stringify({ customer_id: customerId, product_id: "translate", quantity }),
  });
  if (!reply.ok) throw new Error(`granting a package to ${customerId}: ${reply.status} ${await reply.text()}`);
}

/** One customer with a package, and one whose only unit is used up. Repeating it changes nothing. */
async function provision() {
  await grant("demo", "1000");
  await grant("demo-empty", "1");
  const headers = { "x-customer-id": "demo-empty", "x-request-id": "demo-empty-1" };
  await fetch(`${GATEWAY}/translate/hello`, { headers }).then((reply) => reply.arrayBuffer());
}

function printLines() {
  const control = `curl -s -H 'Authorization: Bearer ${ADMIN_TOKEN}' ${GATEWAY}/_tollgate/v1`;
  console.log(`
Tollgate serves ${GATEWAY}. Try, in another terminal:

# a call, charged one unit
curl -i -H 'X-Customer-Id: demo' '${GATEWAY}/translate/hello?to=fr'

# a call with its own id: charged once, however often it is sent
curl -i -H 'X-Customer-Id: demo' -H 'X-Request-Id: order-1' -d 'bonjour' ${GATEWAY}/translate/text

# a customer whose package is used up
curl -i -H 'X-Customer-Id: demo-empty' ${GATEWAY}/translate/hello

# the balance, the calls, and the audit of every balance
${control}/customers/demo/balance
${control}/customers/demo/calls
${control}/audit

The token is this demo's own: never use it elsewhere. Ctrl-C ends the demo.`);
}

async function main() {
  await checkPort();
  if (process.argv.includes("--check-port")) return;
  const gateway = startGateway(await startBackend(9000));
  let isOver = false;
  let isStopping = false;
  const stop = () => {
    isStopping = true;
    gateway.kill("SIGTERM");
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  gateway.once("error", (error) => fail(`the gateway cannot be started: ${error.message}`));
  gateway.once("exit", (code) => {
    isOver = true;
    if (!isStopping) fail(`the gateway ended by itself (${code})`);
    process.exit(0);
  });
  try {
    await waitUntilReady(() => isOver);
    await provision();
    printLines();
  } catch (error) {
    gateway.kill("SIGTERM");
    fail(error.message);
  }
}

await main();
