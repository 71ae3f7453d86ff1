// The demo: a backend, a receiver of alerts and orders, the gateway with funded customers, and curl lines to try. Ctrl-C ends all of it.
//
// The tokens here are for this demo on the loopback interface and for nothing else.
import { spawn, spawnSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import { startBackend } from "../examples/demo-backend.mjs";
import { startReceiver } from "../examples/demo-receiver.mjs";

const HOST = "127.0.0.1";
const PORT = Number(process.env.PORT ?? 3000);
const GATEWAY = `http://${HOST}:${PORT}`;
const ADMIN_TOKEN = "demo-admin-token";
const DIRECTORY = "target/demo";
const START_DEADLINE_MS = 60_000;
/** How long the demo's shop takes to deliver what was ordered. */
const DELIVERY_MS = 200;
const DELIVERY_TRIES = 50;
/** Made anew with each start: gateway and receiver are the only ones that know it. */
const WEBHOOK_SECRET = `whsec_${crypto.randomBytes(32).toString("base64")}`;

/** Told at 300 left, and 500 more are bought at 250 left. */
const RULES = {
  alerts: [{ remaining: "300" }],
  repurchase: {
    enabled: true,
    trigger: { remaining: "250" },
    package: { spec_id: "translate-500", quantity: "500", price: "9.90", currency: "EUR" },
    cap: { count: 100, spend: "990", period: "24h" },
    cooldown: "0s",
  },
};

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

function startGateway(backendPort, receiverPort) {
  fs.mkdirSync(`${DIRECTORY}/state`, { recursive: true });
  const config = fs.readFileSync("tollgate.toml", "utf8").replaceAll("127.0.0.1:9000", `${HOST}:${backendPort}`);
  const receiver = (path) => `url = "http://${HOST}:${receiverPort}${path}"\nsecrets = [{ secret = "webhook_secret" }]\n`;
  fs.writeFileSync(`${DIRECTORY}/tollgate.toml`, `${config}\n[[webhook]]\n${receiver("/hooks")}\n[repurchase]\n${receiver("/orders")}`);
  const runner = spinIsUsable() ? "spin" : "target/release/tollgate-host";
  const args = ["up", "--listen", `${HOST}:${PORT}`, "--from", "spin.toml", "--state-dir", `${DIRECTORY}/state`];
  args.push("--variable", `config=@${DIRECTORY}/tollgate.toml`, "--variable", `admin_token=${ADMIN_TOKEN}`);
  args.push("--variable", `webhook_secret=${WEBHOOK_SECRET}`);
  console.log(`==> ${runner} up, the backend on port ${backendPort}, the receiver on port ${receiverPort}, state in ${DIRECTORY}`);
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

async function control(method, path, body) {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" };
  const reply = await fetch(`${GATEWAY}/_tollgate/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${await reply.text()}`);
  return reply.json();
}

const grant = (customerId, quantity) =>
  control("PUT", `/packages/${customerId}-package`, { customer_id: customerId, product_id: "translate", quantity });

/** What the receiver is told, one line each. */
function told({ type, data }) {
  if (type === "balance.low") console.log(`alert   ${data.customer_id}: ${data.remaining} of ${data.granted} left`);
  if (type === "balance.exhausted") console.log(`alert   ${data.customer_id}: nothing left`);
  if (type === "repurchase.succeeded") console.log(`package ${data.customer_id}: ${data.repurchase_id} has arrived`);
  if (type === "repurchase.failed") console.log(`failed  ${data.customer_id}: ${data.reason}`);
}

/** The demo's shop: a package that names the order arrives a little later. The same package again changes nothing, so it may be tried again. */
async function ordered(data) {
  console.log(`order   ${data.customer_id}: ${data.quantity} for ${data.price} ${data.currency}, ${data.repurchase_id}`);
  const { customer_id, product_id, quantity, repurchase_id } = data;
  for (let tries = 1; tries <= DELIVERY_TRIES; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, DELIVERY_MS));
    try {
      return await control("PUT", `/packages/${repurchase_id}`, { customer_id, product_id, quantity, repurchase_id });
    } catch (error) {
      console.error(`delivering ${repurchase_id}: ${error.message}`);
    }
  }
}

/** A customer with a package, one whose packages are bought in time, and one whose only unit is used up. Repeating it changes nothing. */
async function provision() {
  await grant("demo", "1000");
  await grant("demo-auto", "500");
  await control("PUT", "/customers/demo-auto/products/translate/rules", RULES);
  await grant("demo-empty", "1");
  const headers = { "x-customer-id": "demo-empty", "x-request-id": "demo-empty-1" };
  await fetch(`${GATEWAY}/translate/hello`, { headers }).then((reply) => reply.arrayBuffer());
}

/** What was ordered before the demo was ended, and not delivered. */
async function deliverLeftovers() {
  const { repurchases } = await control("GET", "/repurchases?customer_id=demo-auto&state=pending");
  for (const order of repurchases) void ordered(order);
}

function printLines() {
  const curl = `curl -s -H 'Authorization: Bearer ${ADMIN_TOKEN}' ${GATEWAY}/_tollgate/v1`;
  console.log(`
Tollgate serves ${GATEWAY}. Try, in another terminal:

# a call, charged one unit
curl -i -H 'X-Customer-Id: demo' '${GATEWAY}/translate/hello?to=fr'

# a call with its own id: charged once, however often it is sent
curl -i -H 'X-Customer-Id: demo' -H 'X-Request-Id: order-1' -d 'bonjour' ${GATEWAY}/translate/text

# a customer whose package is used up
curl -i -H 'X-Customer-Id: demo-empty' ${GATEWAY}/translate/hello

# 1000 calls of a customer who bought 500: it is told at 300 left, 500 more are bought at 250 left, and no call is refused
for i in $(seq 1000); do curl -s -o /dev/null -w '%{http_code}\\n' -H 'X-Customer-Id: demo-auto' ${GATEWAY}/translate/hello; done | sort | uniq -c

# what was told to whom, with each delivery, and what was bought
${curl}'/events?customer_id=demo-auto'
${curl}'/repurchases?customer_id=demo-auto'

# the balance, the calls, and the audit of every balance
${curl}/customers/demo/balance
${curl}/customers/demo/calls
${curl}/audit

Alerts, orders and packages are shown below as the receiver gets them. The token is this demo's own: never use it elsewhere. Ctrl-C ends the demo.
`);
}

async function main() {
  await checkPort();
  if (process.argv.includes("--check-port")) return;
  const receiverPort = await startReceiver(9900, { secret: WEBHOOK_SECRET, told, ordered });
  const gateway = startGateway(await startBackend(9000), receiverPort);
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
    await deliverLeftovers();
  } catch (error) {
    gateway.kill("SIGTERM");
    fail(error.message);
  }
}

await main();
