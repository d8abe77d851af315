// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "conv1d.hpp"
#include "dropout.hpp"
#include "hyena_documents.hpp"
#include "hyena_filter.hpp"
#include "hyena_signal.hpp"
#include "hyena_state.hpp"
#include "linear.hpp"

namespace mahia::nn {

struct HyenaConfig {
  int64_t width = 64;          // D
  int64_t l_max = 1024;        // the longest input, unless filter.extend_to says more
  int64_t order = 2;           // N: order - 1 long convolutions, order gates
  int64_t num_heads = 1;       // groups of neighbouring channels; all heads share the filters of one
  int64_t inner_factor = 1;    // the recurrence has inner_factor * D channels
  int64_t num_blocks = 1;      // long convolutions begin anew every l_max / num_blocks steps
  int64_t short_filter = 3;    // taps K of the depthwise convolution before the gates; 0: none
  bool outer_mixing = false;   // a channel is gated by the sum of its head's gates, not by its own gate alone
  bool bidirectional = false;  // for encoders: outputs see both sides
  HyenaActivation activation = HyenaActivation::none;
  double dropout = 0;                                  // on the gated input of each long convolution
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;  // of the long convolutions
  HyenaFilterConfig filter = {};                       // its l_max, channels and order are taken from here
};

// What an input (B, T, D) consists of. Neither is needed.
struct HyenaSequence {
  Tensor mask = {};                            // bool (B, T): false where the input is padding, which nothing sees
  const PackedDocuments* documents = nullptr;  // no document sees another; each begins at position 0
};

// The Hyena operator (Poli et al. 2023, equation 4): with x^0 ... x^{N-1}, v = short_filter(in_proj(u)),
//   v <- h^(o) conv (v x^{N-1-o}) + skip^(o) v x^{N-1-o}  for o = 0 .. N-2,   y = out_proj(activation(v x^0)).
// Causal unless bidirectional: y at time t depends on u up to t. docs/hyena.md defines every option.
class HyenaOperator : public Module {
 public:
  explicit HyenaOperator(const HyenaConfig& c);
  // (B, T, D) -> (B, T, D) for T >= 1. Throws ShapeError, and ValueError for convolutions longer than the filters.
  Tensor operator()(const Tensor& u, const HyenaSequence& sequence = {}) const;
  // The state of `batch` sequences that are empty and may grow to `longest` inputs. Throws ValueError for operators
  // with several blocks or two directions.
  HyenaState start(int64_t batch, int64_t longest) const;
  // Appends u (B, T, D), any T >= 1 to empty sequences and then T = 1, and gives the outputs (B, T, D): those of the
  // whole sequence with its convolutions computed as `dyadic`, in O(T log^2 T) altogether. Records no gradient. Throws
  // ShapeError, and ValueError while training and beyond `longest`.
  Tensor advance(const Tensor& u, HyenaState& state) const;
  std::string summary() const override;

 private:
  struct Filters {
    Tensor forward, backward;  // (inner_factor D, N-1, taps); backward only where bidirectional
  };
  void check_operands(const Tensor& u, const HyenaSequence& sequence) const;
  Filters filters(int64_t time) const;
  Tensor recurrence(const Tensor& z, const Tensor& mask, const Filters& filters) const;
  bool filters_as_it_reads(const Tensor& z) const;
  Tensor fused_recurrence(const Tensor& z, const Filters& filters) const;
  Tensor document_by_document(const Tensor& z, const PackedDocuments& documents, const Tensor& mask) const;
  Tensor convolved(const Tensor& v, const Tensor& gate, const Tensor& gate_after, const Filters& filters,
                   int64_t o) const;
  Tensor gate_of(const Tensor& x) const;
  Tensor skip(int64_t o) const;
  int64_t block_length(int64_t time) const;
  std::vector<LongConvState> convolutions(int64_t batch, int64_t longest) const;
  Tensor advance_in_block(const Tensor& u, bool begins_block, HyenaState& state) const;
  int64_t reach() const;

  HyenaConfig config_;
  Linear &in_proj_, &out_proj_;
  Conv1d* short_filter_;
  HyenaFilter& filter_fn_;
  HyenaFilter* reverse_filter_fn_;
  Dropout& dropout_;
};

}  // namespace mahia::nn
