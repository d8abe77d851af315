// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace mahia::train {

class Fields;

// A list of tables, [[KEY]], whose fields have the list's key in front of their names.
struct TableList {
  std::function<void()> clear;
  std::function<size_t()> size;
  std::function<Fields(size_t)> at;  // the fields of one table; at(size()) adds one
};

// One setting of a configuration: where it lives, what it may be.
struct Field {
  std::string key;  // "train.lr.peak"
  std::variant<bool*, int64_t*, double*, std::string*, std::vector<double>*, TableList> target;
  double low = 0, high = 0;          // numbers: the allowed range, both ends included
  std::vector<std::string> choices;  // text: the allowed values; empty: any
};

// A configuration as a table of fields. Reading, overriding, printing and the list of known names all come from it.
class Fields {
 public:
  void flag(std::string key, bool& value) { add({std::move(key), &value, 0, 0, {}}); }
  void integer(std::string key, int64_t& value, int64_t low, int64_t high) {
    add({std::move(key), &value, static_cast<double>(low), static_cast<double>(high), {}});
  }
  void number(std::string key, double& value, double low, double high) { add({std::move(key), &value, low, high, {}}); }
  void numbers(std::string key, std::vector<double>& value, double low, double high) {
    add({std::move(key), &value, low, high, {}});
  }
  void text(std::string key, std::string& value) { add({std::move(key), &value, 0, 0, {}}); }
  void choice(std::string key, std::string& value, std::vector<std::string> choices) {
    add({std::move(key), &value, 0, 0, std::move(choices)});
  }
  // Behind the other fields of its section, as TOML has it.
  void tables(std::string key, TableList list) { add({std::move(key), std::move(list), 0, 0, {}}); }

  // Reads a TOML file into the targets. Throws IoError for a missing file, ValueError naming file, line, key, what is
  // allowed and, for an unknown key, the nearest known one.
  void read_file(const std::string& path);
  // The same from text; `origin` stands for the file's name in messages.
  void read(const std::string& toml, const std::string& origin);
  // Reads `a.b=value` as the command line gives it; value is TOML, or plain text for a text field.
  void set(const std::string& assignment);
  // TOML that reads back to the same values, in the order of the table.
  std::string to_toml() const;
  const std::vector<Field>& all() const { return fields_; }

 private:
  void add(Field field) { fields_.push_back(std::move(field)); }
  std::vector<Field> fields_;
};

// The known word closest to `word` by edit distance.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace mahia::train
