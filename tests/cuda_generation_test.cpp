// SPDX-License-Identifier: Apache-2.0
// Convolutions that are causal to the last bit on a GPU, and a model that writes there; needs `--device cuda`.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/models/generator.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "ops/compare.hpp"
#include "ops/long_conv.hpp"
#include "ops/long_conv_state.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"
#include "train/precision.hpp"

namespace mahia {
namespace {

using tests::BatchInvariant;
using tests::check_same_bits;
using tests::NeedsCuda;
using tests::tested_device;

// u, h, skip and gates of a long convolution.
struct Operands {
  Operands(const Shape& shape, int64_t taps, DType dtype) {
    const auto random = [&](const Shape& s, uint64_t draw, DType type) {
      return tests::on_tested_device(tests::make_input({s}, type, draw, false));
    };
    const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    u = random(shape, 1, dtype);
    h = random({shape[1], taps}, 2, wide);
    skip = random({shape[1]}, 3, wide);
    before = random(shape, 4, dtype);
    after = random(shape, 5, dtype);
  }
  Tensor convolve(const Tensor& x) const {
    return long_conv(x, h,
                     {.skip = skip, .gate_before = before, .gate_after = after, .algorithm = ConvAlgorithm::dyadic});
  }
  Tensor u, h, skip, before, after;
};

BOOST_AUTO_TEST_SUITE(cuda_generation)

// Beyond 4096 inputs a tile no longer fits into one block of threads.
BOOST_AUTO_TEST_CASE(dyadic_outputs_never_see_the_future, *boost::unit_test::precondition(NeedsCuda())) {
  for (const int64_t time : {70, 1500, 20000}) {
    const Operands x({2, 3, time}, time, DType::f32);
    const Tensor expected = x.convolve(x.u);
    for (const int64_t t : {int64_t{0}, time / 3, time - 2}) {
      for (const double bad : {1e30, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
        const Tensor changed = clone(x.u);
        fill(narrow(changed, 2, t + 1, time - t - 1), bad);
        const Tensor y = x.convolve(changed);
        check_same_bits(contiguous(narrow(y, 2, 0, t + 1)), contiguous(narrow(expected, 2, 0, t + 1)));
      }
      Tensor leaf = x.u.detach();
      leaf.set_requires_grad(true);
      backward(sum(narrow(x.convolve(leaf), 2, 0, t + 1)));
      BOOST_TEST(sum(ne(narrow(leaf.grad(), 2, t + 1, time - t - 1), 0.0)).item<int64_t>() == 0);
      BOOST_TEST(sum(ne(narrow(leaf.grad(), 2, 0, t + 1), 0.0)).item<int64_t>() > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(steps_give_the_bits_of_the_whole, *boost::unit_test::precondition(NeedsCuda())) {
  struct Case {
    int64_t time, taps, prefilled;
    DType dtype;
  };
  for (const auto& [time, taps, prefilled, dtype] :
       {Case{300, 300, 0, DType::f32}, Case{300, 300, 130, DType::bf16}, Case{300, 70, 64, DType::f64},
        Case{16700, 16700, 16300, DType::f32}, Case{8300, 9000, 8190, DType::bf16}}) {
    BOOST_TEST_CONTEXT(time << " positions, taps " << taps << ", prefilled " << prefilled << ", " << name_of(dtype)) {
      const Operands x({2, 3, time}, taps, dtype);
      LongConvState state(x.h, x.skip, 2, 2 * time, dtype);
      const auto first = [&, n = prefilled](const Tensor& s) { return narrow(s, 2, 0, n); };
      Tensors parts = {state.prefill(first(x.u), first(x.before), first(x.after))};
      for (int64_t t = prefilled; t < time; ++t) {
        const auto now = [&](const Tensor& s) { return select(s, 2, t); };
        parts.push_back(unsqueeze(state.step(now(x.u), now(x.before), now(x.after)), 2));
      }
      check_same_bits(cat(parts, 2), x.convolve(x.u));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_model_writes_with_the_bits_of_the_parallel_pass, *boost::unit_test::precondition(NeedsCuda())) {
  const NoGrad no_grad;
  const BatchInvariant scope;
  for (const DType precision : {DType::f32, DType::bf16}) {
    for (const int64_t order : {2, 3}) {
      nn::models::HyenaMoeLM model({.vocab = 64,
                                    .width = 32,
                                    .layers = 2,
                                    .l_max = 200,
                                    .order = order,
                                    .algorithm = ConvAlgorithm::dyadic,
                                    .experts = 4,
                                    .hidden = 48});
      if (precision == DType::bf16) train::to_bf16(model);
      model.to(tested_device());
      model.eval();
      const Tensor tokens = randint(0, 64, {3, 200}, DType::i64, tested_device()), whole = model(tokens);
      nn::models::Generator generator(model, 3, 200);
      Tensor logits = generator.prefill(contiguous(narrow(tokens, 1, 0, 70)));
      for (int64_t t = 69; t < 199; ++t) {
        check_same_bits(logits, contiguous(select(whole, 1, t)));
        logits = generator.step(contiguous(select(tokens, 1, t + 1)));
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia
