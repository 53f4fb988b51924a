// Checks a sign and a prox of R(w) = sum | |w| - 1 | against every golden vector of theirs:
//
//     proxquant-np vectors --out golden
//     g++ -std=c++17 -o binary_l1 binary_l1.cpp && ./binary_l1 golden
//
// Put yours in their place. Exit status: 0 right, 1 wrong in the cases that are named, 2 the
// vectors cannot be read.

#include "read.hpp"

#include <algorithm>
#include <iostream>
#include <limits>

template <class Real>
Real sign(Real x) {
    return x >= 0 ? 1 : -1;
}

template <class Real>
Real prox(Real x, Real strength) {
    return x - std::clamp(x - sign(x), -strength, strength);
}

double square(const List& w) {
    double total = 0;
    for (double x : w) total += x * x;
    return total;
}

double largest(const List& w) {
    double most = 0;
    for (double x : w) most = std::max(most, std::abs(x));
    return most;
}

// A check gives the results by name: what we get, and how far that may be from the case's.

using Results = std::map<std::string, std::pair<List, double>>;

template <class Real>
Results proxes(const Case& c, double e) {
    const double strength = c.number("strength");
    List u;
    double objective = 0;
    for (double x : c.list("x")) {
        u.push_back(prox<Real>(x, strength));
        objective += (u.back() - x) * (u.back() - x) / 2;
        objective += strength * std::abs(std::abs(u.back()) - 1);
    }
    return {{"objective", {{objective}, 64 * e * (1 + strength) * (1 + square(c.list("x")))}},
            {"u", {u, 1e-6 * (1 + largest(c.list("u")))}}};  // one minimiser, but for the tie at 0
}

template <class Real>
Results quantizers(const Case& c, double e) {
    List q;
    double error = 0;
    for (double w : c.list("w")) {
        q.push_back(sign<Real>(w));
        error += (q.back() - w) * (q.back() - w) / 2;
    }
    return {{"q", {q, 0}},
            {"error", {{error}, 64 * e * (c.number("error") + square(c.list("w")))}}};
}

template <class Real>
Results sign_changes(const Case& c, double) {
    const List a = c.list("a"), b = c.list("b");
    double changed = 0;
    for (size_t i = 0; i < a.size(); i++) changed += sign<Real>(a[i]) != sign<Real>(b[i]);
    return {{"changed", {{changed}, 0}}};
}

template <class Real>
Results steps(const Case& c, double e) {
    const bool lazy = c.has("latent"), adam = c.has("t");
    const List A = c.list("A"), point = c.list("point");
    const size_t n = point.size();
    List latent, weights, new_m, new_v;
    for (size_t i = 0; i < n; i++) {
        Real d = -c.list("b")[i];
        for (size_t j = 0; j < n; j++) d += A[i * n + j] * (lazy ? sign<Real>(point[j]) : point[j]);
        if (adam) {
            const double t = c.number("t");
            const Real m = 0.9 * c.list("m")[i] + 0.1 * d;
            const Real v = 0.999 * c.list("v")[i] + 0.001 * d * d;
            d = m / (1 - std::pow(0.9, t)) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
            new_m.push_back(m);
            new_v.push_back(v);
        }
        const Real z = point[i] - c.number("lr") * d;
        latent.push_back(z);
        weights.push_back(lazy ? sign(z) : prox<Real>(z, c.number("strength")));
    }
    Results results = {{"weights", {weights, 1e-6 * (1 + largest(c.list("weights")))}}};
    if (lazy) results["latent"] = {latent, 64 * e * (1 + largest(c.list("latent")))};
    if (adam) results["new_m"] = {new_m, 64 * e * (1 + largest(c.list("new_m")))};
    if (adam) results["new_v"] = {new_v, 64 * e * (1 + largest(c.list("new_v")))};
    return results;
}

int checked = 0, faults = 0;

template <class Real>
void check(const std::vector<Case>& all, Results what(const Case&, double)) {
    for (const Case& c : all) {
        checked++;
        for (const auto& [key, result] : what(c, std::numeric_limits<Real>::epsilon())) {
            const auto& [got, slack] = result;
            const List want = c.list(key);
            size_t i = 0;  // of the first entry that is wrong, as NaN is
            while (i < want.size() && std::abs(got[i] - want[i]) <= slack) i++;
            if (i == want.size()) continue;
            faults++;
            std::cout << c.place << " in float" << 8 * sizeof(Real) << ": " << key << "[" << i
                      << "] is " << got[i] << ", not " << want[i] << "\n";
        }
    }
}

template <class Real>
void check_all(const std::string& folder) {
    check<Real>(cases(folder, "prox.json", "binary_l1"), proxes<Real>);
    check<Real>(cases(folder, "quantizers.json", "binary"), quantizers<Real>);
    check<Real>(cases(folder, "sign_change.json"), sign_changes<Real>);
    check<Real>(cases(folder, "steps.json"), steps<Real>);
}

int main(int argc, char** argv) try {
    const std::string folder = argc > 1 ? argv[1] : "golden";
    check_all<float>(folder);
    check_all<double>(folder);
    std::cout << checked << " checks, " << faults << " faults\n";
    return faults ? 1 : 0;
} catch (const std::exception& error) {
    std::cerr << "the golden vectors cannot be read: " << error.what() << "\n";
    return 2;
}
