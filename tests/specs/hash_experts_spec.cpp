// SPDX-License-Identifier: Apache-2.0
#include "ops/hash_experts.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

struct Sizes {
  int64_t ids, k, experts;
};

OpCase hash_case(const Sizes& s) {
  return {message(s.ids, " ids, ", s.k, " of ", s.experts),
          {indices({s.ids}, 60000), indices({1}, int64_t{1} << 50)},
          [s](const Tensors& t) { return Tensors{hash_experts(t[0], t[1], s.k, s.experts)}; },
          [s](const Arrays& a) {
            Array y({s.ids, s.k});
            for (int64_t i = 0; i < s.ids; ++i) {
              std::vector<int64_t> distinct;
              for (uint16_t call = 0; std::ssize(distinct) < s.k; ++call) {
                for (const uint32_t word :
                     random_words({static_cast<uint64_t>(a[1][0]), call, 0}, static_cast<uint64_t>(a[0][i]))) {
                  const int64_t e = word % s.experts;
                  if (std::ranges::find(distinct, e) == distinct.end()) distinct.push_back(e);
                }
              }
              for (int64_t j = 0; j < s.k; ++j) y[i * s.k + j] = static_cast<double>(distinct[static_cast<size_t>(j)]);
            }
            return Arrays{y};
          }};
}

std::vector<OpCase> cases_of(const std::vector<Sizes>& sizes) {
  std::vector<OpCase> list;
  for (const Sizes& s : sizes) list.push_back(hash_case(s));
  return list;
}

const OpSpec hash_experts_spec(
    "hash_experts",
    [] {
      return cases_of({{1, 1, 1}, {0, 2, 4}, {33, 1, 8}, {17, 3, 3}, {300, 2, 7}, {5, 9, 64}, {9, 40, 40}});
    },
    {.dtypes = {DType::i64}, .gradient = false, .device_cases = [] {
       return cases_of({{127, 1, 2},
                        {128, 2, 5},
                        {129, 3, 64},
                        {4097, 1, 1000},
                        {1000, 8, 9},
                        {65, 64, 64},
                        {20000, 2, 8},
                        {1, 16, 100}});
     }});

BOOST_AUTO_TEST_SUITE(hash_experts_rules)

BOOST_AUTO_TEST_CASE(an_id_keeps_its_experts_and_ids_spread_evenly) {
  const Tensor key = Tensor::from({int64_t{12345}}, {1}), ids = arange(4000);
  const std::vector<int64_t> experts = hash_experts(ids, key, 2, 8).to_vector<int64_t>();
  std::vector<int64_t> n(8);
  for (const int64_t e : experts) ++n[static_cast<size_t>(e)];
  for (const int64_t each : n) BOOST_TEST(std::abs(static_cast<double>(each) - 1000) < 150);
  const Tensor same = Tensor::from({int64_t{7}, int64_t{7}, int64_t{-1}}, {3});
  const std::vector<int64_t> twice = hash_experts(same, key, 2, 8).to_vector<int64_t>();
  BOOST_TEST(twice[0] == experts[14]);
  BOOST_TEST(twice[1] == experts[15]);
  BOOST_TEST(twice[2] == twice[0]);
  BOOST_TEST((hash_experts(ids, key + 1.0, 2, 8).to_vector<int64_t>() != experts));
}

BOOST_AUTO_TEST_CASE(operands_that_do_not_fit_are_named) {
  const Tensor ids = arange(3), key = zeros({1}, DType::i64);
  check_throws<DTypeError>([&] { hash_experts(zeros({3}), key, 1, 2); },
                           "hash_experts: needs i64 ids and an i64 key: ids f32 [3] cpu:0, key i64 [1] cpu:0");
  check_throws<ShapeError>(
      [&] {
        hash_experts(zeros({3, 1}, DType::i64), key, 1, 2);
      },
      "hash_experts: needs ids (N) and a key (1): ids i64 [3, 1] cpu:0, key i64 [1] cpu:0");
  check_throws<ValueError>([&] { hash_experts(ids, key, 3, 2); }, "hash_experts: k is 3, must be in [1, 2]");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
