// SPDX-License-Identifier: Apache-2.0
#include "ops/moe_reroute.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <limits>
#include <numeric>

#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// The rounds in plain words: sets of names, one pair after the other.
Arrays rerouted_of(const Array& indices, const Array& kept, const Array& scores, int64_t capacity,
                   const std::vector<int64_t>& service) {
  const int64_t k = indices.shape[1], experts = scores.shape[1];
  Array serving = indices, hops(indices.shape);
  std::vector<int64_t> taken(static_cast<size_t>(experts)), waiting;
  for (const int64_t pair : service) {
    if (indices[pair] < 0) continue;
    if (kept[pair] != 0) {
      ++taken[static_cast<size_t>(indices[pair])];
    } else {
      serving[pair] = -1;
      waiting.push_back(pair);
    }
  }
  for (int64_t round = 1; !waiting.empty(); ++round) {
    const std::vector<int64_t> before = taken;
    // Each token's waiting pairs, in the order of its choices, ask its open experts, in the order of the scores.
    std::vector<int64_t> asked(indices.values.size(), -1);
    for (int64_t token = 0; token < indices.shape[0]; ++token) {
      std::vector<int64_t> open(static_cast<size_t>(experts)), asking;
      std::iota(open.begin(), open.end(), int64_t{0});
      std::erase_if(open, [&](int64_t e) {
        bool closed = before[static_cast<size_t>(e)] >= capacity ||
                      scores[token * experts + e] == -std::numeric_limits<double>::infinity();
        for (int64_t j = 0; j < k; ++j) closed = closed || static_cast<int64_t>(serving[token * k + j]) == e;
        return closed;
      });
      std::ranges::stable_sort(
          open, [&](int64_t a, int64_t b) { return scores[token * experts + a] > scores[token * experts + b]; });
      for (int64_t pair = token * k; pair < token * k + k; ++pair) {
        if (std::ranges::find(waiting, pair) != waiting.end()) asking.push_back(pair);
      }
      for (size_t i = 0; i < std::min(open.size(), asking.size()); ++i) asked[static_cast<size_t>(asking[i])] = open[i];
    }
    std::erase_if(waiting, [&](int64_t pair) {
      const int64_t e = asked[static_cast<size_t>(pair)];
      if (e < 0) return true;
      if (taken[static_cast<size_t>(e)] >= capacity) return false;
      ++taken[static_cast<size_t>(e)];
      serving[pair] = static_cast<double>(e);
      hops[pair] = static_cast<double>(round);
      return true;
    });
  }
  return {serving, hops};
}

struct Sizes {
  int64_t tokens, k, experts, capacity;
};

// What the op is given, made of random numbers: a[1] (N, E) to choose by, a[2] (N, 1), whether a token is there, a[3]
// (N k), by which pairs are served. The first in that order keep their experts.
struct Operands {
  std::vector<int64_t> indices, service;
  std::vector<double> kept;

  Operands(const Arrays& a, const Sizes& s) : service(static_cast<size_t>(s.tokens * s.k)), kept(service.size()) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      std::vector<int64_t> experts(static_cast<size_t>(s.experts));
      std::iota(experts.begin(), experts.end(), int64_t{0});
      std::ranges::stable_sort(experts,
                               [&](int64_t i, int64_t j) { return a[1][t * s.experts + i] > a[1][t * s.experts + j]; });
      for (int64_t j = 0; j < s.k; ++j) indices.push_back(a[2][t] < -1.5 ? -1 : experts[static_cast<size_t>(j)]);
    }
    std::iota(service.begin(), service.end(), int64_t{0});
    std::ranges::stable_sort(service, [&](int64_t i, int64_t j) { return a[3][i] > a[3][j]; });
    std::vector<int64_t> n(static_cast<size_t>(s.experts));
    for (const int64_t pair : service) {
      const int64_t e = indices[static_cast<size_t>(pair)];
      if (e >= 0 && n[static_cast<size_t>(e)]++ < s.capacity) kept[static_cast<size_t>(pair)] = 1;
    }
  }
};

// Some experts are closed to some tokens.
constexpr double closed_below = -1.7;

OpCase reroute_case(const Sizes& s) {
  const Shape pairs{s.tokens, s.k};
  OpCase c{message(s.tokens, " tokens, ", s.k, " of ", s.experts, ", capacity ", s.capacity),
           {{{s.tokens, s.experts}}, {{s.tokens, s.experts}}, {{s.tokens, 1}}, {{s.tokens * s.k}}},
           {},
           {}};
  c.call = [s, pairs](const Tensors& t) {
    Arrays a;
    for (const Tensor& x : t) a.push_back(to_array(x));
    const Operands o(a, s);
    const Device device = t[0].device();
    const Tensor closed = scalar(-std::numeric_limits<double>::infinity(), t[0].dtype(), device);
    const MoeRerouted y = moe_reroute(
        Tensor::from(o.indices, pairs, device), gt(Tensor::from(o.kept, pairs, device), 0),
        where(lt(t[0], closed_below), closed, t[0]), s.capacity, Tensor::from(o.service, {s.tokens * s.k}, device));
    return Tensors{y.experts, y.hops};
  };
  c.reference = [s, pairs](const Arrays& a) {
    const Operands o(a, s);
    Array scores = a[0], indices(pairs), kept(pairs);
    for (double& x : scores.values) x = x < closed_below ? -std::numeric_limits<double>::infinity() : x;
    indices.values.assign(o.indices.begin(), o.indices.end());
    kept.values = o.kept;
    return rerouted_of(indices, kept, scores, s.capacity, o.service);
  };
  return c;
}

std::vector<OpCase> cases_of(const std::vector<Sizes>& sizes) {
  std::vector<OpCase> list;
  for (const Sizes& s : sizes) list.push_back(reroute_case(s));
  return list;
}

const OpSpec moe_reroute_spec(
    "moe_reroute",
    [] {
      return cases_of({{1, 1, 1, 1},
                       {0, 2, 3, 4},
                       {9, 1, 4, 1},
                       {16, 2, 6, 5},
                       {33, 3, 5, 17},
                       {21, 4, 9, 8},
                       {12, 5, 5, 7},
                       {40, 2, 16, 1}});
    },
    {.dtypes = {DType::f64, DType::f32}, .gradient = false, .device_cases = [] {
       return cases_of({{1025, 1, 64, 8}, {700, 3, 7, 200}, {1000, 8, 33, 200}, {513, 2, 300, 1}, {2049, 1, 2, 1000}});
     }});

BOOST_AUTO_TEST_SUITE(moe_reroute_rules)

BOOST_AUTO_TEST_CASE(a_token_s_waiting_pairs_ask_different_experts_and_later_rounds_count_hops) {
  // Expert 0 has room for one. Token 1 asks 1 and so does token 2, which is served behind it and asks 2 then.
  const Tensor indices = Tensor::from({int64_t{0}, int64_t{0}, int64_t{0}}, {3, 1});
  const Tensor kept = gt(Tensor::from({1.0, 0.0, 0.0}, {3, 1}), 0);
  const Tensor scores = Tensor::from({5.0, 3.0, 1.0, 5.0, 3.0, 1.0, 5.0, 3.0, 1.0}, {3, 3});
  const MoeRerouted one = moe_reroute(indices, kept, scores, 1);
  BOOST_TEST((one.experts.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2}));
  BOOST_TEST((one.hops.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2}));
  // Served from the last: token 2 gets the better one.
  const Tensor backwards = Tensor::from({int64_t{2}, int64_t{1}, int64_t{0}}, {3});
  BOOST_TEST(
      (moe_reroute(indices, kept, scores, 1, backwards).experts.to_vector<int64_t>() == std::vector<int64_t>{0, 2, 1}));
  // One token, both of whose pairs wait: the first asks 3, the second 2; both are served in round one.
  const Tensor two = Tensor::from({int64_t{0}, int64_t{1}}, {1, 2});
  const MoeRerouted both = moe_reroute(two, gt(zeros({1, 2}), 0), Tensor::from({9.0, 8.0, 1.0, 2.0}, {1, 4}), 1);
  BOOST_TEST((both.experts.to_vector<int64_t>() == std::vector<int64_t>{0, 1}));  // they have room after all
  const Tensor full_ones = Tensor::from({int64_t{0}, int64_t{1}, int64_t{0}, int64_t{1}}, {2, 2});
  const MoeRerouted moved = moe_reroute(full_ones, gt(Tensor::from({1.0, 1.0, 0.0, 0.0}, {2, 2}), 0),
                                        Tensor::from({9.0, 8.0, 1.0, 2.0, 9.0, 8.0, 1.0, 2.0}, {2, 4}), 1);
  BOOST_TEST((moved.experts.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 3, 2}));
  BOOST_TEST((moved.hops.to_vector<int64_t>() == std::vector<int64_t>{0, 0, 1, 1}));
}

BOOST_AUTO_TEST_CASE(operands_that_do_not_fit_are_named) {
  const Tensor indices = zeros({3, 2}, DType::i64), kept = zeros({3, 2}, DType::boolean), scores = zeros({3, 4});
  check_throws<DTypeError>([&] { moe_reroute(indices, scores, scores, 1); },
                           "moe_reroute: needs i64 indices, bool kept, f32 or f64 scores and i64 service: indices i64 "
                           "[3, 2] cpu:0, kept f32 [3, 4] cpu:0, scores f32 [3, 4] cpu:0, service undefined");
  check_throws<ShapeError>(
      [&] {
        moe_reroute(indices, kept, zeros({4, 4}), 1);
      },
      "moe_reroute: indices (N, k), kept (N, k), scores (N, E) and service (N k) disagree: "
      "indices i64 [3, 2] cpu:0, kept bool [3, 2] cpu:0, scores f32 [4, 4] cpu:0");
  check_throws<IndexError>([&] { moe_reroute(indices + 4, kept, scores, 1); },
                           "moe_reroute: expert 4 at position 0 is outside [0, 4)");
  check_throws<IndexError>([&] { moe_reroute(indices, kept, scores, 1, full({6}, 6, DType::i64)); },
                           "moe_reroute: index 6 at position 0 is outside [0, 6)");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
