// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "conv1d.hpp"
#include "dropout.hpp"
#include "hyena_filter.hpp"
#include "hyena_state.hpp"
#include "linear.hpp"

namespace mahia::nn {

struct HyenaConfig {
  int64_t width = 64;             // D
  int64_t l_max = 1024;           // the longest input
  int64_t order = 2;              // N: order - 1 long convolutions, order gates
  int64_t short_filter = 3;       // taps K of the depthwise causal convolution
  double dropout = 0;             // on the gated input of each long convolution
  HyenaFilterConfig filter = {};  // its l_max, channels and order are taken from here
};

// The Hyena operator (Poli et al. 2023, equation 4): with x^0 ... x^{N-1}, v = short_filter(in_proj(u)),
//   v <- h^(o) conv (v x^{N-1-o}) + skip^(o) v x^{N-1-o}  for o = 0 .. N-2,   y = out_proj(v x^0).
// Causal: y at time t depends on u up to t.
class HyenaOperator : public Module {
 public:
  explicit HyenaOperator(const HyenaConfig& c);
  Tensor operator()(const Tensor& u) const;  // (B, T, D) -> (B, T, D), 1 <= T <= l_max
  // The state of `batch` sequences that are empty and may grow to `longest` inputs.
  HyenaState start(int64_t batch, int64_t longest) const;
  // Appends u (B, T, D), any T >= 1 to empty sequences and then T = 1, and gives the outputs (B, T, D): those of the
  // whole sequence with its convolutions computed as `dyadic`, in O(T log^2 T) altogether. Records no gradient. Throws
  // ShapeError, and ValueError while training and beyond `longest`.
  Tensor advance(const Tensor& u, HyenaState& state) const;
  std::string summary() const override;

 private:
  HyenaConfig config_;
  Linear &in_proj_, &out_proj_;
  Conv1d& short_filter_;
  HyenaFilter& filter_fn_;
  Dropout& dropout_;
};

}  // namespace mahia::nn
