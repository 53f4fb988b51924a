// Checks a sign and a prox of R(w) = sum | |w| - 1 | against every golden vector of theirs:
//
//     proxquant-np vectors --out golden && node binary_l1.mjs golden
//
// Put yours in their place. Exit status: 0 right, 1 wrong in the cases that are named, 2 the
// vectors cannot be read.

import { cases } from "./read.mjs";

const sign = (x) => (x >= 0 ? 1 : -1);
const prox = (x, strength) => x - Math.min(Math.max(x - sign(x), -strength), strength);

const sum = (list) => list.reduce((total, x) => total + x, 0);
const square = (list) => sum(list.map((x) => x * x));
const distance = (u, x) => square(x.map((_, i) => u[i] - x[i])) / 2;
const largest = (list) => Math.max(...list.map(Math.abs));

// A check yields [name of a result, what we get, how far it may be from the case's].

function* proxes({ x, strength, u }, Real, e) {
  const mine = Array.from(Real.from(Real.from(x), (x) => prox(x, strength)));
  const cost = distance(mine, x) + strength * sum(mine.map((u) => Math.abs(Math.abs(u) - 1)));
  yield ["objective", cost, 64 * e * (1 + strength) * (1 + square(x))];
  yield ["u", mine, 1e-6 * (1 + largest(u))]; // binary_l1 has one minimiser, but for the tie at 0
}

function* quantizers({ w, error }, Real, e) {
  const mine = Array.from(Real.from(w), sign);
  yield ["q", mine, 0];
  yield ["error", distance(mine, w), 64 * e * (error + square(w))];
}

function* signChanges({ a, b }) {
  yield ["changed", a.filter((x, i) => sign(x) !== sign(b[i])).length, 0];
}

function* steps({ kind, A, b, point, lr, strength, m, v, t, ...results }, Real, e) {
  const lazy = kind.startsWith("lazy");
  const w = lazy ? point.map(sign) : point;
  const g = A.map((row, i) => sum(row.map((a, j) => a * w[j])) - b[i]);
  const mine = { d: g };
  if (kind.endsWith("adam")) {
    mine.new_m = g.map((g, i) => 0.9 * m[i] + 0.1 * g);
    mine.new_v = g.map((g, i) => 0.999 * v[i] + 0.001 * g * g);
    const root = mine.new_v.map((v) => Math.sqrt(v / (1 - 0.999 ** t)) + 1e-8);
    mine.d = mine.new_m.map((m, i) => m / (1 - 0.9 ** t) / root[i]);
  }
  mine.latent = point.map((z, i) => z - lr * mine.d[i]);
  mine.weights = mine.latent.map((z) => (lazy ? sign(z) : prox(z, strength)));
  for (const key of ["new_m", "new_v", "latent", "weights"])
    if (key in results)
      yield [key, mine[key], (key === "weights" ? 1e-6 : 64 * e) * (1 + largest(results[key]))];
}

function faults(folder) {
  const float32 = [Float32Array, 2 ** -23, "float32"];
  const float64 = [Float64Array, 2 ** -52, "float64"];
  const runs = [
    [proxes, cases(folder, "prox.json", "binary_l1"), [float32, float64]],
    [quantizers, cases(folder, "quantizers.json", "binary"), [float32, float64]],
    [signChanges, cases(folder, "sign_change.json"), [float64]],
    [steps, cases(folder, "steps.json"), [float64]],
  ];
  let [checked, count] = [0, 0];
  for (const [check, list, precisions] of runs)
    for (const c of list)
      for (const [Real, e, precision] of precisions) {
        checked++;
        for (const [key, got, slack] of check(c, Real, e)) {
          const [mine, want] = [[got].flat(), [c[key]].flat()];
          const i = want.findIndex((x, i) => !(Math.abs(mine[i] - x) <= slack)); // or NaN
          if (i < 0) continue;
          count++;
          console.log(`${c.place} in ${precision}: ${key}[${i}] is ${mine[i]}, not ${want[i]}`);
        }
      }
  console.log(`${checked} checks, ${count} faults`);
  return count;
}

try {
  process.exitCode = faults(process.argv[2] ?? "golden") ? 1 : 0;
} catch (error) {
  console.error(`the golden vectors cannot be read: ${error.message}`);
  process.exitCode = 2;
}
