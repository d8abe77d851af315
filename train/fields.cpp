// SPDX-License-Identifier: Apache-2.0
#include "train/fields.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <sstream>

#include "core/error.hpp"

namespace mahia::train {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string place(const std::string& origin, const toml::node& node) {
  return fmt::format("{}:{}", origin, static_cast<int64_t>(node.source().begin.line));
}

double number_in_range(const Field& field, const toml::node& node, const std::string& origin, bool whole) {
  const auto value = node.value<double>();
  const bool number = node.is_integer() || (node.is_floating_point() && !whole);
  check<ValueError>(number && value && std::isfinite(*value) && *value >= field.low && *value <= field.high,
                    place(origin, node), ": ", field.key, " must be ", whole ? "a whole number" : "a number", " from ",
                    field.low, " to ", field.high);
  return *value;
}

void read_table(const std::vector<Field>& fields, const toml::table& table, const std::string& prefix,
                const std::string& origin);

// Writes one TOML value into its field.
struct Reader {
  const Field& field;
  const toml::node& node;
  const std::string& origin;

  void operator()(bool* target) const {
    check<ValueError>(node.is_boolean(), place(origin, node), ": ", field.key, " must be true or false");
    *target = *node.value<bool>();
  }
  void operator()(int64_t* target) const { *target = static_cast<int64_t>(number_in_range(field, node, origin, true)); }
  void operator()(double* target) const { *target = number_in_range(field, node, origin, false); }
  void operator()(std::string* target) const {
    check<ValueError>(node.is_string(), place(origin, node), ": ", field.key, " must be a text in quotes");
    const std::string value = *node.value<std::string>();
    const auto& choices = field.choices;
    check<ValueError>(choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end(),
                      place(origin, node), ": ", field.key, " is `", value, "`, must be one of ",
                      fmt::format("{}", fmt::join(choices, ", ")));
    *target = value;
  }
  void operator()(std::vector<double>* target) const {
    check<ValueError>(node.is_array(), place(origin, node), ": ", field.key, " must be a list of numbers");
    std::vector<double> values;
    for (const toml::node& item : *node.as_array()) values.push_back(number_in_range(field, item, origin, false));
    *target = std::move(values);
  }
  void operator()(const TableList& list) const {
    const toml::array* items = node.as_array();
    const bool fits = items != nullptr && std::ranges::all_of(*items, [](const auto& item) { return item.is_table(); });
    check<ValueError>(fits, place(origin, node), ": ", field.key, " must be a list of tables, [[", field.key, "]]");
    list.clear();
    for (size_t i = 0; i < items->size(); ++i)
      read_table(list.at(i).all(), *(*items)[i].as_table(), field.key + ".", origin);
  }
};

struct Printer {
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const double* value) const {
    const std::string digits = fmt::format("{}", *value);  // shortest that reads back
    return digits.find_first_of(".e") == std::string::npos ? digits + ".0" : digits;
  }
  std::string operator()(const std::string* value) const {  // a TOML basic string
    std::string out = "\"";
    for (const char c : *value) {
      if (c == '"' || c == '\\') {
        out += fmt::format("\\{}", c);
      } else if (static_cast<unsigned char>(c) < 0x20) {
        out += fmt::format("\\u{:04x}", static_cast<int>(c));
      } else {
        out += c;
      }
    }
    return out + "\"";
  }
  std::string operator()(const std::vector<double>* value) const {
    std::vector<std::string> items;
    for (const double& v : *value) items.push_back((*this)(&v));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
  std::string operator()(const TableList&) const { return "[]"; }  // to_toml() writes them out
};

void walk(const toml::table& table, const std::string& prefix, auto&& visit) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    if (node.is_table()) {
      walk(*node.as_table(), key + ".", visit);
    } else {
      visit(key, node);
    }
  }
}

void read_table(const std::vector<Field>& fields, const toml::table& table, const std::string& prefix,
                const std::string& origin) {
  walk(table, prefix, [&](const std::string& key, const toml::node& node) {
    const auto field = std::ranges::find(fields, key, &Field::key);
    if (field == fields.end()) {
      std::vector<std::string> known;
      for (const Field& candidate : fields) known.push_back(candidate.key);
      fail<ValueError>(place(origin, node), ": unknown key `", key, "`; did you mean `", nearest(key, known), "`?");
    }
    std::visit(Reader{*field, node, origin}, field->target);
  });
}

// NAME = VALUE below its section's header.
std::string line_of(const Field& field) {
  return fmt::format("{} = {}\n", field.key.substr(field.key.rfind('.') + 1), std::visit(Printer{}, field.target));
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  const auto closer = [&](const std::string& a, const std::string& b) {
    return edit_distance(word, a) < edit_distance(word, b);
  };
  const auto best = std::min_element(known.begin(), known.end(), closer);
  return best == known.end() ? "" : *best;
}

void Fields::read(const std::string& text, const std::string& origin) {
  toml::table table;
  try {
    table = toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    fail<ValueError>(origin, ":", static_cast<int64_t>(error.source().begin.line), ": ", error.description());
  }
  read_table(fields_, table, "", origin);
}

void Fields::read_file(const std::string& path) {
  std::ifstream file(path);
  check<IoError>(file.good(), path, ": cannot open the configuration");
  std::ostringstream text;
  text << file.rdbuf();
  read(text.str(), path);
}

void Fields::set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  check<ValueError>(equals != std::string::npos && equals > 0, "--set ", assignment, ": expected KEY=VALUE");
  const std::string key = assignment.substr(0, equals);
  std::string value = assignment.substr(equals + 1);
  for (const Field& field : fields_) {
    const bool bare = value.empty() || (value.front() != '"' && value.front() != '\'');
    if (field.key == key && std::holds_alternative<std::string*>(field.target) && bare)
      value = Printer{}(static_cast<const std::string*>(&value));
  }
  read(key + " = " + value, "--set " + assignment);
}

std::string Fields::to_toml() const {
  std::string text, section;
  const auto open = [&](const std::string& header) { text += (text.empty() ? "" : "\n") + header + "\n"; };
  for (const Field& field : fields_) {
    if (const TableList* list = std::get_if<TableList>(&field.target)) {
      for (size_t i = 0; i < list->size(); ++i) {
        open("[[" + field.key + "]]");
        const Fields table = list->at(i);
        for (const Field& inner : table.all()) text += line_of(inner);
      }
      section.clear();
      continue;
    }
    const size_t dot = field.key.rfind('.');
    const std::string head = dot == std::string::npos ? "" : field.key.substr(0, dot);
    if (head != section) open("[" + head + "]");
    section = head;
    text += line_of(field);
  }
  return text;
}

}  // namespace mahia::train
