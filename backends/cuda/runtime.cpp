// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/runtime.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "backends/cuda/allocator.hpp"
#include "backends/cuda/check.hpp"
#include "backends/cuda/fault.hpp"
#include "backends/cuda/staging.hpp"
#include "core/copy.hpp"

namespace mahia::cuda {
namespace {

struct DeviceState {
  explicit DeviceState(Device device) : allocator(device) {}
  CachingAllocator allocator;
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;           // on the device
  Fault* fault_on_host = nullptr;   // pinned: where a copy of it arrives
  uint64_t* step_offset = nullptr;  // on the device: of recorded kernels; then a zero, of all others
  int multiprocessors = 0;
  StagingRing staging;
  PinnedBlocks pinned;
  std::atomic<bool> recording{false};
  std::thread::id recorder;  // the thread that records
  bool draws = false;        // random numbers, since the recording began
};

// Never destroyed: tensors in static storage may outlive every other object.
alignas(DeviceState) std::byte state_memory[max_devices][sizeof(DeviceState)];
std::array<DeviceState*, max_devices> states{};
std::array<std::once_flag, max_devices> started;
std::mutex sites_mutex;
std::vector<const char*> sites;

int visible_devices(std::string* reason = nullptr) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return std::min(count, max_devices);
  cudaGetLastError();
  if (reason != nullptr) *reason = cudaGetErrorString(status);
  return 0;
}

void start(Device device) {
  std::string reason = "none found";
  const int count = visible_devices(&reason);
  check<DeviceError>(count > 0, device, ": this machine has no CUDA device that can be used: ", reason);
  check<DeviceError>(device.index < count, device, ": this machine has ", count, " CUDA device(s)");
  check_cuda(cudaSetDevice(device.index), "cudaSetDevice");
  auto* state = ::new (state_memory[device.index]) DeviceState(device);
  check_cuda(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking), "cudaStreamCreate");
  check_cuda(cudaDeviceGetAttribute(&state->multiprocessors, cudaDevAttrMultiProcessorCount, device.index),
             "cudaDeviceGetAttribute");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&state->fault), sizeof(Fault)), "cudaMalloc");
  check_cuda(cudaMallocHost(reinterpret_cast<void**>(&state->fault_on_host), sizeof(Fault)), "cudaMallocHost");
  check_cuda(cudaMemset(state->fault, 0, sizeof(Fault)), "cudaMemset");
  *state->fault_on_host = {};
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&state->step_offset), 2 * sizeof(uint64_t)), "cudaMalloc");
  check_cuda(cudaMemset(state->step_offset, 0, 2 * sizeof(uint64_t)), "cudaMemset");
  states[static_cast<size_t>(device.index)] = state;
}

DeviceState& state_of(Device device) {
  const auto i = static_cast<size_t>(device.index);
  check<DeviceError>(device.index >= 0 && device.index < max_devices, device, ": device numbers end at ",
                     max_devices - 1);
  std::call_once(started[i], start, device);
  thread_local int current = -1;
  if (current != device.index) {
    check_cuda(cudaSetDevice(device.index), "cudaSetDevice");
    current = device.index;
  }
  return *states[i];
}

const char* site_name(int site) {
  const std::scoped_lock lock(sites_mutex);
  return sites[static_cast<size_t>(site)];
}

[[noreturn]] void throw_fault(const Fault& fault) {
  const char* op = site_name(fault.site);
  switch (fault.code) {
    case FaultCode::nonfinite:
      fail<ValueError>(op, " ", fault.position, " is ", std::bit_cast<double>(fault.value), ", must be finite");
    case FaultCode::offsets:
      fail<IndexError>(op, ": offsets must ascend from 0 to ", fault.limit, ": offset ", fault.position, " is ",
                       fault.value);
    case FaultCode::expert:
      fail<IndexError>(op, ": expert ", fault.value, " at position ", fault.position, " is outside [0, ", fault.limit,
                       ")");
    case FaultCode::target:
      fail<IndexError>(op, ": target ", fault.value, " at position ", fault.position, " is outside [0, ", fault.limit,
                       ")");
    case FaultCode::rows:
      fail<ValueError>(op, ": ", fault.value, " pairs have an expert, more than the ", fault.limit, " rows");
    default:
      fail<IndexError>(op, ": index ", fault.value, " at position ", fault.position, " is outside [0, ", fault.limit,
                       ")");
  }
}

// A launchable graph. Its kernels add `step_offset` to the random step that they were recorded with.
class CudaGraph final : public RecordedGraph {
 public:
  CudaGraph(Device device, cudaGraphExec_t graph, bool draws) : device_(device), graph_(graph), draws_(draws) {}
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void replay(uint64_t step_offset) override {
    DeviceState& state = state_of(device_);
    if (draws_) {
      kernels::FewBytes bytes{};
      std::memcpy(bytes.data(), &step_offset, sizeof(step_offset));
      kernels::set_bytes(View(state.step_offset, {1}, {1}, DType::i64, device_), bytes);
    }
    check_cuda(cudaGraphLaunch(graph_, state.stream), "cudaGraphLaunch");
    add_launches(1);
  }

 private:
  Device device_;
  cudaGraphExec_t graph_;
  bool draws_;  // its kernels read the random step
};

// Returns when the bytes have been taken.
void upload(DeviceState& state, void* dst, const void* src, size_t bytes) {
  for (size_t at = 0; at < bytes; at += StagingRing::slot_bytes) {
    state.staging.copy(static_cast<char*>(dst) + at, static_cast<const char*>(src) + at,
                       std::min(StagingRing::slot_bytes, bytes - at), state.stream);
  }
}

class CudaRuntime final : public DeviceRuntime {
 public:
  int device_count() const override { return visible_devices(); }

  void* allocate(Device device, size_t bytes) override { return state_of(device).allocator.allocate(bytes); }
  void deallocate(Device device, void* data, size_t) noexcept override {
    states[static_cast<size_t>(device.index)]->allocator.deallocate(data);
  }
  void* allocate_scratch(Device device, size_t bytes) override { return allocate(device, bytes); }
  void deallocate_scratch(Device device, void* data, size_t bytes) noexcept override {
    deallocate(device, data, bytes);
  }

  // To the device: returns when the host's bytes have been read. To the host: waits.
  void copy(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes) override {
    if (bytes == 0) return;
    const bool to_host = dst_device.type == DeviceType::cpu;
    const Device device = to_host ? src_device : dst_device;
    DeviceState& state = state_of(device);
    check<CaptureError>(!state.recording || src_device.type == dst_device.type,
                        "capture: a step that is recorded cannot ", to_host ? "read values on" : "take values from",
                        " the host (", bytes, " bytes)");
    if (src_device.type == DeviceType::cpu) return upload(state, dst, src, bytes);
    const bool between = src_device.type == dst_device.type && src_device.index != dst_device.index;
    if (between) synchronize(src_device);
    check_cuda(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream_of(device)), "copy");
    if (to_host || between) synchronize(device);
  }

  // Also the place where a fault of the device's kernels comes to light.
  void synchronize(Device device) override {
    DeviceState& state = state_of(device);
    check<CaptureError>(!state.recording, "capture: a step that is recorded cannot wait for the device");
    check_cuda(cudaMemcpyAsync(state.fault_on_host, state.fault, sizeof(Fault), cudaMemcpyDeviceToHost, state.stream),
               "synchronize");
    check_cuda(cudaStreamSynchronize(state.stream), "synchronize");
    add_host_wait();
    check<DeviceError>(state.allocator.overwritten_guards() == 0, device, ": a kernel wrote beyond the end of ",
                       state.allocator.overwritten_guards(), " blocks of memory");
    const Fault fault = *state.fault_on_host;
    if (fault.code == FaultCode::none) [[likely]]
      return;
    check_cuda(cudaMemsetAsync(state.fault, 0, sizeof(Fault), state.stream), "synchronize");
    throw_fault(fault);
  }

  size_t piece_bytes(Device) const override { return size_t{512} << 20; }  // large products, few launches
  MemoryStats memory_stats(Device device) const override { return state_of(device).allocator.stats(); }
  void reset_peak_memory_stats(Device device) override { state_of(device).allocator.reset_peak(); }
  void empty_cache(Device device) override {
    DeviceState& state = state_of(device);
    check<CaptureError>(!state.recording, "capture: no memory can be given back while a step is recorded");
    state.allocator.empty_cache();
  }
  void set_memory_limit(Device device, size_t bytes) override { state_of(device).allocator.set_limit(bytes); }

  void* allocate_pinned(Device device, size_t bytes) override { return state_of(device).pinned.allocate(bytes); }
  void release_pinned(Device device, void* data) noexcept override {
    states[static_cast<size_t>(device.index)]->pinned.release(data);
  }
  void copy_pinned(void* dst, Device device, const void* src, size_t bytes) override {
    check_cuda(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, stream_of(device)), "copy");
  }

  bool can_record(Device device) const override { return state_of(device).allocator.is_caching(); }
  int new_pool(Device device) override { return state_of(device).allocator.new_pool(); }
  void use_pool(Device device, int pool) override { state_of(device).allocator.use_pool(pool); }
  void release_pool(Device device, int pool) noexcept override {
    states[static_cast<size_t>(device.index)]->allocator.release_pool(pool);
  }

  std::unique_ptr<RecordedGraph> record(Device device, const std::function<void()>& work) override {
    DeviceState& state = state_of(device);
    check_cuda(cudaStreamBeginCapture(state.stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    state.recorder = std::this_thread::get_id();
    state.recording = true;
    state.allocator.set_recording(true);
    state.draws = false;
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      state.recording = false;
      state.allocator.set_recording(false);
      cudaStreamEndCapture(state.stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    state.recording = false;
    state.allocator.set_recording(false);
    check_cuda(cudaStreamEndCapture(state.stream, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status, "cudaGraphInstantiate");
    return std::make_unique<CudaGraph>(device, executable, state.draws);
  }
};

// Never destroyed either.
struct Registration {
  Registration() {
    alignas(CudaRuntime) static std::byte memory[sizeof(CudaRuntime)];
    register_runtime(DeviceType::cuda, ::new (memory) CudaRuntime);
    const char* wait = std::getenv("MAHIA_SYNC");
    if (wait != nullptr && wait[0] == '1') waiting_after_calls = true;
  }
};
const Registration registration;

}  // namespace

cudaStream_t stream_of(Device device) {
  DeviceState& state = state_of(device);
  check<CaptureError>(!state.recording || state.recorder == std::this_thread::get_id(), "capture: ", device,
                      " is used by a second thread while a step is recorded");
  return state.stream;
}
int multiprocessors(Device device) { return state_of(device).multiprocessors; }
const uint64_t* step_offset_of(Device device) {
  DeviceState& state = state_of(device);
  if (!state.recording) return state.step_offset + 1;
  state.draws = true;
  return state.step_offset;
}
Fault* fault_of(Device device) { return state_of(device).fault; }

int fault_site(const char* op) {
  const std::scoped_lock lock(sites_mutex);
  for (size_t i = 0; i < sites.size(); ++i) {
    if (sites[i] == op) return static_cast<int>(i);
  }
  sites.push_back(op);
  return static_cast<int>(sites.size()) - 1;
}

}  // namespace mahia::cuda
