// SPDX-License-Identifier: Apache-2.0
// What a Module promises: names, paths, loading, moving, printing.
#include <boost/test/unit_test.hpp>
#include <sstream>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/activation.hpp"
#include "nn/containers.hpp"
#include "nn/linear.hpp"
#include "nn/norm.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_same_bits;
using tests::check_throws;

// Says where it stands while it is being built.
class Leaf : public Module {
 public:
  explicit Leaf(std::string* path = nullptr) : weight(parameter("weight", ones({2, 3}))) {
    if (path != nullptr) *path = this->path();
  }
  Tensor weight;
};

class Branch : public Module {
 public:
  explicit Branch(std::string* path) : inner_(add<Leaf>("inner", path)) {}

 private:
  Leaf& inner_;
};

// A child at two places, a parameter under two names, buffers of both kinds.
class Knot : public Module {
 public:
  Knot() : first(add<Leaf>("first")), again(share("again", first)) {
    tied = share_parameter("tied", first.weight);
    own = parameter("own", zeros({4}));
    count = buffer("count", zeros({}, DType::i64));
    cache = buffer("cache", ones({5}), false);
  }
  void misuse(int kind) {
    Leaf stranger;
    if (kind == 0) parameter("own", ones({1}));
    if (kind == 1) buffer("first", ones({1}));
    if (kind == 2) parameter("a.b", ones({1}));
    if (kind == 3) share("other", stranger);
    if (kind == 4) parameter("ids", arange(3));
  }
  Leaf &first, &again;
  Tensor tied, own, count, cache;
};

std::string names_of(const NamedTensors& tensors) {
  std::string names;
  for (const auto& [name, tensor] : tensors) names += (names.empty() ? "" : " ") + name;
  return names;
}

NamedTensors copied(const NamedTensors& state) {
  NamedTensors copies;
  for (const auto& [name, tensor] : state) copies.emplace_back(name, clone(tensor));
  return copies;
}

BOOST_AUTO_TEST_SUITE(nn)

BOOST_AUTO_TEST_CASE(each_parameter_is_listed_once_and_saved_under_every_name) {
  const Knot knot;
  BOOST_TEST(names_of(knot.named_parameters()) == "tied own");
  BOOST_TEST(names_of(knot.named_buffers()) == "count cache");
  BOOST_TEST(names_of(knot.state_dict()) == "tied own count first.weight again.weight");
  BOOST_TEST(knot.num_parameters() == 10);
  BOOST_TEST(knot.parameters().size() == 2u);
  BOOST_TEST(&knot.first == &knot.again);
}

BOOST_AUTO_TEST_CASE(a_module_knows_its_path_while_it_is_built) {
  std::string path;
  ModuleList<Branch> list;
  list.append(&path);
  list.append(&path);
  BOOST_TEST(path == "1.inner");
  BOOST_TEST(list[0].path() == "0");
  BOOST_TEST(list.path() == "");
  const Leaf alone(&path);
  BOOST_TEST(path == "");
}

BOOST_AUTO_TEST_CASE(a_name_is_given_once) {
  Knot knot;
  check_throws<ValueError>([&] { knot.misuse(0); }, "the name `own` is already taken");
  check_throws<ValueError>([&] { knot.misuse(1); }, "the name `first` is already taken");
  check_throws<ValueError>([&] { knot.misuse(2); }, "bad name `a.b`");
  check_throws<ValueError>([&] { knot.misuse(3); }, "share() needs a child that add() has made here");
  check_throws<DTypeError>([&] { knot.misuse(4); }, "needs a floating tensor, got i64 [3]");
  BOOST_TEST(names_of(knot.state_dict()) == "tied own count first.weight again.weight");
}

BOOST_AUTO_TEST_CASE(loading_copies_into_the_tensors_that_are_there) {
  Sequential from, to;
  from.append<Linear>(2, 3);
  to.append<Tanh>();  // so that the paths and the initial values differ
  to.append<Linear>(2, 3);
  const Tensor weight = to.named_parameters()[0].second;
  to.load_state_dict({{"1.weight", from.state_dict()[0].second}, {"1.bias", ones({3}, DType::bf16)}});
  check_same_bits(weight, from.named_parameters()[0].second);
  check_same_bits(to.named_parameters()[1].second, ones({3}));
}

BOOST_AUTO_TEST_CASE(loading_reports_every_problem_and_changes_nothing) {
  Linear linear(3, 2);
  Knot knot;
  NamedTensors state = copied(knot.state_dict());
  state[0].second = ones({3, 2});
  state[1].first = "renamed";
  state[2].second = ones({});
  state[3].second = zeros({2, 3});
  state[4].second = Tensor();
  const std::string expected =
      "load_state_dict: nothing was loaded:\n"
      "  tied: the model has f32 [2, 3] cpu:0, the file has f32 [3, 2] cpu:0\n"
      "  missing: own: f32 [4] cpu:0\n"
      "  count: the model has i64 [] cpu:0, the file has f32 [] cpu:0\n"
      "  again.weight: the model has f32 [2, 3] cpu:0, the file has undefined\n"
      "  unexpected: renamed: f32 [4] cpu:0";
  check_throws<ValueError>([&] { knot.load_state_dict(state); }, expected);
  check_same_bits(knot.first.weight, ones({2, 3}));
}

BOOST_AUTO_TEST_CASE(loose_loading_skips_names_but_not_shapes) {
  Linear linear(3, 2);
  linear.load_state_dict({{"bias", ones({2})}, {"other", ones({9})}}, false);
  check_same_bits(linear.named_parameters()[1].second, ones({2}));
  check_throws<ValueError>(
      [&] {
        linear.load_state_dict({{"bias", ones({3})}}, false);
      },
      "bias: the model has f32 [2] cpu:0, the file has f32 [3] cpu:0");
}

BOOST_AUTO_TEST_CASE(eval_reaches_every_child) {
  Sequential net;
  Sequential& inner = net.append<Sequential>();
  const BatchNorm1d& norm = inner.append<BatchNorm1d>(2);
  BOOST_TEST(norm.training());
  net.eval();
  BOOST_TEST(!norm.training());
  net.train();
  BOOST_TEST(norm.training());
}

BOOST_AUTO_TEST_CASE(another_dtype_keeps_handles_ties_and_gradients) {
  Knot knot;
  backward(sum(knot.first.weight) + sum(knot.own));
  knot.to(DType::bf16, [](const std::string& name) { return name == "own"; });
  BOOST_TEST((knot.first.weight.dtype() == DType::bf16 && knot.tied.dtype() == DType::bf16));
  BOOST_TEST((knot.own.dtype() == DType::f32 && knot.count.dtype() == DType::i64));
  BOOST_TEST((knot.cache.dtype() == DType::bf16));
  BOOST_TEST(!knot.tied.grad().defined());
  BOOST_TEST(knot.own.grad().defined());
  knot.to(DType::f64);
  backward(sum(knot.first.weight) + sum(knot.tied));
  check_same_bits(knot.tied.grad(), full({2, 3}, 2, DType::f64));
  check_throws<DTypeError>([&] { knot.to(DType::f16); }, "Module::to: needs f64, f32 or bf16, got f16");
  check_throws<DTypeError>([&] { knot.to(DType::i64); }, "Module::to: needs f64, f32 or bf16, got i64");
}

BOOST_AUTO_TEST_CASE(a_model_prints_as_a_tree) {
  Sequential net;
  net.append<Linear>(3, 4);
  net.append<Gelu>();
  net.append<LayerNorm>(4);
  std::ostringstream out;
  out << net;
  BOOST_TEST(out.str() ==
             "Sequential  24 parameters\n"
             "  0: Linear(3 -> 4)  16 parameters\n"
             "    weight f32 [4, 3]\n"
             "    bias f32 [4]\n"
             "  1: Gelu  0 parameters\n"
             "  2: LayerNorm(4)  8 parameters\n"
             "    weight f32 [4]\n"
             "    bias f32 [4]\n");
}

BOOST_AUTO_TEST_CASE(containers_apply_in_order_and_share) {
  Sequential net;
  Linear& linear = net.append<Linear>(3, 3);
  net.append<Relu>();
  net.append_shared(linear);
  const Tensor x = randn({5, 3});
  check_same_bits(net(x), linear(relu(linear(x))));
  check_same_bits(net.first(x, 2), relu(linear(x)));
  check_same_bits(Sequential()(x), x);
  BOOST_TEST(net.num_parameters() == 12);
  BOOST_TEST(names_of(net.state_dict()) == "0.weight 0.bias 2.weight 2.bias");
}

BOOST_AUTO_TEST_CASE(activations_are_the_functions) {
  const Tensor x = randn({7});
  check_same_bits(Relu()(x), relu(x));
  check_same_bits(Tanh()(x), tanh(x));
  check_same_bits(Sigmoid()(x), sigmoid(x));
  check_same_bits(Silu()(x), silu(x));
  check_same_bits(Gelu()(x), gelu(x));
  check_same_bits(Gelu(Approximate::tanh)(x), gelu(x, Approximate::tanh));
  check_same_bits(Softplus(2, 3)(x), softplus(x, 2, 3));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
