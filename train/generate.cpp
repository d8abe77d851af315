// SPDX-License-Identifier: Apache-2.0
#include "train/generate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "core/random.hpp"

namespace mahia::train {
namespace {

// Draws a byte from logits over the vocabulary with the uniform number u.
int64_t sample(const std::vector<double>& logits, const GenerateOptions& o, double u) {
  std::vector<int64_t> order(256);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (o.temperature == 0) return order[0];
  if (o.top_k > 0 && o.top_k < 256) order.resize(static_cast<size_t>(o.top_k));
  std::vector<double> mass;
  double total = 0;
  for (const int64_t byte : order) {
    total += std::exp((logits[static_cast<size_t>(byte)] - logits[static_cast<size_t>(order[0])]) / o.temperature);
    mass.push_back(total);
  }
  const auto hit = std::upper_bound(mass.begin(), mass.end(), u * total);
  return order[static_cast<size_t>(std::min<std::ptrdiff_t>(hit - mass.begin(), std::ssize(order) - 1))];
}

}  // namespace

std::string generate(const nn::models::HyenaMoeLM& model, const std::string& prompt, const GenerateOptions& o,
                     const std::function<void(char)>& on_byte) {
  check<ValueError>(!prompt.empty(), "generate: the prompt is empty");
  check<ValueError>(o.tokens >= 0 && o.temperature >= 0 && o.top_k >= 0, "generate: tokens ", o.tokens,
                    ", temperature ", o.temperature, " and top_k ", o.top_k, " must not be negative");
  check<ValueError>(model.config().vocab >= 256, "generate: the model's vocabulary of ", model.config().vocab,
                    " is smaller than 256 bytes");
  const NoGrad no_grad;
  std::vector<int64_t> window;
  for (const char c : prompt) window.push_back(static_cast<unsigned char>(c));
  const auto longest = static_cast<size_t>(model.config().l_max);
  const RandomCall key{o.seed, 0, 0};
  std::string text;
  for (int64_t i = 0; i < o.tokens; ++i) {
    if (window.size() > longest) window.erase(window.begin(), window.end() - static_cast<std::ptrdiff_t>(longest));
    const Tensor tokens = Tensor::from(window, {1, static_cast<int64_t>(window.size())});
    const std::vector<double> logits = model.last_logits(tokens).to_vector<double>();
    const auto words = random_words(key, static_cast<uint64_t>(i));
    const int64_t byte = sample(logits, o, static_cast<double>(uniform(words[0])));
    window.push_back(byte);
    text.push_back(static_cast<char>(byte));
    if (on_byte) on_byte(text.back());
  }
  return text;
}

}  // namespace mahia::train
