// Makes a component smaller: runs wasm-opt on its core module and puts the result in its place, and leaves out the names that the linker gave to
// the component's own parts, which only people read. What surrounds the module refers to its imports and exports by their names, which wasm-opt keeps.
//
//     node tools/binaryen/optimise.mjs COMPONENT OUTPUT
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
/** What rustc's compiler may emit for wasm32-wasip2 (the target's features), and nothing newer. */
const FEATURES = ["bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext", "simd"];
const PREAMBLE_BYTES = 8;
const CUSTOM_SECTION = 0;
const CORE_MODULE_SECTION = 1;

/** An unsigned LEB128 number and where it ends. */
function readNumber(bytes, at) {
  let number = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    number += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [number, at];
  }
}

function writeNumber(number) {
  const bytes = [];
  do {
    bytes.push((number % 128) | (number >= 128 ? 0x80 : 0));
    number = Math.floor(number / 128);
  } while (number > 0);
  return Buffer.from(bytes);
}

/** The sections of a component: where each begins, where its content does, and where it ends. */
function sections(bytes) {
  const found = [];
  for (let at = PREAMBLE_BYTES; at < bytes.length; ) {
    const [length, content] = readNumber(bytes, at + 1);
    found.push({ id: bytes[at], begin: at, content, end: content + length });
    at = content + length;
  }
  return found;
}

function wasmOpt(module) {
  if (!existsSync(join(here, "node_modules/binaryen"))) {
    execFileSync("npm", ["ci", "--silent", "--no-audit", "--no-fund"], { cwd: here, stdio: ["ignore", 2, 2] });
  }
  const folder = mkdtempSync(join(tmpdir(), "tollgate-wasm-opt-"));
  try {
    const [input, output] = [join(folder, "in.wasm"), join(folder, "out.wasm")];
    writeFileSync(input, module);
    const flags = FEATURES.map((feature) => `--enable-${feature}`);
    execFileSync(process.execPath, [join(here, "node_modules/binaryen/bin/wasm-opt"), "-Oz", ...flags, input, "-o", output]);
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** True for the section that names the component's parts. */
function isNames(bytes, { id, content }) {
  if (id !== CUSTOM_SECTION) return false;
  const [length, begin] = readNumber(bytes, content);
  return bytes.toString("utf8", begin, begin + length) === "component-name";
}

const [source, target] = process.argv.slice(2);
const bytes = readFileSync(source);
const kept = sections(bytes).filter((section) => !isNames(bytes, section));
// The largest is the program; the others are adapters of a few hundred bytes.
const modules = kept.filter(({ id }) => id === CORE_MODULE_SECTION);
const program = modules.reduce((largest, one) => (one.end - one.begin > largest.end - largest.begin ? one : largest));
const smaller = wasmOpt(bytes.subarray(program.content, program.end));
const head = Buffer.concat([Buffer.from([CORE_MODULE_SECTION]), writeNumber(smaller.length)]);
const parts = kept.map((section) => (section === program ? Buffer.concat([head, smaller]) : bytes.subarray(section.begin, section.end)));
writeFileSync(target, Buffer.concat([bytes.subarray(0, PREAMBLE_BYTES), ...parts]));
