// Reads the golden vectors from a folder, as SCHEMA.md in it says, and refuses what contradicts it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const INPUTS = ["x", "strength", "gamma", "w", "g", "s", "A", "b", "point", "lr", "m", "v", "t", "a"];

function demand(fact, text) {
  if (!fact) throw Error(text);
}

/** The bytes of a file, checked by its manifest. */
export function read(folder, file) {
  const { format, version, sha256 } = JSON.parse(readFileSync(`${folder}/manifest.json`, "utf8"));
  demand(format === "proxquant-np golden vectors", `format of ${folder} is unknown: ${format}`);
  demand(version === 1, `version of ${folder} must be 1, got ${version}`);
  const bytes = readFileSync(`${folder}/${file}`);
  const digest = createHash("sha256").update(bytes).digest("hex");
  demand(digest === sha256[file], `${file} is damaged: its checksum differs from the manifest's`);
  return bytes;
}

/** [{place: "prox.json binary_l1[0]", kind: "binary_l1", x: [...], ...}, ...] of a JSON file. */
export function cases(folder, file, only) {
  const all = [];
  for (const [kind, entry] of Object.entries(JSON.parse(read(folder, file))))
    for (const [i, c] of entry.cases.entries()) {
      if (only && kind !== only) continue;
      const place = `${file} ${kind}[${i}]`;
      const lists = [...Object.values(c), ...(c.A ?? [])].filter(Array.isArray);
      const inputs = INPUTS.flatMap((key) => [c[key] ?? []].flat(2));
      demand(lists.every((l) => l.length && l.length === lists[0].length), `${place}: lengths`);
      demand(inputs.every((x) => Math.fround(x) === x), `${place}: an input is not float32`);
      all.push({ place, kind, ...c });
    }
  demand(all.length, `${file} has no cases of ${only}`);
  return all;
}

/** {"weights.gaussian": Float32Array, ...} of large.npz, on a little-endian machine. */
export function arrays(folder, file = "large.npz") {
  const zip = read(folder, file);
  const found = {};
  for (let at = zip.readUInt32LE(zip.length - 6); zip.readUInt32LE(at) === 0x02014b50; ) {
    const [name, extra, comment] = [28, 30, 32].map((field) => zip.readUInt16LE(at + field));
    const [size, entry] = [20, 42].map((field) => zip.readUInt32LE(at + field));
    const start = entry + 30 + zip.readUInt16LE(entry + 26) + zip.readUInt16LE(entry + 28);
    const npy = new Uint8Array(zip.subarray(start, start + size));
    const data = 10 + npy[8] + 256 * npy[9];
    const [, type] = /'descr': '(.*?)'/.exec(String.fromCharCode(...npy.subarray(10, data)));
    const Real = { "<f4": Float32Array, "<f8": Float64Array }[type];
    const key = zip.toString("latin1", at + 46, at + 46 + name).replace(/\.npy$/, "");
    found[key] = new Real(npy.buffer, data);
    at += 46 + name + extra + comment;
  }
  return found;
}
