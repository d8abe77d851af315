// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.hpp"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>

#include "core/error.hpp"
#include "train/file.hpp"

namespace mahia::train {
namespace {

using Json = nlohmann::ordered_json;

// The lines of a text that end with a line break.
std::vector<std::string_view> whole_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t end = text.find('\n'); end != text.npos; end = text.find('\n')) {
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return lines;
}

// The step of a line, or nothing for a line that is no record.
std::optional<int64_t> step_of(std::string_view line) {
  const Json record = Json::parse(line, nullptr, false);
  if (!record.is_object() || !record.value("step", Json()).is_number_integer()) return {};
  return record["step"].get<int64_t>();
}

// How many bytes of the file belong to steps up to `last_step`.
size_t bytes_until(const std::string& text, int64_t last_step) {
  size_t bytes = 0;
  for (const std::string_view line : whole_lines(text)) {
    const std::optional<int64_t> step = step_of(line);
    if (!step || *step > last_step) break;
    bytes += line.size() + 1;
  }
  return bytes;
}

template <class T>
void put(Json& json, const char* key, const std::optional<T>& value) {
  if (value) json[key] = *value;
}
template <class T>
void get(const Json& json, const char* key, std::optional<T>& value) {
  if (json.contains(key)) value = json[key].get<T>();
}

Json to_json(const LayerRecord& r) {
  Json json = {{"pairs", r.pairs},        {"max_violation", r.max_violation}, {"variation", r.variation},
               {"entropy", r.entropy},    {"dead_experts", r.dead_experts},   {"mean_top1", r.mean_top1},
               {"near_ties", r.near_ties}};
  put(json, "drop_rate", r.drop_rate);
  put(json, "capacity_use", r.capacity_use);
  put(json, "rerouted", r.rerouted);
  put(json, "longest_hop", r.longest_hop);
  put(json, "router_grad_norm", r.router_grad_norm);
  put(json, "aux_to_task", r.aux_to_task);
  return json;
}

LayerRecord to_layer_record(const Json& json) {
  LayerRecord r;
  r.pairs = json.at("pairs").get<std::vector<int64_t>>();
  r.max_violation = json.at("max_violation");
  r.variation = json.at("variation");
  r.entropy = json.at("entropy");
  r.dead_experts = json.at("dead_experts");
  r.mean_top1 = json.at("mean_top1");
  r.near_ties = json.at("near_ties");
  get(json, "drop_rate", r.drop_rate);
  get(json, "capacity_use", r.capacity_use);
  get(json, "rerouted", r.rerouted);
  get(json, "longest_hop", r.longest_hop);
  get(json, "router_grad_norm", r.router_grad_norm);
  get(json, "aux_to_task", r.aux_to_task);
  return r;
}

StepRecord to_step_record(const Json& json) {
  StepRecord record;
  record.step = json.at("step");
  record.loss = json.at("loss");
  record.lr = json.at("lr");
  record.aux_coefficient = json.at("aux_coefficient");
  record.aux_loss = json.at("aux_loss");
  record.grad_norm = json.at("grad_norm");
  record.tokens_per_second = json.at("tokens_per_second");
  if (json.contains("expert_load")) record.expert_load = json["expert_load"].get<decltype(record.expert_load)>();
  for (const Json& layer : json.value("layers", Json::array())) record.layers.push_back(to_layer_record(layer));
  const Json losses = json.value("aux", Json::object());
  for (const auto& [name, aux] : losses.items()) {
    record.aux.push_back({name, aux.at("loss"), aux.at("coefficient"), {}});
    get(aux, "measured", record.aux.back().measured);
  }
  return record;
}

}  // namespace

Metrics read_metrics(const std::string& path) {
  const std::string text = read_file(path);
  Metrics metrics;
  int64_t number = 0;
  for (const std::string_view line : whole_lines(text)) {
    ++number;
    try {
      const Json json = Json::parse(line);
      if (!json.contains("held_out")) {
        metrics.steps.push_back(to_step_record(json));
        continue;
      }
      const Json& point = json["held_out"];
      metrics.held_out.push_back({json.at("step"), point.at("loss"), point.at("bits_per_byte"), point.at("targets")});
    } catch (const Json::exception& error) {
      fail<IoError>(path, ":", number, ": is no record of metrics: ", error.what());
    }
  }
  return metrics;
}

MetricsLog::MetricsLog(const std::string& path, int64_t last_step) : path_(path) {
  const size_t keep = last_step > 0 && std::filesystem::exists(path) ? bytes_until(read_file(path), last_step) : 0;
  file_ = system_calls().open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  check<IoError>(file_ >= 0, path, ": cannot open it: ", std::strerror(errno));
  if (system_calls().ftruncate(file_, static_cast<int64_t>(keep)) == 0) return;
  const int reason = errno;
  system_calls().close(file_);
  fail<IoError>(path, ": cannot shorten it: ", std::strerror(reason));
}

MetricsLog::~MetricsLog() { system_calls().close(file_); }

void MetricsLog::write(const StepRecord& r) {
  Json json = {{"step", r.step},
               {"loss", r.loss},
               {"lr", r.lr},
               {"aux_coefficient", r.aux_coefficient},
               {"aux_loss", r.aux_loss},
               {"grad_norm", r.grad_norm},
               {"tokens_per_second", r.tokens_per_second}};
  if (!r.expert_load.empty()) json["expert_load"] = r.expert_load;
  for (const AuxRecord& aux : r.aux) {
    Json& entry = json["aux"][aux.name] = {{"loss", aux.loss}, {"coefficient", aux.coefficient}};
    put(entry, "measured", aux.measured);
  }
  for (const LayerRecord& layer : r.layers) json["layers"].push_back(to_json(layer));
  write_line(json.dump() + "\n");
}

void MetricsLog::write(const HeldOutRecord& r) {
  const Json point = {{"loss", r.loss}, {"bits_per_byte", r.bits_per_byte}, {"targets", r.targets}};
  write_line(Json{{"step", r.step}, {"held_out", point}}.dump() + "\n");
}

void MetricsLog::write_line(const std::string& line) { write_all(file_, std::as_bytes(std::span(line)), path_); }

void MetricsLog::flush() { flush_file(file_, path_); }

}  // namespace mahia::train
