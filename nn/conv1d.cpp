// SPDX-License-Identifier: Apache-2.0
#include "nn/conv1d.hpp"

#include "nn/init.hpp"

namespace mahia::nn {

Conv1d::Conv1d(int64_t in, int64_t out, int64_t taps, const Conv1dOptions& options, bool bias) : options_(options) {
  check<ValueError>(
      in >= 1 && out >= 1 && taps >= 1 && options.groups >= 1 && in % options.groups == 0 && out % options.groups == 0,
      "Conv1d: in ", in, ", out ", out, ", taps ", taps, " and groups ", options.groups, " do not fit");
  const int64_t fan_in = in / options.groups * taps;
  weight_ = parameter("weight", init::fan_in_uniform({out, in / options.groups, taps}, fan_in, init_call("weight")));
  if (bias) bias_ = parameter("bias", init::fan_in_uniform({out}, fan_in, init_call("bias")));
}

Tensor Conv1d::operator()(const Tensor& x) const { return conv1d(x, weight_, bias_, options_); }

std::string Conv1d::summary() const {
  return message(weight_.size(1) * options_.groups, " -> ", weight_.size(0), ", taps ", weight_.size(2), ", groups ",
                 options_.groups);
}

}  // namespace mahia::nn
