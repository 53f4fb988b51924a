// Reads the golden vectors from a folder, as SCHEMA.md in it says, and refuses what contradicts it.
// C++17 alone. Its library has neither SHA-256 nor ZIP: checksums are ignored, large.npz not read.

#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

using List = std::vector<double>;

inline void demand(bool fact, const std::string& text) {
    if (!fact) throw std::runtime_error(text);
}

struct Case {
    std::string place;  // "prox.json binary_l1[0]"
    std::map<std::string, double> numbers;
    std::map<std::string, List> lists;  // of a matrix: row by row

    bool has(const std::string& key) const { return numbers.count(key) || lists.count(key); }
    double number(const std::string& key) const {
        demand(numbers.count(key), place + " has no number " + key);
        return numbers.at(key);
    }
    List list(const std::string& key) const {  // or the list of one number
        return lists.count(key) ? lists.at(key) : List{number(key)};
    }
    void check() const {
        const size_t n = lists.empty() ? 0 : lists.rbegin()->second.size();
        for (const auto& [key, list] : lists)
            demand(list.size() == (key == "A" ? n * n : n), place + ": wrong length of " + key);
        for (const char* key : {"x", "strength", "gamma", "w", "g", "s", "A", "b", "point", "lr", "m",
                                "v", "t", "a"})
            for (double x : has(key) ? list(key) : List())
                demand(float(x) == x, place + ": " + key + " is not float32");
    }
};

class Reader {
    std::string file, json;
    size_t at = 0;

    char next() {
        at = json.find_first_not_of(" \t\r\n", at);
        demand(at < json.size(), file + " ends too early");
        return json[at];
    }
    bool take(char c) { return next() == c && ++at; }
    void expect(char c) { demand(take(c), file + " has no " + c + " at " + json.substr(at, 20)); }
    std::string text() {
        expect('"');
        const size_t start = at;
        while (at < json.size() && json[at] != '"') at++;
        expect('"');
        return json.substr(start, at - 1 - start);
    }
    double number() {  // the same in every locale; but from_chars takes inf and nan
        double x = NAN;
        const auto end = std::from_chars(&json[at], json.data() + json.size(), x).ptr;
        demand(std::isfinite(x), file + " has no number at " + json.substr(at, 20));
        at = end - json.data();
        return x;
    }
    void value(const std::string& kind, const std::string& key, bool listed = false) {
        if (take('{')) {
            do {
                const std::string name = text();
                expect(':');
                value(name == "cases" ? key : kind, name);
            } while (take(','));
            expect('}');
        } else if (take('[')) {
            int i = 0;
            do {
                const std::string place = file + " " + kind + "[" + std::to_string(i++) + "]";
                if (next() == '{') all.push_back({place, {}, {}});
                value(kind, key, true);
            } while (take(','));
            expect(']');
        } else if (next() == '"') {
            texts[key] = text();
        } else if (listed) {
            all.back().lists[key].push_back(number());
        } else {
            all.back().numbers[key] = number();
        }
    }

public:
    std::vector<Case> all{1};                  // the first has what stands outside of cases
    std::map<std::string, std::string> texts;  // of the manifest

    Reader(const std::string& folder, const std::string& name) : file(name) {
        std::ifstream stream(folder + "/" + name, std::ios::binary);
        demand(stream.good(), folder + " has no " + name);
        json.assign(std::istreambuf_iterator<char>(stream), {});
        value("", "");
        demand(json.find_first_not_of(" \t\r\n", at) == std::string::npos, name + " goes on");
    }
};

inline std::vector<Case> cases(const std::string& folder, const std::string& file,
                               const std::string& kind = "") {
    Reader manifest(folder, "manifest.json");
    const double version = manifest.all[0].number("version");
    demand(manifest.texts["format"] == "proxquant-np golden vectors", "unknown format");
    demand(version == 1, "version must be 1, got " + std::to_string(version));
    std::vector<Case> found;
    for (const Case& c : Reader(folder, file).all) {
        if (c.place.find(" " + kind + (kind.empty() ? "" : "[")) == std::string::npos) continue;
        c.check();
        found.push_back(c);
    }
    demand(!found.empty(), file + " has no cases of " + kind);
    return found;
}
