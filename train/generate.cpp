// SPDX-License-Identifier: Apache-2.0
#include "train/generate.hpp"

#include <algorithm>

#include "core/random.hpp"
#include "nn/models/generator.hpp"

namespace mahia::train {
namespace {

using Tokens = std::vector<int64_t>;

// Uniform in [0, 1), 53 bits.
double uniform_at(uint64_t seed, size_t row, size_t position) {
  const auto words = philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                             static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)},
                            {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>(((uint64_t{words[1]} << 32) | words[0]) >> 11) * 0x1p-53;
}

// One sequence while it grows.
struct Row {
  Tokens tokens;           // the prompt, then what was drawn
  size_t prompt;           // its length
  std::vector<bool> seen;  // per token of the vocabulary
  bool done = false;

  Row(const Tokens& prompt_tokens, int64_t vocab)
      : tokens(prompt_tokens), prompt(tokens.size()), seen(static_cast<size_t>(vocab)) {
    for (const int64_t token : tokens) {
      check<IndexError>(token >= 0 && token < vocab, "generate: token ", token, " of a prompt is not in [0, ", vocab,
                        ")");
      seen[static_cast<size_t>(token)] = true;
    }
  }
  bool draws_at(size_t position) const { return !done && position >= prompt; }
};

void check_options(const nn::models::CausalLM& model, const std::vector<Tokens>& prompts, const GenerateOptions& o) {
  validate(o.sampling);
  check<ValueError>(o.tokens >= 0, "generate: tokens is ", o.tokens, ", must not be negative");
  check<ValueError>(o.below >= 0 && o.below <= model.vocab(), "generate: below is ", o.below,
                    ", must be from 0 to the vocabulary of ", model.vocab());
  check<ValueError>(o.longest >= 0 && o.longest <= model.longest(), "generate: longest is ", o.longest,
                    ", must be from 0 to the model's ", model.longest());
  check<ValueError>(!prompts.empty(), "generate: there is no prompt");
  for (const Tokens& prompt : prompts) check<ValueError>(!prompt.empty(), "generate: a prompt is empty");
}

// The first `length` tokens of every row, (B, length).
Tensor beginnings(const std::vector<Row>& rows, size_t length) {
  Tokens all;
  for (const Row& row : rows) {
    all.insert(all.end(), row.tokens.begin(), row.tokens.begin() + static_cast<std::ptrdiff_t>(length));
  }
  return Tensor::from(all, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(length)});
}

// Draws one token for every row that is past its prompt.
void draw(std::vector<Row>& rows, const Tensor& logits, size_t position, const GenerateOptions& o,
          const std::function<void(size_t, int64_t)>& on_token) {
  const std::vector<float> values = logits.to_vector<float>();
  const size_t vocab = values.size() / rows.size(), below = o.below > 0 ? static_cast<size_t>(o.below) : vocab;
  for (size_t r = 0; r < rows.size(); ++r) {
    Row& row = rows[r];
    if (!row.draws_at(position)) continue;
    const std::span<const float> of_row(values.data() + r * vocab, below);
    const int64_t token = sample(of_row, row.seen, o.sampling, uniform_at(o.seed, r, position));
    row.done = std::ranges::find(o.stop, token) != o.stop.end();
    if (row.done) continue;
    row.tokens.push_back(token);
    row.seen[static_cast<size_t>(token)] = true;
    row.done = static_cast<int64_t>(row.tokens.size() - row.prompt) == o.tokens;
    if (on_token) on_token(r, token);
  }
}

// Each row's token at `position`; what follows the end of a row that is done is read by nobody.
Tensor tokens_at(const std::vector<Row>& rows, size_t position) {
  Tokens next;
  for (const Row& row : rows) next.push_back(row.tokens[std::min(position, row.tokens.size() - 1)]);
  return Tensor::from(next, {static_cast<int64_t>(rows.size())});
}

}  // namespace

std::vector<Tokens> generate(const nn::models::CausalLM& model, const std::vector<Tokens>& prompts,
                             const GenerateOptions& o, const std::function<void(size_t, int64_t)>& on_token) {
  check_options(model, prompts, o);
  std::vector<Row> rows;
  for (const Tokens& prompt : prompts) rows.emplace_back(prompt, model.vocab());
  const auto by_prompt = std::ranges::minmax(rows, {}, &Row::prompt);
  const int64_t most = static_cast<int64_t>(by_prompt.max.prompt) + o.tokens;
  nn::models::Generator generator(model, static_cast<int64_t>(rows.size()),
                                  std::min(most, o.longest > 0 ? o.longest : model.longest()));
  for (Row& row : rows) row.done = o.tokens == 0;
  const auto all_done = [&] { return std::ranges::all_of(rows, &Row::done); };
  size_t position = by_prompt.min.prompt;
  for (Tensor logits; !all_done(); ++position) {
    logits = logits ? generator.step(tokens_at(rows, position - 1)) : generator.prefill(beginnings(rows, position));
    if (std::ranges::any_of(rows, [&](const Row& row) { return row.draws_at(position); })) {
      draw(rows, logits, position, o, on_token);
    }
  }
  std::vector<Tokens> added;
  for (const Row& row : rows)
    added.emplace_back(row.tokens.begin() + static_cast<std::ptrdiff_t>(row.prompt), row.tokens.end());
  return added;
}

std::string generate(const nn::models::CausalLM& model, const std::string& prompt, const Vocabulary& vocabulary,
                     const GenerateOptions& options, const std::function<void(char)>& on_character) {
  check<ValueError>(model.vocab() >= vocabulary.size, "generate: the model has ", model.vocab(), " tokens, a ",
                    vocabulary.unit, " is one of ", vocabulary.size);
  GenerateOptions of_characters = options;
  of_characters.below = std::ssize(vocabulary.characters);
  std::string text;
  generate(model, std::vector<Tokens>{vocabulary.encode(prompt)}, of_characters, [&](size_t, int64_t token) {
    text.push_back(vocabulary.characters[static_cast<size_t>(token)]);
    if (on_character) on_character(text.back());
  });
  return text;
}

}  // namespace mahia::train
