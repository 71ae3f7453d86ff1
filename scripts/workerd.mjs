#!/usr/bin/env node
// Runs the Worker bundle on workerd, with the flags of the bundled runner: `node scripts/workerd.mjs up --listen ADDR --state-dir DIR --variable KEY=VALUE`.
// A variable is a binding of the same name in upper case. `--worker DIR` runs the Worker whose wrangler.toml is there. Each further `--listen` has a
// Worker of its own, on the same objects. Prints `Serving http://ADDR` for each once it listens, in their order.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_MODULES = join(ROOT, "target/workers/node_modules");

function fail(message) {
  console.error(`scripts/workerd.mjs: ${message}`);
  process.exit(1);
}

/** The flags of `up`. Those of the runner that mean nothing here are taken and left alone. */
function readFlags(words) {
  const flags = { listen: [], stateDir: ".tollgate-workerd", worker: join(ROOT, "worker"), variables: new Map() };
  for (let place = 0; place < words.length; place += 2) {
    const [name, value] = [words[place], words[place + 1]];
    if (value === undefined) fail(`${name} has no value`);
    if (name === "--listen") flags.listen.push(value);
    else if (name === "--state-dir") flags.stateDir = value;
    else if (name === "--worker") flags.worker = resolve(value);
    else if (name === "--variable") {
      const [, key, text] = value.match(/^([^=]+)=([\s\S]*)$/) ?? fail(`--variable ${value}: expected KEY=VALUE`);
      flags.variables.set(key, text.startsWith("@") ? readFileSync(text.slice(1), "utf8") : text);
    } else if (!["--from", "--max-instance-reuse-count", "--max-instance-concurrent-reuse-count", "--idle-instance-timeout"].includes(name)) {
      fail(`${name} is unknown`);
    }
  }
  if (flags.listen.length === 0) flags.listen.push("127.0.0.1:3000");
  return flags;
}

/** A string of Cap'n Proto's text format. */
const quoted = (text) => `"${[...Buffer.from(text)].map((byte) => (byte >= 32 && byte < 127 && byte !== 34 && byte !== 92 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("")}"`;

/** What the Worker's wrangler.toml says of it. */
function readWorker(worker) {
  const settings = readFileSync(join(worker, "wrangler.toml"), "utf8");
  const [, main] = settings.match(/^main = "(.*)"$/m);
  const date = settings.match(/^compatibility_date = "(.*)"$/m)[1];
  const flags = [...(settings.match(/^compatibility_flags = \[(.*)\]$/m)?.[1] ?? "").matchAll(/"([^"]+)"/g)].map(([, flag]) => quoted(flag));
  const objects = [...settings.matchAll(/^class_name = "(.*)"$/gm)].map(([, name]) => name);
  return { main: join(worker, main), date, flags, objects };
}

function writeConfig({ listen, stateDir, variables }, { main, date, flags, objects }) {
  const storage = join(stateDir, "objects");
  mkdirSync(storage, { recursive: true });
  const bindings = [...variables].map(([key, text]) => `(name = ${quoted(key.toUpperCase())}, text = ${quoted(text)})`);
  // The first Worker has the objects; the others reach them by its name.
  const places = listen.map((_, place) => (place === 0 ? "tollgate" : `tollgate${place}`));
  const objectBindings = (place) => objects.map((name) => {
    const namespace = place === 0 ? quoted(name) : `(className = ${quoted(name)}, serviceName = "tollgate")`;
    return `(name = ${quoted(name.toUpperCase())}, durableObjectNamespace = ${namespace})`;
  });
  const namespaces = objects.map((name) => `(className = ${quoted(name)}, uniqueKey = ${quoted(`tollgate-${name.toLowerCase()}`)}, enableSql = true)`);
  const path = join(stateDir, "workerd.capnp");
  const beside = dirname(main);
  const module = (name, kind) => `    (name = ${quoted(name)}, ${kind} = embed ${quoted(relative(stateDir, join(beside, name)))}),`;
  const others = readdirSync(beside).filter((name) => name !== basename(main));
  const named = (suffix, kind) => others.filter((name) => name.endsWith(suffix)).map((name) => module(name, kind));
  const modules = [module(basename(main), "esModule"), ...named(".js", "esModule"), ...named(".wasm", "wasm")];
  writeFileSync(path, `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
${places.map((name) => `    (name = ${quoted(name)}, worker = .${name}),`).join("\n")}
    (name = "objects", disk = (path = ${quoted(storage)}, writable = true)),
    (name = "outside", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [
${places.map((name, place) => `    (name = ${quoted(name)}, address = ${quoted(listen[place])}, http = (), service = ${quoted(name)}),`).join("\n")}
  ],
);
${places.map((name, place) => `const ${name} :Workerd.Worker = (
  modules = [
${modules.join("\n")}
  ],
  compatibilityDate = ${quoted(date)},
  compatibilityFlags = [${flags.join(", ")}],
  bindings = [${[...bindings, ...objectBindings(place)].join(", ")}],
  durableObjectNamespaces = [${place === 0 ? namespaces.join(", ") : ""}],
  durableObjectStorage = (${place === 0 ? 'localDisk = "objects"' : "none = void"}),
  globalOutbound = "outside",
);`).join("\n")}
`, { mode: 0o600 });
  return path;
}

const [command, ...words] = process.argv.slice(2);
if (command !== "up") fail("the command is: up");
const flags = readFlags(words);
flags.stateDir = resolve(flags.stateDir);
const program = process.env.WORKERD_BIN ?? join(NODE_MODULES, "@cloudflare/workerd-linux-64/bin/workerd");
const worker = readWorker(flags.worker);
for (const needed of [program, worker.main]) {
  if (!existsSync(needed)) fail(`${needed} is missing: run scripts/build-worker`);
}
const config = writeConfig(flags, worker);
// Descriptor 3 is where it tells on which port it listens.
const serve = [program, "serve", config, "--control-fd=3"];
// Where the launcher is killed, workerd goes with it.
const [first, ...rest] = existsSync("/usr/bin/setpriv") ? ["/usr/bin/setpriv", "--pdeathsig", "KILL", ...serve] : serve;
const child = spawn(first, rest, { stdio: ["ignore", "inherit", "inherit", "pipe"] });

/** Says that they serve; or, as the runner does, leaves where the configuration is wrong: the log has said why. */
async function serving(authorities) {
  const ready = await fetch(`http://${authorities[0]}/_tollgate/readyz`);
  if ((await ready.json()).code !== "config_invalid") return authorities.forEach((authority) => console.log(`Serving http://${authority}`));
  child.removeAllListeners("exit");
  child.on("exit", () => process.exit(1));
  child.kill("SIGKILL");
}

let told = "";
const ports = new Map();
child.stdio[3].on("data", async (data) => {
  told += data;
  for (let end = told.indexOf("\n"); end >= 0; end = told.indexOf("\n")) {
    const event = JSON.parse(told.slice(0, end));
    told = told.slice(end + 1);
    if (event.event !== "listen") continue;
    ports.set(event.socket, event.port);
    if (ports.size < flags.listen.length) continue;
    await serving(flags.listen.map((address, place) => `${address.replace(/:[0-9]+$/, "")}:${ports.get(place === 0 ? "tollgate" : `tollgate${place}`)}`));
  }
});
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(signal ? 0 : (code ?? 1)));
