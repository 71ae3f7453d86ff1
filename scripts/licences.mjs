// Fails when a dependency's licence does not fit Apache-2.0. Reads `cargo metadata`, asks no network.
import { execFileSync } from "node:child_process";

const ACCEPTED = new Set([
  "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
  "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
]);

/** Alternatives need one accepted part, sums all; a slash is an old way to write OR. */
function isAccepted(expression) {
  const text = expression.trim();
  if (ACCEPTED.has(text)) return true;
  for (const [separator, test] of [["OR", "some"], ["AND", "every"]]) {
    const parts = splitOutside(text, separator);
    if (parts.length > 1) return parts[test](isAccepted);
  }
  return text.startsWith("(") && text.endsWith(")") && isAccepted(text.slice(1, -1));
}

/** Splits at a word outside parentheses. */
function splitOutside(text, word) {
  const parts = [[]];
  let depth = 0;
  for (const token of text.replaceAll("/", " OR ").match(/[()]|[^\s()]+/g) ?? []) {
    depth += token === "(" ? 1 : token === ")" ? -1 : 0;
    if (token === word && depth === 0) parts.push([]);
    else parts.at(-1).push(token);
  }
  return parts.map((part) => part.join(" ").replace(/\( /g, "(").replace(/ \)/g, ")"));
}

/** The Worker is a workspace of its own. */
const WORKSPACES = ["Cargo.toml", "worker/Cargo.toml"];
const metadata = (manifest) => execFileSync("cargo", ["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest], { maxBuffer: 1 << 28 });
const packages = WORKSPACES.flatMap((manifest) => JSON.parse(metadata(manifest)).packages);
const refused = packages.filter((p) => !isAccepted(p.license ?? "none"));
for (const p of refused) console.error(`${p.name} ${p.version}: ${p.license ?? "no licence"}`);
console.log(`licences: ${packages.length - refused.length} packages fit, ${refused.length} do not`);
process.exit(refused.length > 0 ? 1 : 0);
