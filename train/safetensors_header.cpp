// SPDX-License-Identifier: Apache-2.0
#include "train/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

namespace mahia::train {
namespace {

constexpr std::array<std::pair<std::string_view, DType>, dtype_count> dtype_names = {{{"F64", DType::f64},
                                                                                      {"F32", DType::f32},
                                                                                      {"BF16", DType::bf16},
                                                                                      {"F16", DType::f16},
                                                                                      {"I64", DType::i64},
                                                                                      {"I32", DType::i32},
                                                                                      {"U8", DType::u8},
                                                                                      {"BOOL", DType::boolean}}};

// Characters for the parser that keep account of how far it is.
class Reader {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  Reader(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  Reader& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  bool operator==(const Reader& other) const { return at_ == other.at_; }
  bool operator!=(const Reader& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Takes the events of the JSON parser; whatever does not fit the place throws, so nothing nests deeper than a tensor's
// list of numbers.
class Events : public nlohmann::json_sax<nlohmann::json> {
 public:
  Events(std::string_view json, uint64_t data_bytes, const std::string& path)
      : furthest(json.data()), begin_(json.data()), data_bytes_(data_bytes), path_(path) {}

  bool null() override { refuse("null stands where the format allows none"); }
  bool boolean(bool) override { refuse("a truth value stands where the format allows none"); }
  bool number_integer(int64_t) override { refuse("a negative number"); }
  bool number_float(double, const std::string&) override { refuse("a number that is no integer below 2^64"); }
  bool binary(nlohmann::json::binary_t&) override { refuse("binary data"); }

  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::numbers) refuse("a number stands where the format allows none");
    if (field_ == "shape" && numbers_.size() == max_rank) refuse("a shape of more than ", max_rank, " axes");
    if (field_ == "data_offsets" && numbers_.size() == 2) refuse("data_offsets has more than two numbers");
    if (value > static_cast<uint64_t>(INT64_MAX)) refuse("the number ", std::to_string(value), " is too large");
    numbers_.push_back(value);
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      if (!header.metadata.try_emplace(field_, value).second) refuse("metadata `", field_, "` stands twice");
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") refuse("a text stands where the format allows none");
    const auto known = std::ranges::find(dtype_names, value, &std::pair<std::string_view, DType>::first);
    if (known == dtype_names.end()) {
      refuse("unknown dtype `", value, "`; known: F64, F32, BF16, F16, I64, I32, U8, BOOL");
    }
    entry_.dtype = known->second;
    return true;
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::start:
        place_ = Place::top;
        return true;
      case Place::top:
        place_ = field_ == "__metadata__" ? Place::metadata : Place::tensor;
        if (place_ == Place::metadata && std::exchange(has_metadata_, true)) refuse("__metadata__ stands twice");
        if (place_ == Place::tensor) start_tensor();
        return true;
      default:
        refuse("an object stands where the format allows none");
    }
  }

  bool key(std::string& name) override {
    if (name.size() > max_name_bytes) refuse("a name of ", name.size(), " bytes; at most ", max_name_bytes);
    if (place_ == Place::tensor) {
      const auto known = std::ranges::find(fields, name);
      if (known == fields.end()) refuse("unknown field `", name, "`");
      if (std::exchange(seen_[static_cast<size_t>(known - fields.begin())], true)) refuse(name, " stands twice");
    }
    field_ = name;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::top ? Place::end : Place::top;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") refuse("a list stands where the format allows none");
    place_ = Place::numbers;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    if (field_ == "shape") {
      entry_.shape = {};
      for (const uint64_t n : numbers_) entry_.shape.push_back(static_cast<int64_t>(n));
      return true;
    }
    if (numbers_.size() != 2) refuse("data_offsets has ", numbers_.size(), " numbers instead of two");
    entry_.begin = numbers_[0];
    entry_.end = numbers_[1];
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override {
    refuse("no valid JSON in UTF-8");
  }

  const char* furthest;
  SafetensorsHeader header;

 private:
  enum class Place { start, top, metadata, tensor, numbers, end };
  static constexpr std::array<std::string_view, 3> fields = {"dtype", "shape", "data_offsets"};

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    const bool in_tensor = place_ == Place::tensor || place_ == Place::numbers;
    fail<IoError>(path_, ": ", in_tensor ? "tensor `" + entry_.name + "`: " : "", message(parts...), ", at byte ",
                  8 + (furthest - begin_));
  }

  void start_tensor() {
    entry_ = {};
    entry_.name = field_;
    seen_ = {};
    if (header.tensors.size() == max_tensors) refuse("more than ", max_tensors, " tensors");
    if (!names_.insert(field_).second) refuse("the name stands twice");
  }

  void finish_tensor() {
    for (size_t i = 0; i < fields.size(); ++i) {
      if (!seen_[i]) refuse("has no ", fields[i]);
    }
    // Empty axes count as one, so that no stride of the shape can overflow either.
    int64_t bytes = static_cast<int64_t>(size_of(entry_.dtype));
    bool empty = false;
    for (const int64_t n : entry_.shape) {
      empty = empty || n == 0;
      if (__builtin_mul_overflow(bytes, std::max<int64_t>(n, 1), &bytes)) refuse("a shape of more than 2^63 bytes");
    }
    if (empty) bytes = 0;
    if (entry_.begin > entry_.end || entry_.end > data_bytes_) {
      refuse("data_offsets [", entry_.begin, ", ", entry_.end, "] leave the ", data_bytes_, " bytes of values");
    }
    if (entry_.end - entry_.begin != static_cast<uint64_t>(bytes)) {
      refuse(entry_.dtype, " ", entry_.shape, " needs ", bytes, " bytes, data_offsets give ",
             entry_.end - entry_.begin);
    }
    header.tensors.push_back(entry_);
  }

  const char* begin_;
  uint64_t data_bytes_;
  const std::string& path_;
  Place place_ = Place::start;
  std::string field_;
  SafetensorsEntry entry_;
  std::array<bool, 3> seen_{};
  std::vector<uint64_t> numbers_;
  std::unordered_set<std::string> names_;
  bool has_metadata_ = false;
};

// Every byte of the values belongs to exactly one tensor.
void check_cover(const SafetensorsHeader& header, uint64_t header_bytes, uint64_t data_bytes, const std::string& path) {
  uint64_t next = 0;
  const auto at = [&](uint64_t offset) { return 8 + header_bytes + offset; };
  for (const SafetensorsEntry& e : header.tensors) {
    check<IoError>(e.begin == next, path, ": tensor `", e.name, "`: ", e.begin < next ? "overlaps" : "leaves a hole to",
                   " the one before it, at byte ", at(e.begin));
    next = e.end;
  }
  check<IoError>(next == data_bytes, path, ": the last tensor ends at byte ", at(next), ", the file at byte ",
                 at(data_bytes));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes, const std::string& path) {
  Events events(json, data_bytes, path);
  const char* end = json.data() + json.size();
  nlohmann::json::sax_parse(Reader(json.data(), &events.furthest), Reader(end, &events.furthest), &events);
  std::ranges::sort(events.header.tensors, {}, [](const SafetensorsEntry& e) { return std::pair(e.begin, e.end); });
  check_cover(events.header, json.size(), data_bytes, path);
  return std::move(events.header);
}

std::string write_safetensors_header(const SafetensorsHeader& header) {
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string json = "{";
  const auto separate = [&] {
    if (json.back() != '{') json += ',';
  };
  if (!header.metadata.empty()) json += "\"__metadata__\":" + nlohmann::json(header.metadata).dump();
  for (const SafetensorsEntry& e : header.tensors) {
    const auto name = std::ranges::find(dtype_names, e.dtype, &std::pair<std::string_view, DType>::second)->first;
    separate();
    json += message(quoted(e.name), ":{\"dtype\":\"", name, "\",\"shape\":[");
    for (int axis = 0; axis < e.shape.rank(); ++axis) json += (axis > 0 ? "," : "") + std::to_string(e.shape[axis]);
    json += message("],\"data_offsets\":[", e.begin, ",", e.end, "]}");
  }
  return json + "}";
}

}  // namespace mahia::train
