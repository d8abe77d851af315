// SPDX-License-Identifier: Apache-2.0
// Experts that are Hyena operators, against one HyenaOperator for each of them; shared experts and experts of one's
// own.
#include "nn/hyena_experts.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "nn/hyena.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "ops/compare.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/numeric_gradient.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::Array;
using tests::check_close;
using tests::check_gradients;
using tests::check_same_bits;
using tests::check_throws;
using tests::to_array;

constexpr int64_t batch = 3, time = 13, width = 4;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f64) {
  return randn(shape, {random_key("tests", "hyena_experts"), call}, dtype);
}

HyenaExpertsConfig experts_config(ExpertSequence sequence, int64_t experts, int64_t order) {
  return {.width = width,
          .num_experts = experts,
          .l_max = 16,
          .order = order,
          .sequence = sequence,
          .algorithm = ConvAlgorithm::direct,
          .filter = {.embedding = 5, .hidden = 8}};
}

MoeConfig config(ExpertSequence sequence, int64_t k = 2, int64_t experts = 4, int64_t order = 2) {
  MoeConfig c{.width = width, .num_experts = experts, .top_k = k};
  c.make_experts = [=] { return std::make_shared<HyenaExperts>(experts_config(sequence, experts, order)); };
  return c;
}

// HyenaOperator number e, with its part of the stacked state: its element of what is stacked, its rows of what all
// channels share an axis in, and all of the network's trunk.
void load(HyenaOperator& one, const NamedTensors& stacked, int64_t e) {
  NamedTensors state;
  for (const auto& [name, own] : one.state_dict()) {
    const std::string stem = name == "in_proj.weight"    ? "w_in"
                             : name == "in_proj.bias"    ? "b_in"
                             : name == "out_proj.weight" ? "w_out"
                             : name == "out_proj.bias"   ? "b_out"
                                                         : name;
    const auto found = std::ranges::find(stacked, "experts." + stem, [](const auto& each) { return each.first; });
    BOOST_REQUIRE_MESSAGE(found != stacked.end(), name);
    Tensor value = found->second;
    if (stem != name) value = select(value, 0, e);
    for (int axis = 0; stem == name && axis < value.rank(); ++axis) {
      if (value.size(axis) != own.size(axis)) value = narrow(value, axis, e * own.size(axis), own.size(axis));
    }
    state.emplace_back(name, contiguous(value));
  }
  one.load_state_dict(state);
}

// y of the layer from one operator for each expert, over the sequences that it would have.
Array layer_of(const SparseMoETopK& moe, const MoeConfig& c, ExpertSequence sequence, int64_t order, const Tensor& x) {
  const NoGrad no_grad;
  const NamedTensors state = moe.state_dict();
  const Routing r = [&] {
    Router router({.width = width, .num_experts = c.num_experts, .top_k = c.top_k});
    router.to(DType::f64, {});
    router.load_state_dict({{"weight", state[0].second}});
    return router(reshape(x, {batch * time, width}));
  }();
  const std::vector<int64_t> chosen = r.indices.to_vector<int64_t>();
  const Array g = to_array(r.weights);
  Array y({batch, time, width});
  for (int64_t e = 0; e < c.num_experts; ++e) {
    const HyenaExpertsConfig h = experts_config(sequence, c.num_experts, order);
    HyenaOperator one(
        {.width = width, .l_max = 16, .order = order, .algorithm = ConvAlgorithm::direct, .filter = h.filter});
    one.to(DType::f64, {});
    load(one, state, e);
    for (int64_t b = 0; b < batch; ++b) {
      const Tensor row = narrow(x, 0, b, 1);
      std::vector<float> inside;
      std::vector<int64_t> times;
      std::vector<double> weights;
      Tensors own;
      for (int64_t t = 0; t < time; ++t) {
        inside.push_back(0);
        for (int64_t i = (b * time + t) * c.top_k; i < (b * time + t + 1) * c.top_k; ++i) {
          if (chosen[static_cast<size_t>(i)] != e) continue;
          inside.back() = 1;
          times.push_back(t);
          weights.push_back(g[i]);
          own.push_back(narrow(row, 1, t, 1));
        }
      }
      if (times.empty()) continue;
      const bool masked = sequence == ExpertSequence::masked;
      const Array result =
          to_array(masked ? one(row, {.mask = gt(Tensor::from(inside, {1, time}), 0)}) : one(cat(own, 1)));
      for (size_t i = 0; i < times.size(); ++i) {
        const int64_t from = masked ? times[i] : static_cast<int64_t>(i);
        for (int64_t d = 0; d < width; ++d) {
          y[(b * time + times[i]) * width + d] += weights[i] * result[from * width + d];
        }
      }
    }
  }
  return y;
}

BOOST_AUTO_TEST_SUITE(hyena_experts)

BOOST_AUTO_TEST_CASE(each_expert_is_a_hyena_operator_over_its_own_sequence) {
  for (const ExpertSequence sequence : {ExpertSequence::masked, ExpertSequence::packed}) {
    for (const int64_t k : {1, 2, 4}) {
      for (const int64_t order : {2, 3}) {
        const MoeConfig c = config(sequence, k, 4, order);
        SparseMoETopK moe(c);
        moe.to(DType::f64, {});
        const Tensor x = random({batch, time, width}, 0);
        BOOST_TEST_CONTEXT((sequence == ExpertSequence::masked ? "masked" : "packed")
                           << ", k " << k << ", order " << order) {
          check_close(moe(x).y, layer_of(moe, c, sequence, order, x), {1e-9, 1e-11});
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_sequences_differ_between_the_modes_and_agree_when_all_serve_all) {
  SparseMoETopK masked(config(ExpertSequence::masked, 2)), packed(config(ExpertSequence::packed, 2));
  packed.load_state_dict(masked.state_dict());
  const Tensor x = random({batch, time, width}, 1, DType::f32);
  const NoGrad no_grad;
  BOOST_TEST(amax(abs(masked(x).y - packed(x).y)).item<float>() > 1e-4f);
  SparseMoETopK all_masked(config(ExpertSequence::masked, 4)), all_packed(config(ExpertSequence::packed, 4));
  all_packed.load_state_dict(all_masked.state_dict());
  check_same_bits(all_masked(x).y, all_packed(x).y);
}

BOOST_AUTO_TEST_CASE(no_output_sees_a_later_token) {
  for (const ExpertSequence sequence : {ExpertSequence::masked, ExpertSequence::packed}) {
    SparseMoETopK moe(config(sequence));
    const Tensor x = random({batch, time, width}, 2, DType::f32), other = random({batch, time, width}, 3, DType::f32);
    for (const int64_t known : {1, 6, 12}) {
      const Tensor changed = cat({narrow(x, 1, 0, known), narrow(other, 1, known, time - known)}, 1);
      {
        const NoGrad no_grad;
        check_same_bits(contiguous(narrow(moe(changed).y, 1, 0, known)), contiguous(narrow(moe(x).y, 1, 0, known)));
      }
      const Tensor leaf = x.detach().set_requires_grad(true);
      backward(sum(contiguous(narrow(moe(leaf).y, 1, 0, known))));
      BOOST_TEST(amax(abs(narrow(leaf.grad(), 1, known, time - known))).item<float>() == 0.0f);
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_equal_central_differences_and_are_zero_for_an_idle_expert) {
  for (const ExpertSequence sequence : {ExpertSequence::masked, ExpertSequence::packed}) {
    SparseMoETopK moe(config(sequence));
    moe.to(DType::f64, {});
    {
      const NoGrad no_grad;
      fill(select(moe.state_dict()[0].second, 0, 2), -10);  // positive tokens never choose expert 2
    }
    const Tensor x = abs(random({2, 7, width}, 4)).detach().set_requires_grad(true), dy = random({2, 7, width}, 5);
    const auto loss = [&] { return sum(moe(x).y * dy); };
    backward(loss());
    const std::vector<int64_t> counts = moe(x).stats.counts.to_vector<int64_t>();
    BOOST_TEST(counts[2] == 0);
    NamedTensors leaves = moe.named_parameters();
    leaves.emplace_back("x", x);
    check_gradients(leaves, loss, 25);
    const NoGrad no_grad;
    for (const auto& [name, leaf] : leaves) {
      const bool stacked = name.starts_with("experts.w_") || name.starts_with("experts.b_");
      const bool by_channel = name.starts_with("experts.short_filter");
      if (!stacked && !by_channel) continue;
      const int64_t share = leaf.size(0) / 4;
      for (int64_t e = 0; e < 4; ++e) {
        const bool idle = amax(abs(narrow(leaf.grad(), 0, e * share, share))).item<double>() == 0;
        BOOST_TEST(idle == (counts[static_cast<size_t>(e)] == 0), name << " of expert " << e);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(padding_capacity_and_empty_batches_work) {
  const Tensor x = random({2, 6, width}, 6, DType::f32);
  const Tensor mask =
      gt(Tensor::from({1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0.0f}, {2, 6}), 0);
  for (const ExpertSequence sequence : {ExpertSequence::masked, ExpertSequence::packed}) {
    MoeConfig c = config(sequence);
    const SparseMoETopK moe(c);
    const NoGrad no_grad;
    const Tensor y = moe(x, mask).y;
    check_same_bits(contiguous(narrow(y, 1, 4, 2)), zeros({2, 2, width}));
    check_close(contiguous(narrow(y, 1, 0, 4)), to_array(moe(contiguous(narrow(x, 1, 0, 4))).y), {1e-6, 1e-7});
    for (const Shape& shape : {Shape{0, 3, width}, Shape{2, 0, width}, Shape{1, 1, width}}) {
      BOOST_TEST((moe(zeros(shape)).y.shape() == shape));
    }
    c.capacity = {.train_factor = 0.5, .overflow = Overflow::reroute};
    const SparseMoETopK limited(c);
    BOOST_TEST(limited(x).stats.tally().conserved());
  }
}

BOOST_AUTO_TEST_CASE(as_many_kernels_are_called_for_any_number_of_experts) {
  const auto calls_for = [](int64_t experts) {
    const SparseMoETopK moe(config(ExpertSequence::packed, 2, experts));
    const Tensor x = random({batch, time, width}, 7, DType::f32).set_requires_grad(true);
    reset_counters();
    backward(sum(moe(x).y));
    return counters().kernel_calls;
  };
  BOOST_TEST(calls_for(4) == calls_for(16));
}

BOOST_AUTO_TEST_CASE(arguments_that_make_no_sense_are_refused) {
  check_throws<ValueError>([] { HyenaExperts experts({.order = 1}); },
                           "HyenaExperts: width 64, num_experts 8 and short_filter 3 must be at least 1 and order 1");
  const SparseMoETopK sequences(config(ExpertSequence::masked));
  check_throws<ValueError>([&] { sequences(zeros({1, 17, width})); }, "17");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
