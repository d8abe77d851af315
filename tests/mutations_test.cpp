// SPDX-License-Identifier: Apache-2.0
// Holds the lists of faults in tests/mutations against the sources, so that they cannot rot: tests/mutations/run plants
// the faults, which takes far longer.
#include <boost/test/tree/traverse.hpp>
#include <boost/test/tree/visitor.hpp>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/support/source_tree.hpp"

namespace mahia::tests {
namespace {

struct Fault {
  std::string name, file, text, with, test;
};

// The blocks of five lines; a line that belongs to none becomes a fault with no name.
std::vector<Fault> faults_of(std::string_view list) {
  std::vector<Fault> faults;
  for (const std::string_view line : lines_of(list)) {
    if (line.empty() || line.starts_with('#')) continue;
    const size_t colon = line.find(": ");
    const std::string_view key = line.substr(0, colon);
    if (key == "fault" || faults.empty()) faults.emplace_back();
    Fault& f = faults.back();
    std::string* part = nullptr;
    for (const auto& [name, field] :
         {std::pair{"fault", &f.name}, {"file", &f.file}, {"text", &f.text}, {"with", &f.with}, {"test", &f.test}}) {
      if (key == name && field->empty()) part = field;
    }
    if (part != nullptr && colon != line.npos) {
      *part = line.substr(colon + 2);
    } else {
      faults.emplace_back();
    }
  }
  return faults;
}

size_t occurrences(std::string_view code, std::string_view text) {
  size_t n = 0;
  for (size_t i = code.find(text); i != code.npos; i = code.find(text, i + text.size())) ++n;
  return n;
}

class TestNames : public boost::unit_test::test_tree_visitor {
 public:
  std::set<std::string> all;
  void visit(const boost::unit_test::test_case& test) override { all.insert(test.full_name()); }
};

const std::set<std::string>& test_names() {
  static const std::set<std::string> names = [] {
    TestNames found;
    boost::unit_test::traverse_test_tree(boost::unit_test::framework::master_test_suite(), found, true);
    return found.all;
  }();
  return names;
}

// What keeps a fault from being planted and caught; empty: nothing.
std::string wrong_with(const Fault& f) {
  if (f.name.empty() || f.file.empty() || f.text.empty() || f.with.empty() || f.test.empty()) return "is incomplete";
  const auto begins = [&](const char* folder) { return f.file.starts_with(folder); };
  // The runner builds the library alone.
  const bool compiled_into_the_library =
      begins("backends/") ||
      ((begins("nn/") || begins("ops/") || begins("train/") || begins("autograd/")) && f.file.ends_with(".cpp"));
  if (!compiled_into_the_library) return f.file + " is not of the library alone";
  const size_t times = occurrences(read_source(f.file), f.text);
  if (times != 1) return "`" + f.text + "` occurs " + std::to_string(times) + " times in " + f.file;
  if (f.with == f.text) return "changes nothing";
  if (!test_names().contains(f.test)) return "there is no test " + f.test;
  return "";
}

std::vector<std::string> problems_of(std::string_view list) {
  std::vector<std::string> problems;
  for (const Fault& f : faults_of(list)) {
    if (const std::string problem = wrong_with(f); !problem.empty()) problems.push_back(f.name + ": " + problem);
  }
  return problems;
}

BOOST_AUTO_TEST_SUITE(mutations)

BOOST_AUTO_TEST_CASE(every_listed_fault_can_still_be_planted) {
  size_t faults = 0;
  std::set<std::string> names;
  for (const std::string& path : source_paths()) {
    if (!path.starts_with("tests/mutations/") || !path.ends_with(".txt")) continue;
    const std::string list = read_source(path);
    for (const std::string& problem : problems_of(list)) BOOST_ERROR(path << ": " << problem);
    for (const Fault& f : faults_of(list)) BOOST_TEST(names.insert(f.name).second, f.name << ": listed twice");
    faults += faults_of(list).size();
  }
  BOOST_TEST(faults >= 25u);
}

BOOST_AUTO_TEST_CASE(a_fault_that_cannot_be_planted_is_named) {
  const std::string good =
      "# a comment\n\nfault: a\nfile: nn/capacity.cpp\ntext: namespace mahia::nn {\nwith: namespace mahia {\n"
      "test: mutations/a_fault_that_cannot_be_planted_is_named\n";
  BOOST_TEST(problems_of(good).empty());
  const auto with = [&](const std::string& text, const std::string& other) {
    std::string changed = good;
    changed.replace(changed.find(text), text.size(), other);
    const std::vector<std::string> problems = problems_of(changed);
    return problems.empty() ? std::string() : problems.front();
  };
  BOOST_TEST(with("text: namespace mahia::nn {", "text: no such text") ==
             "a: `no such text` occurs 0 times in nn/capacity.cpp");
  BOOST_TEST(with("text: namespace mahia::nn {", "text: int64_t").find("` occurs ") != std::string::npos);
  BOOST_TEST(with("with: namespace mahia {", "with: namespace mahia::nn {") == "a: changes nothing");
  BOOST_TEST(with("is_named", "is_unnamed") ==
             "a: there is no test mutations/a_fault_that_cannot_be_planted_is_unnamed");
  BOOST_TEST(with("nn/capacity.cpp", "nn/capacity.hpp") == "a: nn/capacity.hpp is not of the library alone");
  BOOST_TEST(with("with: namespace mahia {\n", "") == "a: is incomplete");
  BOOST_TEST(with("with: ", "whit: ") == "a: is incomplete");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
