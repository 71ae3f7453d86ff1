// Receives Tollgate's webhooks (/hooks) and orders (/orders), and checks every signature with the official Standard Webhooks library.
//
//   npm install && WEBHOOK_SECRET=whsec_... node receiver.mjs
import http from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET ?? "");
const port = Number(process.env.PORT ?? 9900);
const seen = new Set();

/** Here goes the SMS, the mail, the chat message. */
async function notify(customerId, text) {
  console.log(`to ${customerId}: ${text}`);
}

/** Every event may come more than once; its id says whether it is new. Keep the ids where they outlive this process. */
async function receive(id, { type, data }) {
  if (seen.has(id)) return;
  if (type === "balance.low") await notify(data.customer_id, `${data.remaining} of ${data.granted} ${data.unit}s are left.`);
  if (type === "balance.exhausted") await notify(data.customer_id, `Nothing is left: calls are refused.`);
  if (type === "repurchase.succeeded") await notify(data.customer_id, `${data.quantity} more were bought for ${data.price} ${data.currency}.`);
  if (type === "repurchase.failed") await notify(data.customer_id, `The next package could not be bought: ${data.reason}.`);
  seen.add(id);
}

/** Buys what is ordered, once for each repurchase_id however often it is asked: the package is named after it. */
async function order({ data }) {
  // Here goes the purchase. One that takes longer answers { status: "pending", repurchase_id } and tells the outcome later, by
  // POST /_tollgate/v1/repurchases/{repurchase_id}/outcome or by a package that names the repurchase_id.
  return { status: "succeeded", repurchase_id: data.repurchase_id, package: { package_id: data.repurchase_id, quantity: data.quantity } };
}

http
  .createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    let message;
    try {
      message = webhook.verify(Buffer.concat(chunks).toString(), request.headers);
    } catch (error) {
      console.error(`refused: ${error.message}`);
      return response.writeHead(401).end();
    }
    try {
      const isOrder = request.url === "/orders";
      const answer = isOrder ? await order(message) : await receive(request.headers["webhook-id"], message);
      response.writeHead(isOrder ? 200 : 204, isOrder ? { "content-type": "application/json" } : {}).end(answer && JSON.stringify(answer));
    } catch (error) {
      // Not done: Tollgate sends it again, under the same id.
      console.error(error);
      response.writeHead(500).end();
    }
  })
  .listen(port, "127.0.0.1", () => console.log(`webhooks on http://127.0.0.1:${port}/hooks, orders on http://127.0.0.1:${port}/orders`));
