// SPDX-License-Identifier: Apache-2.0
#include "train/step_state.hpp"

#include <array>

#include "core/copy.hpp"
#include "core/factory.hpp"

namespace mahia::train {
namespace {

Tensor element(const Tensor& values, int64_t i) { return {values.storage(), {}, {}, i, values.dtype()}; }

}  // namespace

StepState::StepState(Device device) : aux(zeros({}, DType::f32, device)), values_(zeros({3}, DType::f64, device)) {
  lr = element(values_, 0);
  step = element(values_, 2);
}

const StepState& StepState::advance(int64_t number, const Schedules& schedules) {
  host_step = number;
  host_lr = schedules.lr.at(number);
  host_aux = schedules.aux.at(number);
  const std::array<double, 3> now = {host_lr, host_aux, static_cast<double>(number + 1)};
  overwrite(Tensor::from(std::span<const double>(now), {3}), values_);
  overwrite(element(values_, 1), aux);
  return *this;
}

}  // namespace mahia::train
