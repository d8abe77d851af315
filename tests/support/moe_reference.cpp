// SPDX-License-Identifier: Apache-2.0
#include "tests/support/moe_reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mahia::tests {

using nn::Overflow;
using nn::RouterKind;
using nn::SlotPriority;

State::State(const nn::Module& module) {
  for (const auto& [name, tensor] : module.state_dict()) values[name] = to_array(tensor);
}

double State::at(const std::string& name, int64_t e, int64_t r, int64_t c) const {
  const auto found = values.find(name);
  if (found == values.end()) return 0;
  const Shape& s = found->second.shape;
  return found->second[s.rank() == 3 ? (e * s[1] + r) * s[2] + c : s.rank() == 2 ? e * s[1] + r : e];
}

namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

// 0, 1, ..., n - 1 sorted by falling value, ties as they are.
std::vector<int64_t> falling(const std::vector<double>& values) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return values[at(a)] > values[at(b)]; });
  return order;
}

// y of expert e of the stack `name` for one token.
std::vector<double> expert_of(const State& s, const std::string& name, const nn::MoeConfig& c, int64_t e,
                              const double* x) {
  std::vector<double> y(at(c.width));
  for (int64_t h = 0; h < c.hidden; ++h) {
    double up = s.at(name + ".b_up", e, h), gate = s.at(name + ".b_gate", e, h);
    for (int64_t d = 0; d < c.width; ++d) {
      up += s.at(name + ".w_up", e, h, d) * x[d];
      gate += s.at(name + ".w_gate", e, h, d) * x[d];
    }
    const double tanh_form = 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (up + 0.044715 * up * up * up)));
    const double value = c.expert == nn::ExpertKind::swiglu ? gate / (1 + std::exp(-gate)) * up
                         : c.expert == nn::ExpertKind::gelu ? up * tanh_form
                                                            : up * 0.5 * std::erfc(-up / std::sqrt(2));
    for (int64_t d = 0; d < c.width; ++d) y[at(d)] += s.at(name + ".w_down", e, d, h) * value;
  }
  for (int64_t d = 0; d < c.width; ++d) y[at(d)] += s.at(name + ".b_down", e, d);
  return y;
}

// What a reference is made of, step by step.
struct Layer {
  const State& state;
  const MoeCase& c;
  const Array& x;
  int64_t experts, tokens, k;
  std::vector<double> p, values, scores;      // (N, E)
  std::vector<int64_t> chosen;                // (N, k), -1 for padding
  std::vector<std::vector<int64_t>> serving;  // by token: the experts that serve it
  std::vector<std::vector<double>> weights;   // beside them
  std::vector<double> lost;                   // by token: the weight of its lost pairs
  MoeReference out;

  Layer(const State& s, const MoeCase& given, const Array& rows)
      : state(s),
        c(given),
        x(rows),
        experts(c.config.num_experts),
        tokens(rows.size() / c.config.width),
        k(std::min(c.config.top_k, experts)),
        serving(at(tokens)),
        weights(at(tokens)),
        lost(at(tokens)) {
    out.y = Array(x.shape);
    out.counts.resize(at(experts));
    out.kept.resize(at(experts));
  }

  bool is_valid(int64_t t) const { return c.valid.empty() || c.valid[at(t)]; }
  bool is(RouterKind kind) const { return c.config.router == kind; }
  bool divides() const {
    const bool by_default = k > 1 && !is(RouterKind::expert_choice);
    return c.config.renormalize.value_or(by_default) || is(RouterKind::post_softmax);
  }

  void route() {
    double there = 0;
    std::vector<double> mean_p(at(experts));
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<double> z(at(experts));
      double total = 0;
      for (int64_t e = 0; e < experts; ++e) {
        for (int64_t d = 0; d < c.config.width; ++d)
          z[at(e)] += state.at("router.weight", e, d) * x[t * c.config.width + d];
        total += std::exp(z[at(e)]);
      }
      for (int64_t e = 0; e < experts; ++e) {
        p.push_back(std::exp(z[at(e)]) / total);
        values.push_back(is(RouterKind::hash) ? 1 : is(RouterKind::sigmoid) ? 1 / (1 + std::exp(-z[at(e)])) : p.back());
        scores.push_back(values.back() + state.at("router.select_bias", e));
        if (is_valid(t)) mean_p[at(e)] += p.back();
      }
      if (is_valid(t)) out.z_loss += std::log(total) * std::log(total);
      there += is_valid(t) ? 1 : 0;
    }
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<int64_t> order = falling({scores.begin() + t * experts, scores.begin() + (t + 1) * experts});
      for (int64_t j = 0; j < k; ++j) {
        const int64_t e = c.chosen.empty() ? order[at(j)] : c.chosen[at(t * k + j)];
        chosen.push_back(is_valid(t) ? e : -1);
        if (is_valid(t)) ++out.counts[at(e)];
      }
    }
    if (there == 0) return;
    out.z_loss /= there;
    for (int64_t e = 0; e < experts; ++e) {
      const double share = mean_p[at(e)] / there, n = static_cast<double>(out.counts[at(e)]);
      out.switch_loss += static_cast<double>(experts) * n / (static_cast<double>(k) * there) * share;
      out.variance += std::pow(share - 1 / static_cast<double>(experts), 2);
    }
  }

  // Weights made of the experts that serve a token.
  void weigh_again() {
    for (int64_t t = 0; t < tokens; ++t) {
      double total = 0;
      for (const int64_t e : serving[at(t)]) total += values[at(t * experts + e)];
      for (const int64_t e : serving[at(t)]) {
        weights[at(t)].push_back(values[at(t * experts + e)] / (divides() ? total : 1));
      }
    }
  }

  double weight_of(int64_t t, int64_t j) const {
    double total = 0;
    for (int64_t i = 0; i < k; ++i) total += values[at(t * experts + chosen[at(t * k + i)])];
    return values[at(t * experts + chosen[at(t * k + j)])] / (divides() ? total : 1);
  }

  void serve_within_capacity() {
    std::vector<double> asked(chosen.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
      const int64_t t = static_cast<int64_t>(i) / k;
      if (chosen[i] >= 0) asked[i] = values[at(t * experts + chosen[i])];
    }
    const Overflow overflow = c.config.capacity.overflow;
    const int64_t capacity = c.capacity > 0 ? c.capacity : tokens * k;
    const std::vector<size_t> order = service_order(asked, k, c.config.capacity.priority);
    const std::vector<bool> kept = kept_of(chosen, order, experts, capacity);
    if (overflow == Overflow::reroute) return reroute(kept, order, capacity);
    for (int64_t t = 0; t < tokens; ++t) {
      double whole = 0, served = 0;
      for (int64_t j = 0; is_valid(t) && j < k; ++j) {
        whole += weight_of(t, j);
        served += kept[at(t * k + j)] ? weight_of(t, j) : 0;
      }
      const bool shares = overflow == Overflow::drop_renormalise && k > 1;
      for (int64_t j = 0; is_valid(t) && j < k; ++j) {
        if (!kept[at(t * k + j)]) {
          lost[at(t)] += weight_of(t, j);
          ++(overflow == Overflow::shared     ? out.tally.shared
             : overflow == Overflow::residual ? out.tally.residual
                                              : out.tally.dropped);
          continue;
        }
        serving[at(t)].push_back(chosen[at(t * k + j)]);
        weights[at(t)].push_back(weight_of(t, j) * (shares ? whole / served : 1));
      }
    }
  }

  void reroute(const std::vector<bool>& kept, const std::vector<size_t>& order, int64_t capacity) {
    const PlainRerouted r = rerouted_of(chosen, kept, scores, k, experts, capacity, order);
    for (int64_t i = 0; i < tokens * k; ++i) {
      if (chosen[at(i)] < 0) continue;
      out.tally.rerouted += r.hops[at(i)] > 0 ? 1 : 0;
      out.tally.longest_hop = std::max(out.tally.longest_hop, r.hops[at(i)]);
      if (r.experts[at(i)] < 0) {
        ++out.tally.without_room;
      } else {
        serving[at(i / k)].push_back(r.experts[at(i)]);
      }
    }
    weigh_again();
  }

  void round_to_tiles() {
    const int64_t tile = c.config.capacity.tile;
    for (int64_t e = 0; e < experts; ++e) {
      std::vector<double> own, other;
      std::vector<int64_t> own_tokens, other_tokens;
      for (int64_t t = 0; t < tokens; ++t) {
        if (!is_valid(t)) continue;
        const bool is_own =
            std::find(chosen.begin() + t * k, chosen.begin() + (t + 1) * k, e) != chosen.begin() + (t + 1) * k;
        (is_own ? own : other).push_back(values[at(t * experts + e)]);
        (is_own ? own_tokens : other_tokens).push_back(t);
      }
      const auto n = static_cast<int64_t>(own.size()), over = n % tile;
      const int64_t wanted = 2 * over >= tile ? n - over + tile : n - over;
      const std::vector<int64_t> best_own = falling(own), best_other = falling(other);
      for (int64_t i = 0; i < std::min(wanted, n); ++i) serving[at(own_tokens[at(best_own[at(i)])])].push_back(e);
      const int64_t more = std::min<int64_t>(wanted - n, std::ssize(other));
      for (int64_t i = 0; i < more; ++i) serving[at(other_tokens[at(best_other[at(i)])])].push_back(e);
      out.tally.dropped += std::max<int64_t>(n - wanted, 0);
      out.tally.added += std::max<int64_t>(more, 0);
    }
    weigh_again();
  }

  // Each expert takes the tokens of the highest p.
  void serve_by_experts() {
    out.counts.assign(at(experts), 0);
    for (int64_t e = 0; e < experts; ++e) {
      std::vector<double> wanted(at(tokens));
      for (int64_t t = 0; t < tokens; ++t) wanted[at(t)] = is_valid(t) ? p[at(t * experts + e)] : -1;
      for (const int64_t t : falling(wanted)) {
        if (out.counts[at(e)] == c.capacity || !is_valid(t)) break;
        serving[at(t)].push_back(e);
        ++out.counts[at(e)];
      }
    }
    weigh_again();
  }

  void sum_up() {
    const int64_t width = c.config.width;
    for (int64_t t = 0; t < tokens; ++t) {
      const double* row = &x.values[at(t * width)];
      const auto add = [&](double weight, const std::vector<double>& y) {
        for (int64_t d = 0; d < width; ++d) out.y[t * width + d] += weight * y[at(d)];
      };
      for (size_t i = 0; i < serving[at(t)].size(); ++i) {
        ++out.kept[at(serving[at(t)][i])];
        add(weights[at(t)][i], expert_of(state, "experts", c.config, serving[at(t)][i], row));
      }
      if (lost[at(t)] == 0) continue;
      if (c.config.capacity.overflow == Overflow::residual) add(lost[at(t)], {row, row + width});
      if (c.config.capacity.overflow == Overflow::shared) {
        add(lost[at(t)], expert_of(state, "overflow", c.config, 0, row));
      }
    }
    out.tally.routed = std::accumulate(out.counts.begin(), out.counts.end(), int64_t{0});
    out.tally.kept = std::accumulate(out.kept.begin(), out.kept.end(), int64_t{0});
  }
};

}  // namespace

MoeReference moe_reference(const State& state, const MoeCase& c, const Array& x) {
  Layer layer(state, c, x);
  layer.route();
  if (c.config.capacity.tile > 0 && c.training) {
    layer.round_to_tiles();
  } else if (c.config.router == RouterKind::expert_choice) {
    layer.serve_by_experts();
  } else {
    layer.serve_within_capacity();
  }
  layer.sum_up();
  return layer.out;
}

std::vector<size_t> service_order(const std::vector<double>& scores, int64_t k, SlotPriority priority) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto choices = static_cast<size_t>(k);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    if (priority == SlotPriority::choice_major) return a % choices < b % choices;
    return priority == SlotPriority::probability && scores[a] > scores[b];
  });
  return order;
}

std::vector<bool> kept_of(const std::vector<int64_t>& experts, const std::vector<size_t>& order, int64_t num_experts,
                          int64_t capacity) {
  std::vector<int64_t> taken(at(num_experts));
  std::vector<bool> kept(experts.size());
  for (const size_t pair : order) {
    if (experts[pair] < 0) continue;
    int64_t& n = taken[at(experts[pair])];
    kept[pair] = n < capacity;
    n += kept[pair] ? 1 : 0;
  }
  return kept;
}

namespace {

// Whom each waiting pair asks when the experts have taken so many: the token's waiting pairs, in the order of its
// choices, its open experts, in the order of the scores.
std::vector<int64_t> requests_of(const std::vector<int64_t>& serving, const std::vector<size_t>& waiting,
                                 const std::vector<int64_t>& taken, const std::vector<double>& scores, int64_t k,
                                 int64_t capacity) {
  const int64_t experts = std::ssize(taken);
  std::vector<int64_t> asked(serving.size(), -1);
  for (int64_t t = 0; t < std::ssize(serving) / k; ++t) {
    std::vector<int64_t> open;
    for (const int64_t e : falling({scores.begin() + t * experts, scores.begin() + (t + 1) * experts})) {
      const auto own = serving.begin() + t * k;
      const bool is_closed = taken[at(e)] >= capacity || std::isinf(scores[at(t * experts + e)]);
      if (!is_closed && std::find(own, own + k, e) == own + k) open.push_back(e);
    }
    size_t next = 0;
    for (int64_t pair = t * k; pair < t * k + k; ++pair) {
      const bool asks = std::ranges::find(waiting, at(pair)) != waiting.end();
      if (asks && next < open.size()) asked[at(pair)] = open[next++];
    }
  }
  return asked;
}

}  // namespace

PlainRerouted rerouted_of(const std::vector<int64_t>& experts, const std::vector<bool>& kept,
                          const std::vector<double>& scores, int64_t k, int64_t num_experts, int64_t capacity,
                          const std::vector<size_t>& order) {
  PlainRerouted r{experts, std::vector<int64_t>(experts.size())};
  std::vector<int64_t> taken(at(num_experts));
  std::vector<size_t> waiting;
  for (const size_t pair : order) {
    if (experts[pair] < 0) continue;
    if (kept[pair]) {
      ++taken[at(experts[pair])];
    } else {
      r.experts[pair] = -1;
      waiting.push_back(pair);
    }
  }
  for (int64_t round = 1; !waiting.empty(); ++round) {
    const std::vector<int64_t> asked = requests_of(r.experts, waiting, taken, scores, k, capacity);
    std::erase_if(waiting, [&](size_t pair) {
      if (asked[pair] < 0) return true;
      if (taken[at(asked[pair])] >= capacity) return false;
      ++taken[at(asked[pair])];
      r.experts[pair] = asked[pair];
      r.hops[pair] = round;
      return true;
    });
  }
  return r;
}

}  // namespace mahia::tests
