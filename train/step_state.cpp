// SPDX-License-Identifier: Apache-2.0
#include "train/step_state.hpp"

#include <cstring>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/graph.hpp"

namespace mahia::train {
namespace {

// The numbers as they lie on the device.
struct Numbers {
  double lr, step;
  float aux, unused;
};

}  // namespace

StepState::StepState(Device device) : values_(zeros({sizeof(Numbers)}, DType::u8, device)) {
  lr = Tensor(values_.storage(), {}, {}, 0, DType::f64);
  step = Tensor(values_.storage(), {}, {}, 1, DType::f64);
  aux = Tensor(values_.storage(), {}, {}, 4, DType::f32);
}

const StepState& StepState::advance(int64_t number, const Schedules& schedules) {
  check<CaptureError>(!StepGraph::is_running(),
                      "StepState: advance() inside a step that is captured: a replay would see step ", number,
                      " for ever; call it before StepGraph::run");
  host_step = number;
  host_lr = schedules.lr.at(number);
  host_aux = schedules.aux.at(number);
  const Numbers now{host_lr, static_cast<double>(number + 1), static_cast<float>(host_aux), 0};
  kernels::FewBytes bytes;
  static_assert(sizeof(now) <= sizeof(bytes));
  std::memcpy(bytes.data(), &now, sizeof(now));
  kernels::set_bytes(values_.mutable_view(), bytes);
  return *this;
}

}  // namespace mahia::train
