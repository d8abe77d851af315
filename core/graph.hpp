// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "runtime.hpp"

namespace mahia {

// A step that is the same work each time, recorded once as a graph of the device and then replayed with one call.
//
// The first two calls of run() do the step as usual, in memory that the graph keeps to itself, and build what is built
// once; the third one records it and replays the record; later ones replay. So the step's tensors stay where they are:
// what changes from step to step must come in through tensors that exist before, and go out through tensors of the
// step. The step must not wait for the device or read host memory: a CaptureError says which copy did, and the step
// cannot be captured.
class StepGraph {
 public:
  // Throws CaptureError on a device without graphs, and on one whose memory is not cached (MAHIA_CUDA_CACHE=0).
  explicit StepGraph(Device device);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Returns false when the step's host code ran, true when a record of it was replayed without that code. Throws
  // CaptureError inside the step of another graph.
  bool run(const std::function<void()>& step);
  // Whether the calling thread is inside a run(). What a step computes then must not be kept for later steps, nor taken
  // from earlier ones: a replay would go on reading it whatever has become of it.
  static bool is_running();

 private:
  Device device_;
  int pool_ = 0;
  int calls_ = 0;
  uint64_t recorded_step_ = 0;
  std::unique_ptr<RecordedGraph> recorded_;
};

}  // namespace mahia
