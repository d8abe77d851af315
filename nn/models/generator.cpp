// SPDX-License-Identifier: Apache-2.0
#include "nn/models/generator.hpp"

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia::nn::models {

Generator::Generator(const CausalLM& model, int64_t batch, int64_t longest)
    : model_(model), batch_(batch), longest_(longest) {
  check<ValueError>(!model.training(), "Generator: the model is in training mode; call eval() first");
  check<ValueError>(batch >= 1, "Generator: batch is ", batch, ", must be at least 1");
  check<ValueError>(longest >= 1 && longest <= model.longest(), "Generator: longest is ", longest,
                    ", must be from 1 to the model's ", model.longest());
  window_ = empty({batch, longest}, DType::i64, model.parameters().front().device());
  state_ = model.start(batch, longest);
}

Tensor Generator::open_window(const Tensor& tokens, int64_t begin) {
  if (position_ > begin_) state_ = model_.start(batch_, longest_);
  begin_ = begin;
  position_ = begin + tokens.size(1);
  overwrite(tokens, narrow(window_, 1, 0, tokens.size(1)));
  return tokens.size(1) > 0 ? model_.advance(narrow(window_, 1, 0, tokens.size(1)), state_) : Tensor();
}

Tensor Generator::prefill(const Tensor& tokens) {
  check<ValueError>(position_ == 0, "Generator: prefill comes first; ", position_, " tokens were read already");
  check<ShapeError>(tokens.rank() == 2 && tokens.size(0) == batch_ && tokens.size(1) >= 1,
                    "Generator: prefill needs tokens (B, T) with B = ", batch_, ", T >= 1, got ", tokens);
  const int64_t time = tokens.size(1), stride = longest_ - longest_ / 2;
  const int64_t windows = time > longest_ ? (time - longest_ + stride - 1) / stride : 0, begin = windows * stride;
  return open_window(narrow(tokens, 1, begin, time - begin), begin);
}

Tensor Generator::step(const Tensor& tokens) {
  check<ShapeError>(tokens.shape() == Shape{batch_}, "Generator: step needs tokens (B) with B = ", batch_, ", got ",
                    tokens);
  if (position_ - begin_ == longest_) {
    const int64_t kept = longest_ / 2, stride = longest_ - kept;
    open_window(clone(narrow(window_, 1, stride, kept)), begin_ + stride);
  }
  const Tensor place = narrow(window_, 1, position_ - begin_, 1);
  overwrite(unsqueeze(tokens, 1), place);
  ++position_;
  return model_.advance(place, state_);
}

}  // namespace mahia::nn::models
