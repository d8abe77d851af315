// SPDX-License-Identifier: Apache-2.0
// A model that writes: its logits token by token against those of the whole sequence, and what is drawn from them.
#include <boost/test/unit_test.hpp>

#include "core/factory.hpp"
#include "nn/models/generator.hpp"
#include "nn/models/hyena_lm.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"
#include "train/generate.hpp"
#include "train/precision.hpp"

namespace mahia::train {
namespace {

using nn::models::Generator;
using nn::models::HyenaMoeLM;
using nn::models::HyenaMoeLMConfig;
using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;
using Tokens = std::vector<int64_t>;

HyenaMoeLMConfig small(int64_t order = 2, int64_t l_max = 150) {
  return {.vocab = 19,
          .width = 8,
          .layers = 2,
          .l_max = l_max,
          .order = order,
          .filter = {.embedding = 5, .hidden = 8, .sine_frequency = 1},
          .experts = 4,
          .hidden = 8,
          .initial_weights = nn::models::InitialWeights::pytorch};
}

// A model that can write.
struct Writer : HyenaMoeLM {
  explicit Writer(const HyenaMoeLMConfig& c) : HyenaMoeLM(c) { eval(); }
};

// `count` tokens below 19 that differ from row to row.
Tokens some_tokens(int64_t row, int64_t count) {
  Tokens tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back((i * i * 7 + i * row + 3 * row) % 19);
  return tokens;
}

Tensor some_rows(int64_t rows, int64_t count) {
  Tokens all;
  for (int64_t row = 0; row < rows; ++row) {
    const Tokens tokens = some_tokens(row, count);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return Tensor::from(all, {rows, count});
}

Tensor column(const Tensor& tokens, int64_t t) { return contiguous(select(tokens, 1, t)); }

// The logits (B, V) after the first T0, T0 + 1, ... T tokens as a generator gives them.
std::vector<Tensor> decoded(const nn::models::CausalLM& model, const Tensor& tokens, int64_t prefilled) {
  Generator generator(model, tokens.size(0), tokens.size(1));
  std::vector<Tensor> logits;
  if (prefilled > 0) logits.push_back(generator.prefill(narrow(tokens, 1, 0, prefilled)));
  for (int64_t t = prefilled; t < tokens.size(1); ++t) logits.push_back(generator.step(column(tokens, t)));
  return logits;
}

BOOST_AUTO_TEST_SUITE(generation)

BOOST_AUTO_TEST_CASE(token_by_token_gives_the_logits_of_the_whole_sequence) {
  for (const int64_t order : {2, 3}) {
    const Writer model(small(order));
    const Tensor tokens = some_rows(3, 150), whole = model(tokens);
    for (const int64_t prefilled : {0, 1, 31, 64, 100, 149}) {
      BOOST_TEST_CONTEXT("order " << order << ", " << prefilled << " tokens at once") {
        const std::vector<Tensor> logits = decoded(model, tokens, prefilled);
        for (size_t i = 0; i < logits.size(); ++i) {
          const int64_t t = std::max<int64_t>(prefilled, 1) - 1 + static_cast<int64_t>(i);
          check_near(logits[i], column(whole, t), 1e-5, message("logits after token ", t));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_model_without_experts_writes_too) {
  nn::models::HyenaLM model({.vocab = 19, .width = 8, .l_max = 80});
  model.eval();
  const Tensor tokens = some_rows(2, 80), whole = model(tokens);
  const std::vector<Tensor> logits = decoded(model, tokens, 5);
  for (size_t i = 0; i < logits.size(); ++i) {
    const int64_t t = 4 + static_cast<int64_t>(i);
    check_near(logits[i], column(whole, t), 1e-5, message("logits after token ", t));
  }
  nn::models::HyenaLM of_real_inputs({.real_inputs = 3});
  of_real_inputs.eval();
  check_throws<ValueError>([&] { Generator(of_real_inputs, 1, 8); }, "a model of real inputs generates no tokens");
}

BOOST_AUTO_TEST_CASE(with_dyadic_convolutions_every_bit_is_that_of_the_whole_sequence) {
  for (const int64_t order : {2, 3}) {
    for (const bool with_options : {false, true}) {
      HyenaMoeLMConfig c = small(order);
      c.algorithm = ConvAlgorithm::dyadic;
      if (with_options) {
        c.num_heads = 2;
        c.inner_factor = 2;
        c.short_filter = order == 2 ? 0 : 5;
        c.outer_mixing = true;
        c.activation = nn::HyenaActivation::gelu;
      }
      Writer model(c);
      for (const bool in_bf16 : {false, true}) {
        if (in_bf16) to_bf16(model);
        const Tensor tokens = some_rows(3, 150), whole = model(tokens);
        for (const int64_t prefilled : {0, 1, 64, 100}) {
          const std::vector<Tensor> logits = decoded(model, tokens, prefilled);
          for (size_t i = 0; i < logits.size(); ++i) {
            const int64_t t = std::max<int64_t>(prefilled, 1) - 1 + static_cast<int64_t>(i);
            check_same_bits(logits[i], column(whole, t));
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(how_many_tokens_come_at_once_changes_no_bit) {
  for (const int64_t order : {2, 3}) {
    Writer model(small(order));
    for (const bool in_bf16 : {false, true}) {
      if (in_bf16) to_bf16(model);
      const Tensor tokens = some_rows(3, 150);
      const std::vector<Tensor> all = decoded(model, tokens, 0);
      for (const int64_t prefilled : {1, 63, 64, 65, 100, 150}) {
        const std::vector<Tensor> rest = decoded(model, tokens, prefilled);
        const size_t before = all.size() - rest.size();
        for (size_t i = 0; i < rest.size(); ++i) check_same_bits(rest[i], all[before + i]);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_row_does_not_depend_on_the_others) {
  const Writer model(small());
  const Tensor tokens = some_rows(4, 70);
  const std::vector<Tensor> all = decoded(model, tokens, 9);
  for (const int64_t row : {0, 3}) {
    const std::vector<Tensor> alone = decoded(model, narrow(tokens, 0, row, 1), 9);
    for (size_t i = 0; i < all.size(); ++i) check_same_bits(alone[i], contiguous(narrow(all[i], 0, row, 1)));
  }
}

BOOST_AUTO_TEST_CASE(a_full_window_starts_anew_with_its_last_half) {
  for (const int64_t longest : {1, 2, 7, 16}) {
    const Writer model(small(2, longest));
    const Tensor tokens = some_rows(2, 60);
    Generator stepping(model, 2, longest);
    for (int64_t t = 0, begin = 0; t < 60; ++t) {
      if (t - begin == longest) begin += longest - longest / 2;
      const Tensor logits = stepping.step(column(tokens, t));
      Generator at_once(model, 2, longest);
      BOOST_TEST_CONTEXT("window of " << longest << " at token " << t) {
        check_near(logits, model.last_logits(contiguous(narrow(tokens, 1, begin, t + 1 - begin))), 1e-5, "logits");
        check_near(at_once.prefill(narrow(tokens, 1, 0, t + 1)), logits, 1e-5, "prefilled");
        BOOST_TEST(at_once.position() == t + 1);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(prompts_of_different_lengths_are_continued_as_each_alone) {
  const Writer model(small(2, 40));
  const std::vector<Tokens> prompts = {some_tokens(0, 12), some_tokens(1, 3), some_tokens(2, 55), some_tokens(3, 3)};
  GenerateOptions options{.tokens = 30, .sampling = {.temperature = 0}};
  const auto together = generate(model, prompts, options);
  BOOST_TEST_REQUIRE(together.size() == 4u);
  for (size_t row = 0; row < prompts.size(); ++row) {
    BOOST_TEST(together[row].size() == 30u);
    BOOST_TEST(generate(model, {prompts[row]}, options)[0] == together[row], boost::test_tools::per_element());
  }
  options.sampling.temperature = 3;
  const auto drawn = generate(model, prompts, options), others = generate(model, {prompts[0], prompts[2]}, options);
  BOOST_TEST(drawn[0] == others[0], boost::test_tools::per_element());
  BOOST_TEST((drawn[2] != others[1]));  // another row, other numbers
}

BOOST_AUTO_TEST_CASE(greedy_writing_takes_the_likeliest_token) {
  const Writer model(small());
  Tokens text = some_tokens(1, 5);
  const Tokens added = generate(model, {text}, {.tokens = 20, .sampling = {.temperature = 0}})[0];
  for (const int64_t token : added) {
    const auto logits =
        model.last_logits(Tensor::from(text, {1, static_cast<int64_t>(text.size())})).to_vector<float>();
    BOOST_TEST(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
    text.push_back(token);
  }
}

BOOST_AUTO_TEST_CASE(the_seed_decides_what_is_drawn) {
  const Writer model(small());
  const auto written = [&](uint64_t seed) {
    return generate(model, {some_tokens(0, 4)}, {.tokens = 40, .sampling = {.temperature = 2}, .seed = seed})[0];
  };
  BOOST_TEST((written(1) == written(1)));
  BOOST_TEST((written(1) != written(2)));
}

BOOST_AUTO_TEST_CASE(a_sequence_ends_before_a_stop_token_and_the_others_go_on) {
  const Writer model(small());
  const std::vector<Tokens> prompts = {some_tokens(0, 4), some_tokens(1, 6)};
  GenerateOptions options{.tokens = 60, .sampling = {.temperature = 3}};
  const auto whole = generate(model, prompts, options);
  options.stop = {whole[0][7]};
  const auto at = [&](size_t row) { return std::ranges::find(whole[row], options.stop[0]) - whole[row].begin(); };
  const auto ended = generate(model, prompts, options);
  for (const size_t row : {0, 1}) {
    const Tokens expected(whole[row].begin(), whole[row].begin() + at(row));
    BOOST_TEST(ended[row] == expected, boost::test_tools::per_element());
  }
  BOOST_TEST(ended[0].size() != ended[1].size());
}

BOOST_AUTO_TEST_CASE(each_new_token_is_seen_at_once_and_in_order) {
  const Writer model(small());
  std::vector<Tokens> seen(2);
  std::string order;
  const auto added =
      generate(model, {some_tokens(0, 3), some_tokens(1, 5)}, {.tokens = 4}, [&](size_t row, int64_t token) {
        seen[row].push_back(token);
        order += row == 0 ? 'a' : 'b';
      });
  BOOST_TEST((seen == added));
  BOOST_TEST(order == "aaababbb");  // the longer prompt's two tokens more are read first
  BOOST_TEST(generate(model, {some_tokens(0, 3)}, {.tokens = 0})[0].empty());
}

BOOST_AUTO_TEST_CASE(what_cannot_be_generated_is_named) {
  Writer model(small());
  const std::vector<Tokens> prompt = {{1, 2}};
  check_throws<ValueError>([&] { generate(model, std::vector<Tokens>{}, {}); }, "there is no prompt");
  check_throws<ValueError>([&] { generate(model, std::vector<Tokens>{{1}, {}}, {}); }, "a prompt is empty");
  check_throws<IndexError>(
      [&] {
        generate(model, std::vector<Tokens>{{1, 19}}, {});
      },
      "token 19 of a prompt is not in [0, 19)");
  check_throws<ValueError>([&] { generate(model, prompt, {.tokens = -1}); }, "tokens is -1, must not be negative");
  check_throws<ValueError>([&] { generate(model, prompt, {.longest = 151}); }, "longest is 151");
  check_throws<ValueError>([&] { generate(model, prompt, {.below = 20}); }, "below is 20");
  check_throws<ValueError>([&] { generate(model, "text", byte_vocabulary(), {}); },
                           "the model has 19 tokens, a byte is one of 256");
  check_throws<ValueError>([&] { Generator(model, 0, 5); }, "Generator: batch is 0");
  check_throws<ValueError>([&] { Generator(model, 1, 151); }, "longest is 151, must be from 1 to the model's 150");
  Generator generator(model, 2, 8);
  check_throws<ShapeError>([&] { generator.prefill(some_rows(3, 4)); }, "with B = 2, T >= 1, got i64 [3, 4] cpu:0");
  check_throws<ShapeError>([&] { generator.step(some_rows(2, 1)); }, "step needs tokens (B) with B = 2");
  generator.step(column(some_rows(2, 1), 0));
  check_throws<ValueError>([&] { generator.prefill(some_rows(2, 4)); }, "prefill comes first; 1 tokens were read");
  model.train();
  check_throws<ValueError>([&] { Generator(model, 1, 8); }, "the model is in training mode; call eval() first");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
