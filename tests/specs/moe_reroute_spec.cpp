// SPDX-License-Identifier: Apache-2.0
#include "ops/moe_reroute.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <limits>
#include <numeric>

#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

struct Sizes {
  int64_t tokens, k, experts, capacity;
};

// What the op is given, made of random numbers: a[1] (N, E) to choose by, a[2] (N, 1), whether a token is there, a[3]
// (N k), by which pairs are served. The first in that order keep their experts.
struct Operands {
  std::vector<int64_t> indices;
  std::vector<size_t> service;
  std::vector<bool> kept;

  Operands(const Arrays& a, const Sizes& s) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      std::vector<int64_t> experts(static_cast<size_t>(s.experts));
      std::iota(experts.begin(), experts.end(), int64_t{0});
      std::ranges::stable_sort(experts,
                               [&](int64_t i, int64_t j) { return a[1][t * s.experts + i] > a[1][t * s.experts + j]; });
      for (int64_t j = 0; j < s.k; ++j) indices.push_back(a[2][t] < -1.5 ? -1 : experts[static_cast<size_t>(j)]);
    }
    service = service_order(a[3].values, s.k, nn::SlotPriority::probability);
    kept = kept_of(indices, service, s.experts, s.capacity);
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
    const MoeRerouted y =
        moe_reroute(Tensor::from(o.indices, pairs, device),
                    gt(Tensor::from(std::vector<float>(o.kept.begin(), o.kept.end()), pairs, device), 0),
                    where(lt(t[0], closed_below), closed, t[0]), s.capacity,
                    Tensor::from(std::vector<int64_t>(o.service.begin(), o.service.end()), {s.tokens * s.k}, device));
    return Tensors{y.experts, y.hops};
  };
  c.reference = [s, pairs](const Arrays& a) {
    const Operands o(a, s);
    std::vector<double> scores = a[0].values;
    for (double& x : scores) x = x < closed_below ? -std::numeric_limits<double>::infinity() : x;
    const PlainRerouted r = rerouted_of(o.indices, o.kept, scores, s.k, s.experts, s.capacity, o.service);
    Array experts(pairs), hops(pairs);
    experts.values.assign(r.experts.begin(), r.experts.end());
    hops.values.assign(r.hops.begin(), r.hops.end());
    return Arrays{experts, hops};
  };
  return c;
}

std::vector<OpCase> cases_of(const std::vector<Sizes>& sizes) {
  std::vector<OpCase> list;
  for (const Sizes& s : sizes) list.push_back(reroute_case(s));
  return list;
}

const OpSpec moe_reroute_spec("moe_reroute",
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
                                 return cases_of({{1025, 1, 64, 8},
                                                  {700, 3, 7, 200},
                                                  {1000, 8, 33, 200},
                                                  {513, 2, 300, 1},
                                                  {2049, 1, 2, 1000},
                                                  {257, 6, 12, 64},
                                                  {31, 2, 128, 3}});
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

BOOST_AUTO_TEST_CASE(ties_go_to_the_lowest_expert_and_the_next_pair_asks_the_other) {
  // Experts 0 and 1 are full; 3 and 4 are equally good, 2 and 5 equally bad.
  const Tensor indices = Tensor::from({int64_t{0}, int64_t{1}, int64_t{0}, int64_t{1}}, {2, 2});
  const Tensor kept = gt(Tensor::from({1.0, 1.0, 0.0, 0.0}, {2, 2}), 0);
  const std::vector<double> row = {9, 8, 1, 2, 2, 1};
  std::vector<double> both = row;
  both.insert(both.end(), row.begin(), row.end());
  const MoeRerouted moved = moe_reroute(indices, kept, Tensor::from(both, {2, 6}), 1);
  BOOST_TEST((moved.experts.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 3, 4}));
  // Three tokens wait: all ask 3; the two that remain ask 4, and the last of them then 2.
  const Tensor same = zeros({4, 1}, DType::i64);
  std::vector<double> four;
  for (int t = 0; t < 4; ++t) four.insert(four.end(), {9, -1, 1, 2, 2, 1});
  const MoeRerouted one =
      moe_reroute(same, gt(Tensor::from({1.0, 0.0, 0.0, 0.0}, {4, 1}), 0), Tensor::from(four, {4, 6}), 1);
  BOOST_TEST((one.experts.to_vector<int64_t>() == std::vector<int64_t>{0, 3, 4, 2}));
  BOOST_TEST((one.hops.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3}));
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
