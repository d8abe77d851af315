// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <thread>

#include "autograd/backward.hpp"
#include "autograd/checkpoint.hpp"
#include "autograd/gradcheck.hpp"
#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/cast.hpp"
#include "ops/dropout.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

const auto each = boost::test_tools::per_element();
using Floats = std::vector<float>;

Tensor leaf(const Tensor& values) {
  Tensor x = values;
  x.set_requires_grad(true);
  return x;
}

// y = x with a gradient that the test chooses.
template <class Fn>
Tensor probe(const Tensor& x, Fn&& gradient) {
  return record("probe", clone(x), {x}, std::forward<Fn>(gradient));
}

BOOST_AUTO_TEST_SUITE(autograd)

BOOST_AUTO_TEST_CASE(a_chain_of_a_million_nodes_runs_and_is_freed_without_recursion) {
  const Tensor x = leaf(ones({1}));
  const auto chain = [&] {
    Tensor y = x;
    for (int i = 0; i < 1000000; ++i) y = add(y, 0.0);
    return y;
  };
  backward(chain());
  BOOST_TEST(x.grad().item<float>() == 1.0f);
  chain();  // dropped without a backward
}

BOOST_AUTO_TEST_CASE(a_graph_is_used_once) {
  const Tensor x = leaf(ones({3})), y = mul(x, x), loss = sum(y);
  backward(loss);
  check_throws<ValueError>([&] { backward(loss); },
                           "backward: the graph through `sum` was already used; run the forward again");
  check_throws<ValueError>([&] { backward(sum(mul(y, 2))); }, "the graph through `mul` was already used");
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{2, 2, 2}), each);
}

BOOST_AUTO_TEST_CASE(a_saved_value_that_changed_is_noticed) {
  const Tensor x = leaf(ones({2})), loss = sum(mul(x, x));
  {
    const NoGrad no_grad;
    copy_into(zeros({2}), narrow(x, 0, 0, 2));  // through a view
  }
  check_throws<ValueError>([&] { backward(loss); }, "mul: its saved input f32 [2] cpu:0 was changed before backward");
}

BOOST_AUTO_TEST_CASE(only_saved_values_must_stay) {
  const Tensor x = leaf(ones({2})), loss = sum(add(x, x));
  const uint64_t version = x.version();
  {
    const NoGrad no_grad;
    copy_into(zeros({2}), x);
  }
  BOOST_TEST(x.version() == version + 1);
  backward(loss);
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{2, 2}), each);
  check_throws<ValueError>([&] { copy_into(zeros({2}), x); },
                           "copy_into: tensors change only under NoGrad: target f32 [2] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_given_gradient_is_neither_changed_nor_kept) {
  const Tensor x = leaf(ones({2})), given = Tensor::from({1.0f, 2.0f}, {2});
  const Tensor z = mul(x, 1);
  backward({add(z, z)}, {given});  // z receives `given` twice by reference
  BOOST_TEST(given.to_vector<float>() == (Floats{1, 2}), each);
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{2, 4}), each);
  const Tensor w = leaf(ones({2}));
  backward({add(w, 0.0)}, {given});  // w receives `given` itself
  BOOST_TEST((w.grad().storage() != given.storage()));
  BOOST_TEST(w.grad().to_vector<float>() == (Floats{1, 2}), each);
}

BOOST_AUTO_TEST_CASE(a_leaf_owns_its_gradient_and_adds_to_it) {
  const Tensor x = leaf(ones({2, 3}));
  backward(sum(x));  // arrives as a view with strides 0
  const Tensor grad = x.grad();
  BOOST_TEST(grad.is_contiguous());
  backward(sum(mul(x, 3)));
  BOOST_TEST(x.grad().is_same(grad));
  BOOST_TEST(grad.to_vector<float>() == Floats(6, 4), each);
  x.set_grad({});
  backward(sum(x));
  BOOST_TEST(x.grad().to_vector<float>() == Floats(6, 1), each);
  BOOST_TEST(grad.to_vector<float>() == Floats(6, 4), each);
}

BOOST_AUTO_TEST_CASE(a_bf16_leaf_collects_in_f32) {
  const Tensor x = leaf(ones({1}, DType::bf16));
  for (int i = 0; i < 512; ++i) backward(sum(x));  // bf16 would stop counting at 256
  BOOST_TEST((x.grad().dtype() == DType::f32));
  BOOST_TEST(x.grad().item<float>() == 512.0f);
}

BOOST_AUTO_TEST_CASE(only_leaves_keep_a_gradient) {
  const Tensor x = leaf(ones({2})), y = mul(x, 2);
  backward(sum(y));
  BOOST_TEST(!y.grad().defined());
  BOOST_TEST(x.is_leaf());
  BOOST_TEST(!y.is_leaf());
  check_throws<ValueError>([&] { Tensor(y).set_requires_grad(true); },
                           "set_requires_grad: only leaves change, this is an output of `mul`: f32 [2] cpu:0");
  check_throws<DTypeError>([] { arange(2).set_requires_grad(true); },
                           "set_requires_grad: needs a floating tensor, got i64 [2] cpu:0");
  check_throws<ShapeError>([&] { x.set_grad(ones({3})); }, "set_grad: gradient f32 [3] cpu:0 for f32 [2] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_closure_knows_which_inputs_and_outputs_count) {
  const Tensor a = leaf(ones({2})), b = ones({2});
  bool needs_a = false, needs_b = true;
  const Tensor y = record("probe", add(a.detach(), b), {a, b}, [&](GradContext& ctx) {
    needs_a = ctx.needs(0);
    needs_b = ctx.needs(1);
    return Tensors{ctx.grad(), Tensor()};
  });
  backward(sum(y));
  BOOST_TEST(needs_a);
  BOOST_TEST(!needs_b);
  const Tensor x = leaf(ones({4}));
  backward(sum(split(x, 2, 0)[1]));  // the first output receives nothing
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{0, 0, 1, 1}), each);
}

BOOST_AUTO_TEST_CASE(recording_is_switched_per_scope_and_per_thread) {
  const Tensor x = leaf(ones({2}));
  {
    const NoGrad no_grad;
    BOOST_TEST(!mul(x, 2).requires_grad());
    {
      const GradMode again(true);
      BOOST_TEST(mul(x, 2).requires_grad());
    }
    BOOST_TEST(!grad_enabled());
    bool other = false;
    std::thread([&] { other = grad_enabled(); }).join();
    BOOST_TEST(other);
  }
  BOOST_TEST(mul(x, 2).requires_grad());
  BOOST_TEST(!mul(x.detach(), 2).requires_grad());
}

BOOST_AUTO_TEST_CASE(an_op_without_a_backward_says_so_in_the_forward) {
  const Tensor x = leaf(ones({2}));
  check_throws<ValueError>([&] { without_gradient("probe", clone(x), {x}); },
                           "probe: has no backward, but input 0 requires a gradient: f32 [2] cpu:0; pass detach() or "
                           "work under NoGrad");
  BOOST_CHECK_NO_THROW(without_gradient("probe", clone(x), {x.detach()}));
  const NoGrad no_grad;
  BOOST_CHECK_NO_THROW(without_gradient("probe", clone(x), {x}));
}

BOOST_AUTO_TEST_CASE(wrong_roots_and_wrong_gradients_are_named) {
  const Tensor x = leaf(ones({2}));
  check_throws<ShapeError>([&] { backward(x); }, "backward: needs a loss with one element, got f32 [2] cpu:0");
  check_throws<ValueError>([] { backward(ones({1})); },
                           "backward: the root depends on nothing that requires a gradient: f32 [1] cpu:0");
  check_throws<ShapeError>([&] { backward(sum(probe(x, [](GradContext&) { return Tensors{ones({3})}; }))); },
                           "probe: gradient f32 [3] cpu:0 for an input of shape [2]");
  check_throws<ValueError>([&] { backward(sum(probe(x, [](GradContext&) { return Tensors{}; }))); },
                           "probe: its gradient returned 0 tensors for 1 inputs");
  const Tensor y = mul(x, 1);
  check_throws<DTypeError>(
      [&] { backward(sum(probe(y, [](GradContext&) { return Tensors{ones({2}, DType::f64)}; }))); },
      "probe: gradient f64 [2] cpu:0 for an input of dtype f32");
  backward(sum(x));  // the engine is as before
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{1, 1}), each);
}

BOOST_AUTO_TEST_CASE(a_backward_may_run_inside_a_closure) {
  const Tensor x = leaf(full({2}, 3));
  const Tensor y = probe(x, [value = save(x)](GradContext& ctx) {
    const GradMode record_again(true);
    const Tensor inner = leaf(clone(*value));
    backward({mul(inner, inner)}, {ctx.grad()});
    return Tensors{inner.grad()};
  });
  backward(sum(mul(y, 2)));
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{12, 12}), each);
}

BOOST_AUTO_TEST_CASE(threads_differentiate_side_by_side) {
  std::vector<std::thread> threads;
  std::vector<float> grads(4);
  for (size_t t = 0; t < grads.size(); ++t) {
    threads.emplace_back([t, &grads] {
      const Tensor x = leaf(ones({1}));
      Tensor y = x;
      for (int i = 0; i < 200; ++i) y = add(mul(y, 1), mul(x, static_cast<double>(t)));
      backward(y);
      grads[t] = x.grad().item<float>();
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(grads == (Floats{1, 201, 401, 601}), each);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(autograd_checkpoint)

// Values, gradients of input and parameter, and the random call that follows, of one run of fn.
struct Run {
  Tensor y, dx, dw;
  uint16_t next_call;
};

template <class Fn>
Run run_of(Fn&& fn) {
  manual_seed(5);
  const uint64_t key = random_key("test", "dropout");
  const Tensor x = leaf(randn({40, 30})), w = leaf(randn({30}));
  const Tensor y = fn(
      [w, key](const Tensors& in) {
        const Tensor hidden = dropout(tanh(mul(in[0], w)), 0.4, next_random_call(key));
        return dropout(mul(hidden, hidden), 0.1, next_random_call(key));
      },
      x);
  const uint16_t next = next_random_call(key).call;
  backward(sum(y));
  BOOST_TEST(!recomputing());
  return {y, x.grad(), w.grad(), next};
}

using Layer = std::function<Tensor(const Tensors&)>;

BOOST_AUTO_TEST_CASE(equals_the_plain_run_bit_by_bit) {
  const Run plain = run_of([](const Layer& layer, const Tensor& x) { return layer({x}); });
  const Run once = run_of([](const Layer& layer, const Tensor& x) { return checkpoint(layer, {x}); });
  const Run nested = run_of([](const Layer& layer, const Tensor& x) {
    return checkpoint(Layer([layer](const Tensors& in) { return checkpoint(layer, in); }), {x});
  });
  for (const Run& run : {once, nested}) {
    check_same_bits(run.y, plain.y);
    check_same_bits(run.dx, plain.dx);
    check_same_bits(run.dw, plain.dw);
    BOOST_TEST(run.next_call == plain.next_call);
  }
}

BOOST_AUTO_TEST_CASE(the_second_run_is_announced) {
  std::vector<bool> announced;
  const Tensor x = leaf(ones({2}));
  const Tensor y = checkpoint(Layer([&](const Tensors& in) {
                                announced.push_back(recomputing());
                                return mul(in[0], in[0]);
                              }),
                              {x});
  backward(sum(y));
  BOOST_TEST(announced == (std::vector<bool>{false, true}), each);
  const NoGrad no_grad;
  BOOST_TEST(!checkpoint(Layer([](const Tensors& in) { return mul(in[0], 2); }), {x}).requires_grad());
}

BOOST_AUTO_TEST_CASE(several_outputs_and_bf16_inputs_come_back_whole) {
  const Tensor x = leaf(ones({4}, DType::bf16)), before = mul(x, 1);
  const Tensors y = checkpoint([](const Tensors& in) { return split(mul(in[0], 3), 2, 0); }, {before});
  backward(sum(y[1]));
  BOOST_TEST(x.grad().to_vector<float>() == (Floats{0, 0, 3, 3}), each);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(autograd_checks)

BOOST_AUTO_TEST_CASE(gradcheck_catches_a_wrong_gradient) {
  const Tensor x = leaf(Tensor::from({0.5, 1.5}, {2}));
  const auto slightly_wrong = [](const Tensors& in) {
    return record("probe", mul(in[0].detach(), 2), {in[0]},
                  [](GradContext& ctx) { return Tensors{mul(ctx.grad(), 2.01)}; });
  };
  check_throws<ValueError>([&] { gradcheck(slightly_wrong, {x}); }, "gradcheck: input 0 f64 [2] cpu:0, element 0: ");
  const auto missing = [](const Tensors& in) {
    return record("probe", mul(in[0].detach(), 2), {in[0]}, [](GradContext&) { return Tensors{Tensor()}; });
  };
  check_throws<ValueError>([&] { gradcheck(missing, {x}); }, "analytic 0, numeric ");
  BOOST_CHECK_NO_THROW(gradcheck([](const Tensors& in) { return mul(in[0], 2); }, {x}));
}

BOOST_AUTO_TEST_CASE(gradcheck_demands_f64_and_something_to_check) {
  check_throws<DTypeError>([] { gradcheck([](const Tensors& in) { return mul(in[0], 2); }, {leaf(ones({2}))}); },
                           "gradcheck: inputs that require a gradient must be f64, got f32 [2] cpu:0");
  check_throws<ValueError>([] { gradcheck([](const Tensors& in) { return mul(in[0], 2); }, {ones({2}, DType::f64)}); },
                           "gradcheck: no output requires a gradient");
}

BOOST_AUTO_TEST_CASE(the_first_op_with_a_value_that_is_not_finite_is_named) {
  const Tensor x = Tensor::from({1.0f, 0.0f, -1.0f}, {3});
  {
    const CheckFinite on;
    check_throws<ValueError>([&] { exp(log(x)); },
                             "log: produced 2 infinite or NaN values: output f32 [3] cpu:0; inputs: f32 [3] cpu:0");
    const CheckFinite off(false);
    BOOST_CHECK_NO_THROW(log(x));
  }
  BOOST_TEST(!check_finite_enabled());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
