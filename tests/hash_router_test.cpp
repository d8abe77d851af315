// SPDX-License-Identifier: Apache-2.0
// Experts by a fixed hash of the token.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/hash_experts.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_same_bits;
using tests::check_throws;
using tests::to_array;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "hash_router"), call}, dtype);
}

BOOST_AUTO_TEST_SUITE(hash_router)

BOOST_AUTO_TEST_CASE(a_hash_router_sends_an_id_always_to_the_same_experts) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 5, .top_k = 2, .router = RouterKind::hash, .losses = {}};
  SparseMoETopK moe(c);
  moe.to(DType::f64, {});
  BOOST_TEST(moe.state_dict().front().first == "router.hash_key");
  const Tensor ids = Tensor::from({int64_t{3}, int64_t{1}, int64_t{4}, int64_t{1}, int64_t{5}, int64_t{9}}, {2, 3});
  const Tensor x = random({2, 3, 6}, 9, DType::f64).set_requires_grad(true);
  const MoeOutput out = moe(x, {}, ids);
  const Tensor chosen = hash_experts(reshape(ids, {6}), moe.state_dict().front().second, 2, 5);
  tests::MoeCase given{c};
  given.chosen = chosen.to_vector<int64_t>();
  tests::check_close(out.y, tests::moe_reference(tests::State(moe), given, to_array(x)).y, {1e-10, 1e-12});
  BOOST_TEST(given.chosen[2] == given.chosen[6]);
  backward(sum(out.y));  // nothing but the experts and the tokens learn
  BOOST_TEST(moe.parameters().size() == 2u);
  // A model that was loaded sends them there too, whatever seed it was made with.
  manual_seed(99);
  SparseMoETopK loaded(c);
  loaded.to(DType::f64, {});
  BOOST_TEST((loaded(x, {}, ids).stats.counts.to_vector<int64_t>() != out.stats.counts.to_vector<int64_t>()));
  loaded.load_state_dict(moe.state_dict());
  check_same_bits(loaded(x, {}, ids).y, out.y);
  const auto refused = [](MoeConfig wrong, const std::string& text) {
    check_throws<ValueError>([&] { SparseMoETopK made(wrong); }, text);
  };
  check_throws<ValueError>([&] { moe(x); }, "Router: hash needs the tokens' ids beside f64 [6, 6] cpu:0");
  check_throws<ShapeError>([&] { moe(x, {}, zeros({5}, DType::i64)); },
                           "Router: hash needs an id for each token of f64 [6, 6] cpu:0, got i64 [5] cpu:0");
  c.losses = {AuxLoss::balance};
  refused(c, "SparseMoETopK: a hash router learns nothing, so `losses` must be empty");
  c.losses = {};
  c.capacity = {.train_factor = 1, .overflow = Overflow::reroute};
  refused(c, "SparseMoETopK: a hash router knows no next best expert to reroute or round to");
  c.capacity = {};
  c.routing.jitter = 0.1;
  refused(c, "Router: hash has nothing that a bias, groups, jitter or noise could change");
}

BOOST_AUTO_TEST_CASE(a_language_model_routes_by_its_tokens) {
  models::HyenaMoeLMConfig c{.vocab = 20, .width = 16, .layers = 2, .l_max = 8, .experts = 4, .hidden = 16};
  c.router = RouterKind::hash;
  const models::HyenaMoeLM model(c);
  const Tensor tokens = randint(0, 20, {2, 8});
  const models::LossOutput out = model.loss(tokens, tokens);
  BOOST_TEST(out.aux.item<float>() == 0.0f);
  backward(out.loss + out.aux);
  const NamedTensors buffers = model.named_buffers();
  std::vector<int64_t> keys;
  for (const auto& [name, value] : buffers) {
    if (name.ends_with("hash_key")) keys.push_back(value.item<int64_t>());
  }
  BOOST_REQUIRE(keys.size() == 2u);
  BOOST_TEST(keys[0] != keys[1]);
  c.z_loss = 0.1;
  check_throws<ValueError>([&] { models::HyenaMoeLM other(c); }, "HyenaMoeLM: a hash router has no z-loss");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
