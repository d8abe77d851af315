// SPDX-License-Identifier: Apache-2.0
#include "train/config_model.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "core/error.hpp"

namespace mahia::train {
namespace {

using nn::HyenaActivation;
constexpr std::array<std::pair<const char*, HyenaActivation>, 6> activations = {
    {{"none", HyenaActivation::none},
     {"relu", HyenaActivation::relu},
     {"gelu", HyenaActivation::gelu},
     {"silu", HyenaActivation::silu},
     {"tanh", HyenaActivation::tanh},
     {"sigmoid", HyenaActivation::sigmoid}}};
constexpr std::array<std::pair<const char*, ConvAlgorithm>, 4> algorithms = {{{"automatic", ConvAlgorithm::automatic},
                                                                              {"fft", ConvAlgorithm::fft},
                                                                              {"dyadic", ConvAlgorithm::dyadic},
                                                                              {"direct", ConvAlgorithm::direct}}};
constexpr std::array<std::pair<const char*, nn::ExpertKind>, 3> experts = {
    {{"gelu", nn::ExpertKind::gelu}, {"gelu_erf", nn::ExpertKind::gelu_erf}, {"swiglu", nn::ExpertKind::swiglu}}};
using nn::RouterKind;
constexpr std::array<std::pair<const char*, RouterKind>, 6> routers = {{{"pre_softmax", RouterKind::pre_softmax},
                                                                        {"post_softmax", RouterKind::post_softmax},
                                                                        {"sigmoid", RouterKind::sigmoid},
                                                                        {"sinkhorn", RouterKind::sinkhorn},
                                                                        {"expert_choice", RouterKind::expert_choice},
                                                                        {"hash", RouterKind::hash}}};
constexpr std::array<std::pair<const char*, std::optional<bool>>, 3> renormalizations = {
    {{"default", std::nullopt}, {"yes", true}, {"no", false}}};
using nn::SlotPriority;
constexpr std::array<std::pair<const char*, SlotPriority>, 3> priorities = {
    {{"position", SlotPriority::position},
     {"choice_major", SlotPriority::choice_major},
     {"probability", SlotPriority::probability}}};
using nn::Overflow;
constexpr std::array<std::pair<const char*, Overflow>, 5> overflows = {
    {{"drop", Overflow::drop},
     {"drop_renormalise", Overflow::drop_renormalise},
     {"residual", Overflow::residual},
     {"shared", Overflow::shared},
     {"reroute", Overflow::reroute}}};

template <class Table>
std::vector<std::string> words(const Table& table) {
  std::vector<std::string> names;
  for (const auto& [name, meaning] : table) names.emplace_back(name);
  return names;
}

// What one of the table's words means; Fields has refused all others.
template <class Table>
auto meaning_of(const Table& table, const std::string& word) {
  return std::ranges::find(table, word, &Table::value_type::first)->second;
}

void add_filter(Fields& f, nn::HyenaFilterConfig& c) {
  f.integer("model.filter_embedding", c.embedding, 3, 1025);
  f.integer("model.filter_hidden", c.hidden, 1, 1 << 14);
  f.integer("model.filter_layers", c.inner_layers, 0, 64);
  f.number("model.sine_frequency", c.sine_frequency, 0, 1e4);
  f.flag("model.filter_shared_frequency", c.shared_frequency);
  f.flag("model.filter_train_positions", c.train_positions);
  f.flag("model.filter_window", c.window);
  f.flag("model.filter_train_window", c.train_window);
  f.number("model.filter_shift", c.shift, 0, 1e3);
  f.flag("model.filter_normalized", c.normalized);
  f.flag("model.filter_skip", c.skip);
  f.number("model.filter_dropout", c.dropout, 0, 0.99);
  f.integer("model.filter_extend_to", c.extend_to, 0, int64_t{1} << 30);
}

void add_routing(Fields& f, ModelSettings& c) {
  nn::RouterOptions& r = c.model.routing;
  f.choice("model.routing.renormalize", c.renormalize, words(renormalizations));
  f.flag("model.routing.select_bias", r.select_bias);
  f.integer("model.routing.groups", r.groups, 1, 1 << 14);
  f.integer("model.routing.kept_groups", r.kept_groups, 1, 1 << 14);
  f.number("model.routing.jitter", r.jitter, 0, 0.99);
  f.flag("model.routing.noisy", r.noisy);
  nn::CapacityConfig& capacity = c.model.capacity;
  f.number("model.capacity.train_factor", capacity.train_factor, 0, 1e6);
  f.number("model.capacity.eval_factor", capacity.eval_factor, 0, 1e6);
  f.integer("model.capacity.minimum", capacity.minimum, 0, int64_t{1} << 31);
  f.choice("model.capacity.priority", c.priority, words(priorities));
  f.choice("model.capacity.overflow", c.overflow, words(overflows));
  f.integer("model.capacity.tile", capacity.tile, 0, 1 << 20);
}

void check_routing(const nn::models::HyenaMoeLMConfig& m) {
  check<ValueError>(m.top_k <= m.experts, "model.top_k is ", m.top_k, ", more than the ", m.experts,
                    " of model.experts");
  check<ValueError>(m.router != RouterKind::sinkhorn && m.router != RouterKind::expert_choice, "model.router is `",
                    words(routers)[static_cast<size_t>(m.router)],
                    "`, which a causal model refuses: a token's experts would depend on later tokens");
  const nn::RouterOptions& r = m.routing;
  check<ValueError>(m.experts % r.groups == 0, "model.routing.groups is ", r.groups, ", must divide the ", m.experts,
                    " of model.experts");
  check<ValueError>(r.kept_groups <= r.groups, "model.routing.kept_groups is ", r.kept_groups, ", more than the ",
                    r.groups, " of model.routing.groups");
  const int64_t open = r.kept_groups * (m.experts / r.groups);
  check<ValueError>(m.top_k <= open, "model.top_k is ", m.top_k, ", more than the ", open, " experts in ",
                    r.kept_groups, " kept groups of model.routing");
}

void check_capacity(const nn::CapacityConfig& c) {
  check<ValueError>(c.tile == 0 || c.train_factor == 0,
                    "model.capacity.tile rounds what has no limit: it needs train_factor 0, got ", c.train_factor);
  for (const auto& [name, factor] : {std::pair("train_factor", c.train_factor), {"eval_factor", c.eval_factor}}) {
    check<ValueError>(factor == 0 || factor >= 1e-6, "model.capacity.", name, " is ", factor,
                      ", must be 0 (no limit) or from 1e-6 to 1e6");
  }
  const bool is_limited = c.train_factor > 0 || c.eval_factor > 0,
             is_plain = c.minimum == 0 && c.priority == SlotPriority::position && c.overflow == Overflow::drop;
  check<ValueError>(is_limited || is_plain,
                    "model.capacity: minimum, priority and overflow mean nothing without a train_factor or "
                    "eval_factor");
}

}  // namespace

void add_model(Fields& f, ModelSettings& c) {
  nn::models::HyenaMoeLMConfig& m = c.model;
  f.integer("model.vocab", m.vocab, 1, 1 << 24);
  f.integer("model.width", m.width, 1, 1 << 16);
  f.integer("model.layers", m.layers, 0, 1 << 12);
  f.integer("model.order", m.order, 2, 16);
  f.integer("model.num_heads", m.num_heads, 1, 1 << 16);
  f.integer("model.inner_factor", m.inner_factor, 1, 1 << 10);
  f.integer("model.num_blocks", m.num_blocks, 1, 1 << 20);
  f.integer("model.short_filter", m.short_filter, 0, 1024);
  f.flag("model.outer_mixing", m.outer_mixing);
  f.choice("model.activation", c.activation, words(activations));
  f.choice("model.convolution", c.convolution, words(algorithms));
  add_filter(f, m.filter);
  f.integer("model.experts", m.experts, 1, 1 << 14);
  f.integer("model.top_k", m.top_k, 1, 1 << 14);
  f.integer("model.hidden", m.hidden, 1, 1 << 20);
  f.choice("model.expert", c.expert, words(experts));
  f.choice("model.router", c.router, words(routers));
  f.number("model.z_loss", m.z_loss, 0, 1e3);
  f.number("model.dropout", m.dropout, 0, 0.99);
  f.flag("model.tie_head", m.tie_head);
  f.flag("model.expert_bias", m.expert_bias);
  f.integer("model.shared_experts", m.shared_experts, 0, 1 << 14);
  add_routing(f, c);
}

void finish_model(ModelSettings& c) {
  nn::models::HyenaMoeLMConfig& m = c.model;
  m.activation = meaning_of(activations, c.activation);
  m.algorithm = meaning_of(algorithms, c.convolution);
  m.expert = meaning_of(experts, c.expert);
  m.router = meaning_of(routers, c.router);
  m.renormalize = meaning_of(renormalizations, c.renormalize);
  m.capacity.priority = meaning_of(priorities, c.priority);
  m.capacity.overflow = meaning_of(overflows, c.overflow);
  check<ValueError>(m.width % m.num_heads == 0, "model.num_heads is ", m.num_heads, ", must divide the ", m.width,
                    " of model.width");
  check<ValueError>(m.l_max % m.num_blocks == 0, "model.num_blocks is ", m.num_blocks, ", must divide the ", m.l_max,
                    " of train.sequence_length");
  check<ValueError>(m.filter.extend_to == 0 || m.filter.extend_to >= m.l_max, "model.filter_extend_to is ",
                    m.filter.extend_to, ", less than the ", m.l_max, " of train.sequence_length");
  check<ValueError>(m.filter.embedding % 2 == 1, "model.filter_embedding is ", m.filter.embedding, ", must be odd");
  check_routing(m);
  check_capacity(m.capacity);
}

}  // namespace mahia::train
