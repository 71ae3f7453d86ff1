// The Worker with customers' objects that are hard to reach. A call's request id says what becomes of its messages: `FATE.STEP.FROM.TO.` once or more before
// its name, where the messages of that step with these numbers, from 1, are lost before they are heard (`unheard`), or answered in vain (`unanswered`).
import { WorkerEntrypoint } from "cloudflare:workers";
import * as tollgate from "./tollgate.js";

const seen = new Map();

/** What becomes of a message. */
function fateOf({ request_id = "", step }) {
  const fates = [...request_id.matchAll(/(unheard|unanswered)\.(\w+)\.(\d+)\.(\d+)\./g)];
  const [, fate, name, from, to] = fates.find(([, , name]) => Object.keys(step).some((key) => key.toLowerCase() === name)) ?? [];
  if (fate === undefined) return undefined;
  const key = `${name} of ${request_id}`;
  const number = (seen.get(key) ?? 0) + 1;
  seen.set(key, number);
  return number >= from && number <= to ? fate : undefined;
}

export const Index = tollgate.Index;

export class Account {
  constructor(state, env) {
    this.real = new tollgate.Account(state, env);
  }

  async fetch(request) {
    const isCall = new URL(request.url).pathname === "/call";
    const fate = isCall ? fateOf(await request.clone().json()) : undefined;
    if (fate === "unheard") throw new Error("the message was lost");
    const answer = await this.real.fetch(request);
    if (fate === "unanswered") throw new Error("the answer was lost");
    return answer;
  }

  alarm() {
    return this.real.alarm();
  }
}

export default class extends WorkerEntrypoint {
  fetch(request) {
    return new tollgate.default(this.ctx, this.env).fetch(request);
  }
}
