// Search results quote the page's source, formulas included: show those as text instead of TeX.
const GREEK = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", varepsilon: "ε", eta: "η",
  theta: "θ", kappa: "κ", lambda: "λ", mu: "μ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ",
  phi: "φ", psi: "ψ", omega: "ω", Delta: "Δ", Phi: "Φ", Psi: "Ψ", nabla: "∇", infty: "∞",
  pm: "±", mp: "∓", times: "×", cdot: "·", le: "≤", leq: "≤", ge: "≥", geq: "≥", ne: "≠",
  in: "∈", to: "→", leftarrow: "←", rightarrow: "→", sum: "Σ", ell: "ℓ", ldots: "…", dots: "…",
};

function plain(tex) {
  return tex
    .replace(/\\[()[\]]|\\(?:left|right|[bB]igg?[lr]?|operatorname\*?|math[a-z]+|text)(?![a-z])/g, "")
    .replace(/\\(?:begin|end)\{[a-z*]+\}|&|\\\\/g, " ")
    .replace(/\\[dt]?frac\{?([^{}])\}?\{?([^{}])\}?/g, "$1/$2")
    .replace(/\\([a-zA-Z]+) ?/g, (_, name) => GREEK[name] ?? name)
    .replace(/\\[,;!: ]|[{}]/g, "")
    .replace(/\s+/g, " ");
}

document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const text = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const formula of page.querySelectorAll(".math")) {
      formula.textContent = plain(formula.textContent);
    }
    page.querySelectorAll(".lesson").forEach((line) => line.remove());
    return text(page.documentElement.outerHTML, anchor);
  };
});
