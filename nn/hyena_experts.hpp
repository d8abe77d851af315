// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../ops/long_conv.hpp"
#include "conv1d.hpp"
#include "experts.hpp"
#include "hyena_filter.hpp"

namespace mahia::nn {

// What an expert's sequence is.
enum class ExpertSequence : uint8_t {
  masked,  // the whole axis of time, with zeros where another expert has the token: positions stay
  packed,  // the expert's tokens alone, in order, one next to the other
};

struct HyenaExpertsConfig {
  int64_t width = 64;        // D
  int64_t num_experts = 8;   // E
  int64_t l_max = 1024;      // the longest sequence
  int64_t order = 2;         // N: order - 1 long convolutions, order gates
  int64_t short_filter = 3;  // taps of the depthwise convolution before the gates
  ExpertSequence sequence = ExpertSequence::masked;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;  // of the long convolutions
  HyenaFilterConfig filter = {};                       // its l_max, channels and order are taken from here
};

// Experts that are Hyena operators (nn/hyena.hpp) over the sequences of the tokens that they were given: expert e is a
// HyenaOperator whose input is padding wherever e was not chosen, `masked`, or whose input is what remains, `packed`.
// Causal: a token's result depends on the tokens before it that share its expert and its sequence. w_in (E, (N+1) D,
// D), b_in (E, (N+1) D), w_out (E, D, D), b_out (E, D), `short_filter` over all E (N+1) D channels, and `filter_fn`,
// one network of E D filters whose last map has rows of its own for each expert. The maps run over the routed rows
// alone, the convolutions over E B T places in both modes: memory and time of theirs grow with E. As many kernels are
// called for any E. Without tokens, w_out and b_out alone get gradients.
class HyenaExperts : public ExpertStack {
 public:
  explicit HyenaExperts(const HyenaExpertsConfig& c);
  Tensor operator()(const Tensor& tokens, const MoePlan& plan, int64_t sequences) const override;
  std::string summary() const override;

 private:
  // z ((N+1) D channels of each expert, B, T), zero where `there` (E, B, T) is false -> (E D, B, T).
  Tensor recurrence(const Tensor& z, const Tensor& there) const;

  HyenaExpertsConfig config_;
  Tensor w_in_, b_in_, w_out_, b_out_;
  Conv1d& short_filter_;
  HyenaFilter& filter_fn_;
};

}  // namespace mahia::nn
