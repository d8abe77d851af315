// SPDX-License-Identifier: Apache-2.0
// Holds the measurable rules of docs/style.md over every source of the checkout. Each rule is a function from one file
// to its problems; it is run over the tree and, so that it cannot pass by being blind, over a planted offence.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <map>
#include <regex>
#include <set>

#include "core/kernel.hpp"
#include "core/runtime.hpp"
#include "tests/support/source_tree.hpp"

using namespace mahia::tests;

namespace {

using Problems = std::vector<std::string>;
using Rule = Problems (*)(const SourceFile&);

std::string at(const SourceFile& file, size_t offset, const std::string& what) {
  return file.path + ":" + std::to_string(line_number(file.text, offset)) + ": " + what;
}

void hold(Rule rule) {
  for (const SourceFile& file : source_files()) {
    for (const std::string& problem : rule(file)) BOOST_ERROR(problem);
  }
  BOOST_TEST(!source_files().empty());
}

size_t offences(Rule rule, const std::string& path, const std::string& text) {
  return rule(parse_source(path, text)).size();
}

bool is_layer(const std::string& folder) {
  return std::set<std::string>{"core", "autograd", "ops", "nn", "train"}.contains(folder);
}

// Installed for users: the headers of the layers and the harness of perf.
bool is_public_header(const SourceFile& file) {
  const bool of_program = file.path.starts_with("train/main_");
  return file.is_header() && !of_program && (is_layer(file.folder) || file.path == "perf/harness.hpp");
}

struct Include {
  std::string target;  // as written
  bool quoted;
  size_t offset;
};

std::vector<Include> includes_of(const SourceFile& file) {
  std::vector<Include> includes;
  for (const std::string_view line : lines_of(file.text)) {
    if (!line.starts_with("#include ")) continue;
    const size_t begin = line.find_first_of("<\""), end = line.find_first_of(">\"", begin + 1);
    includes.push_back({std::string(line.substr(begin + 1, end - begin - 1)), line[begin] == '"',
                        static_cast<size_t>(line.data() - file.text.data())});
  }
  return includes;
}

// What a file may include, as beginnings of paths.
std::vector<std::string> reach_of(const SourceFile& file) {
  if (file.folder == "core") return {"core/"};
  if (file.folder == "autograd") return {"core/", "autograd/"};
  if (file.folder == "ops") return {"core/", "autograd/", "ops/"};
  if (file.folder == "nn") return {"core/", "autograd/", "ops/", "nn/"};
  if (file.folder == "train") return {"core/", "autograd/", "ops/", "nn/", "train/"};
  if (file.folder == "perf") return {"core/", "autograd/", "ops/", "nn/", "train/", "perf/"};
  if (file.folder == "tests") return {"core/", "autograd/", "ops/", "nn/", "train/", "perf/", "tests/"};
  const std::string backend = file.path.substr(0, file.path.find('/', file.path.find('/') + 1) + 1);
  return {"core/", "ops/", "backends/common/", backend};
}

Problems follow_the_arrows(const SourceFile& file) {
  Problems problems;
  if (file.folder == "docs") return problems;
  const std::string own_folder = file.path.substr(0, file.path.rfind('/') + 1);
  for (const Include& include : includes_of(file)) {
    if (!include.quoted) continue;
    const std::string written = is_public_header(file) ? own_folder + include.target : include.target;
    const std::string target = std::filesystem::path(written).lexically_normal().generic_string();
    const auto reaches = [&](const std::string& beginning) { return target.starts_with(beginning); };
    const std::vector<std::string> reach = reach_of(file);
    if (std::ranges::none_of(reach, reaches)) problems.push_back(at(file, include.offset, "may not include " + target));
    const auto exists = [&](const SourceFile& other) { return other.path == target; };
    if (std::ranges::none_of(source_files(), exists)) {
      problems.push_back(
          at(file, include.offset, "public headers include relatively, others from the root; no " + target));
    }
  }
  return problems;
}

Problems keep_public_headers_plain(const SourceFile& file) {
  Problems problems;
  if (!is_public_header(file)) return problems;
  for (const Include& include : includes_of(file)) {
    if (!include.quoted && include.target.find_first_of("./") != std::string::npos) {
      problems.push_back(at(file, include.offset, "a public header needs <" + include.target + ">"));
    }
  }
  for (const char* foreign : {"dnnl::", "tbb::", "fmt::", "nlohmann::", "toml::", "CLI::", "cudaStream_t",
                              "cudaError_t", "cublasHandle_t", "cufftHandle", "__global__"}) {
    const size_t found = file.code.find(foreign);
    if (found != std::string::npos)
      problems.push_back(at(file, found, std::string("a public header mentions ") + foreign));
  }
  return problems;
}

Problems stay_short(const SourceFile& file) {
  const size_t lines = lines_of(file.text).size(), limit = file.is_header() ? 200 : 400;
  if (lines < limit) return {};
  return {file.path + ": " + std::to_string(lines) + " lines; the limit is " + std::to_string(limit)};
}

// Functions are the blocks whose head holds a parameter list and that stand in namespaces or classes. A brace right
// behind a name, as in `member_{1}`, opens no block.
Problems keep_functions_short(const SourceFile& file) {
  Problems problems;
  const std::string_view code = file.code;
  size_t head = 0;
  for (size_t i = 1; i < code.size(); ++i) {
    if (code[i] == ';' || code[i] == '}') head = i + 1;
    if (code[i] != '{') continue;
    const bool is_block = std::isspace(static_cast<unsigned char>(code[i - 1])) != 0;
    const bool is_function = is_block && code.substr(head, i - head).find('(') != code.npos;
    const size_t end = is_block && !is_function ? i + 1 : std::min(matching_close(code, i), code.size());
    const int lines = line_number(code, end) - line_number(code, i) + 1;
    if (is_function && lines >= 60) problems.push_back(at(file, i, std::to_string(lines) + " lines of function"));
    if (is_block) head = end;
    i = end - 1;
  }
  return problems;
}

Problems leave_nothing_undone(const SourceFile& file) {
  Problems problems;
  if (file.path == "tests/architecture_test.cpp") return problems;
  if (!file.text.starts_with("// SPDX-License-Identifier: Apache-2.0\n")) {
    problems.push_back(file.path + ":1: begins with another line than the SPDX one");
  }
  for (const char* word : {"TODO", "FIXME", "XXX", "HACK"}) {
    if (has_word(file.text, word)) problems.push_back(file.path + ": says " + word);
  }
  static const std::regex owning_new("\\bnew [A-Za-z_]"), unordered_sum("\\bparallel_reduce\\b");
  if (std::regex_search(file.code, owning_new))
    problems.push_back(file.path + ": says `new`; own by value or unique_ptr");
  if (std::regex_search(file.code, unordered_sum))
    problems.push_back(file.path + ": parallel_reduce sums in no fixed order");
  if (file.is_header() && file.code.find("using namespace") != std::string::npos) {
    problems.push_back(file.path + ": a header with `using namespace`");
  }
  return problems;
}

// Conditional code only in backends/; macros only the few that style.md names.
Problems keep_the_preprocessor_out(const SourceFile& file) {
  Problems problems;
  for (const std::string_view line : lines_of(file.code)) {
    if (!line.starts_with('#')) continue;
    const std::string_view directive = trim(line.substr(1));
    const bool named = directive.starts_with("define MAHIA_HD") || directive.starts_with("define BOOST_TEST_");
    const bool bad =
        directive.starts_with("if") ? file.folder != "backends" : directive.starts_with("define") && !named;
    if (bad) problems.push_back(at(file, static_cast<size_t>(line.data() - file.code.data()), std::string(line)));
  }
  return problems;
}

bool names_a_tensor(std::string_view before, std::string_view name) {
  for (const char* type : {"Tensor ", "Tensor& ", "Tensors ", "Tensors& "}) {
    const std::string declaration = type + std::string(name);
    if (has_word(before, declaration)) return true;
  }
  return false;
}

// A gradient closure captures `x = save(x)`, shapes and numbers: never by reference, never everything, never a tensor.
Problems capture_only_saved_values(const SourceFile& file) {
  Problems problems;
  if (file.folder != "ops" && file.folder != "nn") return problems;
  const std::string_view code = file.code;
  for (size_t i = code.find("](GradContext&"); i != code.npos; i = code.find("](GradContext&", i + 1)) {
    const size_t open = code.rfind('[', i), function = std::max<size_t>(code.rfind("\n}", open), 0);
    const std::string_view before = code.substr(function == code.npos ? 0 : function, open - function);
    for (const std::string_view capture : split_outside_brackets(code.substr(open + 1, i - open - 1), ',')) {
      const size_t equals = capture.find('=');
      const std::string_view value = equals == capture.npos ? capture : trim(capture.substr(equals + 1));
      const bool everything = capture == "=" || capture == "this" || capture.starts_with('&');
      if (everything || names_a_tensor(before, value)) {
        problems.push_back(at(file, open, "the gradient captures `" + std::string(capture) + "`; use save()"));
      }
    }
  }
  return problems;
}

// Structs of the file that hold a tensor.
std::set<std::string> structs_of_tensors(const SourceFile& file) {
  std::set<std::string> names;
  static const std::regex head("\\bstruct (\\w+) \\{");
  for (std::sregex_iterator i(file.code.begin(), file.code.end(), head), end; i != end; ++i) {
    const size_t open = static_cast<size_t>(i->position() + i->length()) - 1;
    const std::string body = file.code.substr(open, matching_close(file.code, open) - open);
    if (has_word(body, "Tensor") || has_word(body, "Tensors")) names.insert((*i)[1]);
  }
  return names;
}

// A header of ops/ declares an op when it has a kernel slot or a function that returns tensors.
bool declares_an_op(const SourceFile& file) {
  std::set<std::string> results = structs_of_tensors(file);
  results.insert({"Tensor", "Tensors"});
  static const std::regex function("(?:^|\n)(?:inline )?(\\w+) \\w+\\(");
  bool declares = file.code.find("Kernel<void(") != std::string::npos;
  for (std::sregex_iterator i(file.code.begin(), file.code.end(), function), end; i != end; ++i) {
    declares = declares || results.contains((*i)[1]);
  }
  return declares;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(architecture)

BOOST_AUTO_TEST_CASE(includes_follow_the_arrows) {
  hold(follow_the_arrows);
  BOOST_TEST(offences(follow_the_arrows, "core/bad.cpp", "#include \"ops/softmax.hpp\"\n") > 0);
  BOOST_TEST(offences(follow_the_arrows, "backends/cpu/bad.cpp", "#include \"autograd/node.hpp\"\n") > 0);
  BOOST_TEST(offences(follow_the_arrows, "nn/bad.hpp", "#include \"core/tensor.hpp\"\n") > 0);
}

BOOST_AUTO_TEST_CASE(public_headers_mention_no_foreign_type) {
  hold(keep_public_headers_plain);
  BOOST_TEST(offences(keep_public_headers_plain, "core/bad.hpp", "#include <tbb/task_arena.h>\n") == 1);
  BOOST_TEST(offences(keep_public_headers_plain, "core/bad.hpp", "dnnl::memory m; // fmt::\n") == 1);
}

BOOST_AUTO_TEST_CASE(files_and_functions_stay_short) {
  hold(stay_short);
  hold(keep_functions_short);
  BOOST_TEST(offences(stay_short, "core/bad.hpp", std::string(200, '\n')) == 1);
  BOOST_TEST(offences(stay_short, "core/bad.cpp", std::string(399, '\n')) == 0);
  const std::string body(60, '\n');
  BOOST_TEST(offences(keep_functions_short, "core/bad.cpp", "namespace m {\nvoid f(int a) : a_{a} {" + body + "}\n}") ==
             1);
  BOOST_TEST(offences(keep_functions_short, "core/bad.cpp", "struct S {\n" + body + "int f() { return 1; }\n};") == 0);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_undone) {
  hold(leave_nothing_undone);
  BOOST_TEST(offences(leave_nothing_undone, "core/bad.cpp", "int* p = new int; // TODO: free it\n") == 3);
}

BOOST_AUTO_TEST_CASE(the_preprocessor_stays_in_backends) {
  hold(keep_the_preprocessor_out);
  BOOST_TEST(offences(keep_the_preprocessor_out, "nn/bad.cpp", "#ifdef MAHIA_CUDA\n#endif\n#define TWICE(x) x x\n") ==
             2);
}

BOOST_AUTO_TEST_CASE(gradients_capture_only_saved_values) {
  hold(capture_only_saved_values);
  const auto captured = [](const std::string& list) {
    const std::string text =
        "Tensor f(const Tensor& x, int64_t n) {\n  return record(y, {x}, [" + list + "](GradContext& ctx) {});\n}\n";
    return offences(capture_only_saved_values, "ops/bad.cpp", text);
  };
  for (const char* bad : {"x", "&", "=", "&n", "y = x", "n, x"}) BOOST_TEST(captured(bad) == 1, bad);
  for (const char* good : {"", "n", "x = save(x)", "shape = x.shape(), n"}) BOOST_TEST(captured(good) == 0, good);
}

BOOST_AUTO_TEST_CASE(names_say_what_is_inside) {
  const std::set<std::string> empty_words = {"utils", "util", "helpers", "helper", "misc", "common", "detail", "impl"};
  const std::set<std::string> top = {"core", "autograd", "ops", "nn", "backends", "train", "tests", "perf", "docs"};
  for (const std::string& path : source_paths()) {
    const std::filesystem::path name = path;
    const bool allowed = path == "backends/common" || !empty_words.contains(name.stem().string());
    BOOST_TEST(allowed, path << ": a name that says nothing");
    if (name.has_extension() || name.has_parent_path()) continue;
    const bool known = top.contains(path) || path == "dev" || path == "LICENSE";
    BOOST_TEST(known, path << ": the top level is fixed");
  }
}

BOOST_AUTO_TEST_CASE(an_op_has_at_most_four_sources_and_one_spec) {
  // What ops over signals share; their specs run it. (broadcast.hpp returns no tensor.)
  const std::set<std::string> of_several_ops = {"signal"};
  std::map<std::string, std::set<std::string>> sources, specs;
  for (const SourceFile& file : source_files()) {
    const bool is_shared_formula = file.path.starts_with("backends/common/");
    if (file.folder == "ops" || (file.path.starts_with("backends/") && !is_shared_formula))
      sources[file.stem].insert(file.path);
    if (file.path.starts_with("tests/specs/")) specs[file.stem].insert(file.path);
  }
  for (const SourceFile& file : source_files()) {
    if (file.folder != "ops" || !file.is_header()) continue;
    BOOST_TEST(sources[file.stem].size() <= 4u, file.stem << ": more than four source files");
    if (of_several_ops.contains(file.stem) || !declares_an_op(file)) continue;
    BOOST_TEST(specs.contains(file.stem + "_spec"), file.stem << ": no tests/specs/" << file.stem << "_spec.cpp");
  }
  const auto declares = [](const std::string& text) { return declares_an_op(parse_source("ops/new.hpp", text)); };
  BOOST_TEST(declares("namespace mahia {\nTensor f(const Tensor& x);\n}\n"));
  BOOST_TEST(declares("Tensors f(\n    const Tensor& x);\n"));
  BOOST_TEST(declares("struct Pair {\n  Tensor a, b;\n};\nPair f(const Tensor& x);\n"));
  BOOST_TEST(declares("inline constinit Kernel<void(View)> f{\"f\"};\n"));
  BOOST_TEST(!declares("struct Options {\n  int n = 1;\n};\nOptions f(const Tensor& x);\n// Tensor g(int n);\n"));
}

BOOST_AUTO_TEST_CASE(the_readme_shows_the_example_as_it_is) {
  const std::string program = read_source("docs/examples/train_lm/main.cpp"), readme = read_source("README.md");
  const std::string shown = program.substr(program.find('\n') + 1);  // without the licence line
  BOOST_TEST((readme.find("```cpp\n" + shown + "```\n") != std::string::npos));
  BOOST_TEST(std::ranges::count_if(lines_of(shown), [](std::string_view line) { return !line.empty(); }) <= 25);
}

BOOST_AUTO_TEST_CASE(every_slot_is_filled_on_every_built_backend) {
  std::map<std::string, const mahia::KernelBase*> filled;
  for (const mahia::KernelBase* kernel : mahia::all_kernels()) filled[kernel->name()] = kernel;
  std::erase_if(filled, [](const auto& entry) { return entry.first.starts_with("test_"); });  // slots of other tests
  size_t declared = 0;
  for (const SourceFile& file : source_files()) {
    if (!file.is_header() || (file.folder != "ops" && file.folder != "core")) continue;
    const std::string_view code = file.code;
    // A slot is a quoted name in braces inside a constinit declaration, which may hold several.
    for (size_t open = file.text.find('{'); open != code.npos; open = file.text.find('{', open + 1)) {
      const size_t i = file.text.find_first_not_of(" \n", open + 1);
      if (i == code.npos || file.text[i] != '"' || code.find("constinit ", code.rfind(';', i)) > i) continue;
      const std::string name = file.text.substr(i + 1, file.text.find('"', i + 1) - i - 1);
      ++declared;
      for (const mahia::DeviceType device : {mahia::DeviceType::cpu, mahia::DeviceType::cuda}) {
        if (!mahia::has_runtime(device)) continue;
        const bool has = filled.contains(name) && filled[name]->has(device);
        BOOST_TEST(has, name << ": declared in " << file.path << ", not registered for " << mahia::name_of(device));
      }
    }
  }
  BOOST_TEST(declared >= filled.size());
  BOOST_TEST(!filled.empty());
}

BOOST_AUTO_TEST_SUITE_END()
