"""gcc and g++: a large C file and a C++ file full of templates, compiled to the very same object code."""

from .harness import Program

STEPS = ["+", "-", "^", "|", "*"]


def c_source(functions):
    """A C file of many functions with loops, switches and tables, and a main that calls them all."""
    text = ["#include <stdio.h>\n#include <stdint.h>\n"]
    for number in range(functions):
        cases = "".join(
            f"        case {case}: state {STEPS[(case + number) % 5]}= {number * 7 + case + 1}; "
            f"table[state % {5 + case}] += {case}; break;\n"
            for case in range(8 + number % 9)
        )
        text.append(f"""
struct record{number} {{ uint32_t key; double weight[{3 + number % 5}]; struct record{number} *next; }};
static uint32_t function{number}(uint32_t seed, uint32_t *table) {{
    struct record{number} nodes[4] = {{0}};
    uint32_t state = seed + {number};
    for (uint32_t step = 0; step < {10 + number % 7}; step++) {{
        nodes[step % 4].key = state;
        nodes[step % 4].weight[step % {3 + number % 5}] += state * 0.5;
        nodes[step % 4].next = &nodes[(step + 1) % 4];
        switch (state % {8 + number % 9}) {{
{cases}        }}
        state ^= nodes[step % 4].next->key >> 3;
    }}
    return state + (uint32_t)nodes[1].weight[0];
}}
""")
    calls = "".join(f"    sum = sum * 31 + function{number}(sum, table);\n" for number in range(functions))
    text.append("static uint32_t table[64];\nint main(void) {\n    uint32_t sum = 1;\n")
    text.append(calls + '    printf("%u\\n", sum);\n}\n')
    return "".join(text)


def cpp_source(types):
    """A C++ file that puts many types of its own through containers, algorithms, variants and regular expressions."""
    text = [
        "#include <algorithm>\n#include <functional>\n#include <iostream>\n#include <map>\n#include <memory>\n"
        "#include <numeric>\n#include <regex>\n#include <set>\n#include <string>\n#include <tuple>\n"
        "#include <unordered_map>\n#include <variant>\n#include <vector>\n"
        "template <int N> struct Tower { using type = std::tuple<std::vector<int>, typename Tower<N - 1>::type>; };\n"
        "template <> struct Tower<0> { using type = std::string; };\n"
        "template <int N> constexpr int fibonacci() { if constexpr (N < 2) return N; "
        "else return (fibonacci<N - 1>() + fibonacci<N - 2>()) % 10007; }\n"
    ]
    for number in range(types):
        text.append(f"""
struct Item{number} {{
    int key; std::string name; std::vector<double> values{{1.5, {number}.25}};
    bool operator<(const Item{number} &other) const {{ return std::tie(name, key) < std::tie(other.name, other.key); }}
}};
long use{number}(long seed) {{
    std::map<std::string, std::vector<Item{number}>> books;
    std::unordered_map<int, std::unique_ptr<Item{number}>> owners;
    std::set<Item{number}> ordered;
    for (int step = 0; step < 50; step++) {{
        Item{number} item{{step * {number + 3} % 17, "name" + std::to_string((seed + step) % 9)}};
        books[item.name].push_back(item);
        owners[step] = std::make_unique<Item{number}>(item);
        ordered.insert(std::move(item));
    }}
    std::variant<int, std::string, std::vector<Item{number}>> any = books.begin()->second;
    auto size = std::visit([](auto &&value) -> long {{ return sizeof(value); }}, any);
    typename Tower<{6 + number % 6}>::type tower;
    std::get<0>(tower).assign({number + 1}, 2);
    std::function<long(long)> chain = [&](long value) {{ return value + (long)ordered.size(); }};
    std::vector<Item{number}> sorted(ordered.begin(), ordered.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) {{ return a.key < b.key; }});
    auto add = [](long sum, const auto &item) {{ return sum * 7 + item.key; }};
    long sum = chain(std::accumulate(sorted.begin(), sorted.end(), seed, add)) + (size > 0);
    return (sum + fibonacci<{20 + number}>() + (long)owners.size() + std::get<0>(tower)[0]) % 1000003;
}}
""")
    calls = "".join(f"    sum = use{number}(sum);\n" for number in range(types))
    text.append(
        'int main() {\n    long sum = std::regex_search("abcabc", std::regex("(abc)+$"));\n'
        + calls
        + "    std::cout << sum << std::endl;\n}\n"
    )
    return "".join(text)


def work(side):
    """generated C and C++ sources; object code, link-time optimised program and its output compared"""
    (side.work / "large.c").write_text(c_source(functions=side.amount(60, 700)))
    (side.work / "large.cpp").write_text(cpp_source(types=side.amount(2, 12)))
    for compiler, backend in (("gcc", "cc1"), ("g++", "cc1plus")):
        side.serves(side.run([compiler, f"-print-prog-name={backend}"]).decode().strip(), "--version")
    fixed = ["-frandom-seed=7", "-w"]
    results = {}
    jobs = [("large.c", "gcc", ["-O2", "-g"]), ("large.cpp", "g++", [side.amount("-O1", "-O2"), "-std=c++17"])]
    if not side.quick:
        jobs += [("large.c", "gcc", ["-O3", "-g3"]), ("large.cpp", "g++", ["-O0", "-g3", "-std=c++17"])]
    for name, compiler, options in jobs:
        side.run([compiler, *options, *fixed, "-c", name, "-o", "object.o"])
        results[f"{name} {options[0]}"] = (side.work / "object.o").read_bytes()
        side.run([compiler, "object.o", "-o", "program"])
        results[f"{name} {options[0]} output"] = side.run([side.work / "program"])
    side.run(["gcc", "-O2", "-flto=2", *fixed, "large.c", "-o", "program"], timeout=600)
    results["lto"] = (side.work / "program").read_bytes()
    results["lto output"] = side.run([side.work / "program"])
    return results


PROGRAM = Program("compilers", work, needs=["gcc", "g++"], starts=["gcc", "g++", "cc1", "cc1plus", "as", "ld", "lto1"])
