// SPDX-License-Identifier: Apache-2.0
// What the language model means as a whole; its values against PyTorch are in reference_nn_test.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <thread>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "train/optimizer.hpp"
#include "train/safetensors.hpp"

namespace mahia::nn::models {
namespace {

using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;

HyenaMoeLMConfig tiny() {
  return {.vocab = 20,
          .width = 16,
          .layers = 2,
          .l_max = 32,
          .filter = {.embedding = 5, .hidden = 8},
          .experts = 4,
          .top_k = 2,
          .hidden = 16};
}

// (rows, time) of a pattern that differs from row to row, below `high`.
Tensor some_tokens(int64_t rows, int64_t time, int64_t high = 19) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < rows * time; ++i) ids.push_back((i * i * 7 + i / time) % high);
  return Tensor::from(ids, {rows, time});
}

Tensor parameter_of(const Module& module, const std::string& wanted) {
  for (const auto& [name, tensor] : module.named_parameters()) {
    if (name == wanted) return tensor;
  }
  BOOST_FAIL("no parameter " << wanted);
  return {};
}

double deviation(const Tensor& x) { return std::sqrt(mean(x * x).item<double>()); }

BOOST_AUTO_TEST_SUITE(models)

BOOST_AUTO_TEST_CASE(logits_do_not_see_future_tokens) {
  const HyenaMoeLM model(tiny());
  const Tensor tokens = some_tokens(2, 30), other = clone(tokens);
  const int64_t start = 13;
  fill(narrow(other, 1, start, 30 - start), 19);
  const Tensor a = model(tokens), b = model(other);
  check_near(narrow(b, 1, 0, start), narrow(a, 1, 0, start), 1e-5, "logits of the past");
  BOOST_TEST(tests::to_array(narrow(b, 1, start, 1)).values != tests::to_array(narrow(a, 1, start, 1)).values);
}

BOOST_AUTO_TEST_CASE(packed_documents_and_padding_stay_apart) {
  const HyenaMoeLM model(tiny());
  const PackedDocuments documents({{0, 11}, {0, 25}}, 30);
  const Tensor tokens = some_tokens(2, 30), other = clone(tokens);
  fill(narrow(narrow(other, 0, 0, 1), 1, 0, 11), 19);  // the first document of row 0
  fill(narrow(narrow(other, 0, 1, 1), 1, 25, 5), 19);  // the second one of row 1
  const Tensor a = model(tokens, {.documents = &documents}), b = model(other, {.documents = &documents});
  check_same_bits(contiguous(narrow(select(b, 0, 0), 0, 11, 19)), contiguous(narrow(select(a, 0, 0), 0, 11, 19)));
  check_same_bits(contiguous(narrow(select(b, 0, 1), 0, 0, 25)), contiguous(narrow(select(a, 0, 1), 0, 0, 25)));
  BOOST_TEST(tests::to_array(select(b, 0, 0)).values != tests::to_array(select(a, 0, 0)).values);

  std::vector<uint8_t> inside(60, 1);
  std::fill(inside.begin() + 25, inside.begin() + 30, uint8_t{0});
  const Tensor mask = copy_to(Tensor::from(inside, {2, 30}), cpu_device, DType::boolean), targets = clone(tokens);
  fill(narrow(narrow(targets, 0, 0, 1), 1, 25, 5), -100);
  const Tensor padded = clone(tokens);
  fill(narrow(narrow(padded, 0, 0, 1), 1, 25, 5), 19);
  check_same_bits(model.loss(padded, targets, {.mask = mask}).loss, model.loss(tokens, targets, {.mask = mask}).loss);
}

// Token 19 stands only where no counted target may look: its row of the embedding gets round-off, others real
// gradients.
BOOST_AUTO_TEST_CASE(the_loss_of_the_past_has_no_gradient_to_future_tokens) {
  const HyenaMoeLM model(tiny());
  const Tensor tokens = some_tokens(2, 30), targets = clone(tokens);
  const int64_t start = 13;
  fill(narrow(tokens, 1, start, 30 - start), 19);
  fill(narrow(targets, 1, start, 30 - start), -100);
  backward(model.loss(tokens, targets).loss);
  const Tensor rows = amax(abs(parameter_of(model, "embedding.weight").grad()), {1});
  BOOST_TEST(select(rows, 0, 19).item<double>() <= 1e-6 * amax(rows).item<double>());
  fill(narrow(targets, 1, start, 1), 3);
  backward(model.loss(tokens, targets).loss);
  BOOST_TEST(select(amax(abs(parameter_of(model, "embedding.weight").grad()), {1}), 0, 19).item<double>() > 1e-4);
}

BOOST_AUTO_TEST_CASE(the_last_logits_are_those_of_the_last_token) {
  HyenaMoeLM model(tiny());
  model.eval();
  const Tensor tokens = some_tokens(3, 11);
  check_same_bits(model.last_logits(tokens), contiguous(select(model(tokens), 1, 10)));
}

BOOST_AUTO_TEST_CASE(a_row_gives_the_same_bits_in_any_batch) {
  HyenaMoeLM model(tiny());
  model.eval();
  const Tensor tokens = some_tokens(5, 32), all = model(tokens);
  for (const int64_t b : {0, 3, 4}) check_same_bits(model(narrow(tokens, 0, b, 1)), contiguous(narrow(all, 0, b, 1)));
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_changes_no_bit) {
  const HyenaMoeLM model(tiny());
  const Tensor tokens = some_tokens(3, 32), targets = some_tokens(3, 32, 17);
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    for (const Tensor& p : model.parameters()) p.set_grad({});
    const LossOutput out = model.loss(tokens, targets);
    Tensors all = {out.loss.detach(), out.aux.detach(), out.stats[1].counts};
    backward(out.loss + out.aux * 0.02);
    for (const Tensor& p : model.parameters()) all.push_back(p.grad());
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) check_same_bits(all[i], first[i]);
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(threads_share_a_model_in_eval_mode) {
  HyenaMoeLM model(tiny());
  model.eval();
  const Tensor tokens = some_tokens(4, 21);
  const Tensor expected = model.last_logits(tokens);
  std::vector<Tensor> results(4);
  std::vector<std::thread> threads;
  for (Tensor& result : results) {
    threads.emplace_back([&] {
      const NoGrad no_grad;
      for (int i = 0; i < 5; ++i) result = model.last_logits(tokens);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tensor& result : results) check_same_bits(result, expected);
}

BOOST_AUTO_TEST_CASE(an_untrained_model_is_undecided_and_its_experts_are_even) {
  const HyenaMoeLM model(tiny());
  const LossOutput out = model.loss(some_tokens(4, 32), some_tokens(4, 32, 17));
  BOOST_TEST(std::abs(out.loss.item<double>() - std::log(20.0)) < 0.05);
  BOOST_TEST(std::abs(out.aux.item<double>() - 1) < 0.1);
  BOOST_TEST(out.stats.size() == 2u);
  BOOST_TEST(sum(out.stats[0].counts).item<int64_t>() == 4 * 32 * 2);
}

BOOST_AUTO_TEST_CASE(the_z_loss_counts_while_training_only) {
  HyenaMoeLMConfig c = tiny();
  HyenaMoeLM plain(c);
  c.z_loss = 0.5;
  HyenaMoeLM with(c);
  const Tensor tokens = some_tokens(2, 8);
  BOOST_TEST(with.loss(tokens, tokens).loss.item<double>() > plain.loss(tokens, tokens).loss.item<double>() + 0.1);
  plain.eval();
  with.eval();
  check_same_bits(with.loss(tokens, tokens).loss, plain.loss(tokens, tokens).loss);
}

BOOST_AUTO_TEST_CASE(initial_weights_are_gpt2s_or_each_layers_own) {
  HyenaMoeLMConfig c = tiny();
  c.width = 64;
  c.hidden = 64;
  const HyenaMoeLM model(c);
  for (const auto& [name, tensor] : model.named_parameters()) {
    const bool residual = name.ends_with("out_proj.weight") || name.ends_with("w_down");
    const bool map = name.ends_with("weight") && tensor.rank() == 2;
    const bool skip_or_short = name.ends_with("filter_fn.bias") || name.ends_with("short_filter.bias");
    const double n = static_cast<double>(tensor.numel());
    const double expected = residual ? 0.01 : map || name.ends_with("w_up") ? 0.02 : 0;
    BOOST_TEST_CONTEXT(name) {
      if (expected > 0) BOOST_TEST(std::abs(deviation(tensor) / expected - 1) < 4 / std::sqrt(2 * n));
      if (name.ends_with("bias") && !skip_or_short) BOOST_TEST(deviation(tensor) == 0);
      if (skip_or_short) BOOST_TEST(deviation(tensor) > 0.1);
    }
  }
  c.initial_weights = InitialWeights::pytorch;
  BOOST_TEST(std::abs(deviation(parameter_of(HyenaMoeLM(c), "embedding.weight")) - 1) < 0.1);
}

BOOST_AUTO_TEST_CASE(more_layers_leave_the_first_ones_as_they_were) {
  HyenaMoeLMConfig c = tiny();
  c.initial_weights = InitialWeights::pytorch;
  const HyenaMoeLM two(c);
  c.layers = 3;
  const HyenaMoeLM three(c);
  for (const auto& [name, tensor] : two.named_parameters()) check_same_bits(tensor, parameter_of(three, name));
}

BOOST_AUTO_TEST_CASE(a_saved_model_comes_back_with_its_bits) {
  const tests::TemporaryFolder folder;
  for (const bool tied : {false, true}) {
    HyenaMoeLMConfig c = tiny();
    c.tie_head = tied;
    const HyenaMoeLM model(c);
    train::save(model, folder / "model.safetensors");
    c.initial_weights = InitialWeights::pytorch;
    HyenaMoeLM other(c);
    train::load(other, folder / "model.safetensors");
    const Tensor tokens = some_tokens(2, 9);
    check_same_bits(other(tokens), model(tokens));
    const auto stored = train::load_safetensors(folder / "model.safetensors").tensors;
    const size_t aliases = tied ? 5 : 4;  // two sine layers more in each block, and the head
    BOOST_TEST(stored.size() + aliases == model.state_dict().size());
    BOOST_TEST(model.num_parameters() == HyenaMoeLM(tiny()).num_parameters() - (tied ? 20 * 16 : 0));
  }
  HyenaMoeLMConfig c = tiny();
  c.experts = 5;
  HyenaMoeLM wider(c);
  check_throws<ValueError>(
      [&] { train::load(wider, folder / "model.safetensors"); },
      "layers.1.moe.router.weight: the model has f32 [5, 16] cpu:0, the file has f32 [4, 16] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_tied_head_gets_both_gradients) {
  HyenaMoeLMConfig c = tiny();
  c.tie_head = true;
  const HyenaMoeLM model(c);
  backward(model.loss(some_tokens(1, 6), full({1, 6}, 19, DType::i64)).loss);
  const Tensor rows = amax(abs(parameter_of(model, "embedding.weight").grad()), {1});
  BOOST_TEST(select(rows, 0, 19).item<double>() > 0);  // a target only
  BOOST_TEST(select(rows, 0, 0).item<double>() > 0);   // a token
}

BOOST_AUTO_TEST_CASE(bf16_weights_give_nearly_the_same_loss) {
  HyenaMoeLM model(tiny());
  const Tensor tokens = some_tokens(2, 32), targets = some_tokens(2, 32, 17);
  const LossOutput exact = model.loss(tokens, targets);
  model.to(DType::bf16, [](const std::string& name) {
    return name.find("norm") != name.npos || name.find("router") != name.npos || name.find("filter") != name.npos;
  });
  const LossOutput rounded = model.loss(tokens, targets);
  BOOST_TEST(std::abs(rounded.loss.item<double>() / exact.loss.item<double>() - 1) < 0.01);
  backward(rounded.loss + rounded.aux * 0.02);
  for (const auto& [name, tensor] : model.named_parameters()) {
    BOOST_TEST(count_nonfinite(tensor.grad()) == 0, name);
    BOOST_TEST((tensor.grad().dtype() == DType::f32), name);
  }
}

BOOST_AUTO_TEST_CASE(training_learns_a_rhythm) {
  const HyenaMoeLM model(tiny());
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 4 * 25; ++i) ids.push_back((i % 25 + i / 25) % 5 * 3);
  const Tensor text = Tensor::from(ids, {4, 25});
  const Tensor tokens = contiguous(narrow(text, 1, 0, 24)), targets = contiguous(narrow(text, 1, 1, 24));
  train::AdamW optimizer(model);
  double last = 0;
  for (int step = 0; step < 60; ++step) {
    const LossOutput out = model.loss(tokens, targets);
    optimizer.zero_grad();
    backward(out.loss + out.aux * 0.02);
    clip_grad_norm(optimizer, 1.0);
    optimizer.step(1e-2);
    last = out.loss.item<double>();
  }
  set_random_step(0);
  BOOST_TEST(last < 0.1);
}

BOOST_AUTO_TEST_CASE(inputs_that_do_not_fit_are_named) {
  const HyenaMoeLM model(tiny());
  check_throws<ShapeError>([&] { model(reshape(some_tokens(1, 4), {4})); },
                           "HyenaMoeLM: needs tokens (B, T), got i64 [4] cpu:0");
  check_throws<ShapeError>([&] { model.loss(some_tokens(1, 4), some_tokens(1, 5)); },
                           "must have one shape (B, T): tokens i64 [1, 4] cpu:0, targets i64 [1, 5] cpu:0");
  check_throws<ValueError>([&] { model(some_tokens(1, 33)); }, "33 time steps exceed l_max 32");
  check_throws<IndexError>([&] { model(full({1, 4}, 20, DType::i64)); }, "20");
  check_throws<ShapeError>([&] { model.last_logits(some_tokens(1, 0)); }, "T >= 1, got i64 [1, 0] cpu:0");
  check_throws<ValueError>([] { HyenaMoeLM({.layers = -1}); }, "HyenaMoeLM: layers is -1, must not be negative");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn::models
