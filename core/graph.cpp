// SPDX-License-Identifier: Apache-2.0
#include "core/graph.hpp"

#include "core/random.hpp"

namespace mahia {
namespace {

constexpr int warm_up_calls = 2;

thread_local bool running = false;

// Requests for memory are served from a pool while this lives.
class InPool {
 public:
  InPool(Device device, int pool) : device_(device) {
    runtime(device.type).use_pool(device, pool);
    running = true;
  }
  ~InPool() {
    running = false;
    runtime(device_.type).use_pool(device_, 0);
  }
  InPool(const InPool&) = delete;
  InPool& operator=(const InPool&) = delete;

 private:
  Device device_;
};

}  // namespace

StepGraph::StepGraph(Device device) : device_(device) {
  check<CaptureError>(runtime(device.type).can_record(device), device, ": no step can be recorded here");
  pool_ = runtime(device.type).new_pool(device);
}

StepGraph::~StepGraph() {
  recorded_.reset();
  runtime(device_.type).release_pool(device_, pool_);
}

bool StepGraph::run(const std::function<void()>& step) {
  check<CaptureError>(!running, "StepGraph: a step cannot run inside another one, which would keep its memory");
  if (recorded_) {
    recorded_->replay(random_step() - recorded_step_);
    return true;
  }
  const InPool in_pool(device_, pool_);
  if (calls_++ < warm_up_calls) {
    step();
  } else {
    recorded_step_ = random_step();
    recorded_ = runtime(device_.type).record(device_, step);
    recorded_->replay(0);
  }
  return false;
}

bool StepGraph::is_running() { return running; }

}  // namespace mahia
