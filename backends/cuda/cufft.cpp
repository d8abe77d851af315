// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cufft.hpp"

#include <cufft.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

#include "backends/cuda/check.hpp"
#include "backends/cuda/runtime.hpp"
#include "core/counters.hpp"
#include "core/runtime.hpp"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

const char* name_of(cufftResult status) {
  switch (status) {
    case CUFFT_SUCCESS:
      return "CUFFT_SUCCESS";
    case CUFFT_INVALID_PLAN:
      return "CUFFT_INVALID_PLAN";
    case CUFFT_ALLOC_FAILED:
      return "CUFFT_ALLOC_FAILED";
    case CUFFT_INVALID_TYPE:
      return "CUFFT_INVALID_TYPE";
    case CUFFT_INVALID_VALUE:
      return "CUFFT_INVALID_VALUE";
    case CUFFT_INTERNAL_ERROR:
      return "CUFFT_INTERNAL_ERROR";
    case CUFFT_EXEC_FAILED:
      return "CUFFT_EXEC_FAILED";
    case CUFFT_SETUP_FAILED:
      return "CUFFT_SETUP_FAILED";
    case CUFFT_INVALID_SIZE:
      return "CUFFT_INVALID_SIZE";
    case CUFFT_UNALIGNED_DATA:
      return "CUFFT_UNALIGNED_DATA";
    case CUFFT_INVALID_DEVICE:
      return "CUFFT_INVALID_DEVICE";
    case CUFFT_NO_WORKSPACE:
      return "CUFFT_NO_WORKSPACE";
    case CUFFT_NOT_IMPLEMENTED:
      return "CUFFT_NOT_IMPLEMENTED";
    case CUFFT_NOT_SUPPORTED:
      return "CUFFT_NOT_SUPPORTED";
    case CUFFT_MISSING_DEPENDENCY:
      return "CUFFT_MISSING_DEPENDENCY";
    case CUFFT_NVRTC_FAILURE:
      return "CUFFT_NVRTC_FAILURE";
    case CUFFT_NVJITLINK_FAILURE:
      return "CUFFT_NVJITLINK_FAILURE";
    default:
      return "unknown";
  }
}

void check_cufft(cufftResult status, const char* what) {
  check<DeviceError>(status == CUFFT_SUCCESS, what, ": cuFFT error ", static_cast<int64_t>(status), ", ",
                     name_of(status));
}

// Input and output distances follow from the kind and the pitch.
struct PlanKey {
  Device device;
  cufftType kind;  // R2C, C2R, D2Z or Z2D
  int64_t n, count, pitch;
  friend bool operator==(const PlanKey&, const PlanKey&) = default;
};

struct Plan {
  PlanKey key;
  cufftHandle handle = 0;
  size_t work_bytes = 0;
  int64_t last_use = 0;
  bool in_graph = false;  // a captured graph reads its tables: kept for ever
};

// The status of making it; there is no handle unless it is CUFFT_SUCCESS.
cufftResult try_to_make(Plan& plan) {
  const PlanKey& key = plan.key;
  const bool forward = key.kind == CUFFT_R2C || key.kind == CUFFT_D2Z;
  long long n = key.n, reals = key.pitch, pairs = key.pitch / 2;
  long long &in = forward ? reals : pairs, &out = forward ? pairs : reals;
  cufftResult status = cufftCreate(&plan.handle);
  if (status != CUFFT_SUCCESS) return status;
  status = cufftSetAutoAllocation(plan.handle, 0);
  if (status == CUFFT_SUCCESS) {
    status = cufftMakePlanMany64(plan.handle, 1, &n, &in, 1, in, &out, 1, out, key.kind, key.count, &plan.work_bytes);
  }
  if (status != CUFFT_SUCCESS) cufftDestroy(plan.handle);
  return status;
}

// cuFFT takes memory for its tables from CUDA: what the allocator keeps unused is given back when there is too little.
Plan make_plan(const PlanKey& key) {
  Plan plan{key};
  cufftResult status = try_to_make(plan);
  if (status == CUFFT_ALLOC_FAILED) {
    empty_cache(key.device);
    cudaGetLastError();
    status = try_to_make(plan);
  }
  if (status == CUFFT_ALLOC_FAILED) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    const MemoryStats stats = memory_stats(key.device);
    fail<OutOfMemoryError>(key.device, ": out of memory: cuFFT's plan for ", key.count, " transforms of length ", key.n,
                           "; free on the device ", free, " of ", total, "; reserved by this process ", stats.reserved,
                           ", of it in use ", stats.allocated);
  }
  check_cufft(status, "cufftMakePlanMany64");
  return plan;
}

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

// The plans used last. Whoever holds a plan holds the mutex: a plan carries its stream and work area with it.
class PlanCache {
 public:
  std::mutex mutex;

  Plan& find(const PlanKey& key) {
    const bool captured = is_captured(stream_of(key.device));
    auto found = std::find_if(plans_.begin(), plans_.end(), [&](const Plan& plan) { return plan.key == key; });
    if (found == plans_.end()) {
      check<CaptureError>(!captured, "fft: a plan for ", key.count, " transforms of length ", key.n,
                          " cannot be made during a capture: run the step once before: ", key.device);
      if (plans_.size() >= capacity) drop_oldest();
      stream_of(key.device);  // makes the device the current one again
      plans_.push_back(make_plan(key));
      found = plans_.end() - 1;
    }
    found->last_use = ++uses_;
    found->in_graph = found->in_graph || captured;
    return *found;
  }

 private:
  static constexpr size_t capacity = 64;

  void drop_oldest() {
    const auto oldest = std::min_element(plans_.begin(), plans_.end(), [](const Plan& a, const Plan& b) {
      return a.in_graph != b.in_graph ? b.in_graph : a.last_use < b.last_use;
    });
    if (oldest->in_graph) return;
    stream_of(oldest->key.device);  // makes its device the current one
    check_cufft(cufftDestroy(oldest->handle), "cufftDestroy");
    plans_.erase(oldest);
  }

  std::vector<Plan> plans_;
  int64_t uses_ = 0;
};

// Never destroyed: cuFFT may be gone before.
PlanCache& cache() {
  alignas(PlanCache) static std::byte memory[sizeof(PlanCache)];
  static PlanCache* const kept = ::new (memory) PlanCache;
  return *kept;
}

PlanKey key_of(const FftRows& rows, FftDirection direction) {
  const bool wide = rows.dtype == DType::f64, forward = direction == FftDirection::forward;
  const cufftType kind = forward ? (wide ? CUFFT_D2Z : CUFFT_R2C) : (wide ? CUFFT_Z2D : CUFFT_C2R);
  return {rows.device, kind, rows.n, rows.count, rows.pitch()};
}

void execute(const Plan& plan, void* data) {
  switch (plan.key.kind) {
    case CUFFT_R2C:
      return check_cufft(cufftExecR2C(plan.handle, static_cast<float*>(data), static_cast<cufftComplex*>(data)),
                         "cufftExecR2C");
    case CUFFT_C2R:
      return check_cufft(cufftExecC2R(plan.handle, static_cast<cufftComplex*>(data), static_cast<float*>(data)),
                         "cufftExecC2R");
    case CUFFT_D2Z:
      return check_cufft(cufftExecD2Z(plan.handle, static_cast<double*>(data), static_cast<cufftDoubleComplex*>(data)),
                         "cufftExecD2Z");
    default:
      return check_cufft(cufftExecZ2D(plan.handle, static_cast<cufftDoubleComplex*>(data), static_cast<double*>(data)),
                         "cufftExecZ2D");
  }
}

}  // namespace

int64_t FftRows::pitch() const {
  const int64_t step = 32 / static_cast<int64_t>(size_of(dtype));
  return (2 * (n / 2 + 1) + step - 1) / step * step;
}

size_t FftRows::bytes() const { return static_cast<size_t>(count * pitch()) * size_of(dtype); }

// A transform of one number is that number.
void transform(const FftRows& rows, FftDirection direction, void* data) {
  if (rows.n == 1 || rows.count == 0) return;
  const std::scoped_lock lock(cache().mutex);
  const Plan& plan = cache().find(key_of(rows, direction));
  const Scratch work(rows.device, plan.work_bytes);
  check_cufft(cufftSetStream(plan.handle, stream_of(rows.device)), "cufftSetStream");
  check_cufft(cufftSetWorkArea(plan.handle, work.data<void>()), "cufftSetWorkArea");
  execute(plan, data);
  add_launches(1);
}

// The work area is only known from a plan, and grows with the number of rows.
int64_t fitting_count(const FftRows& rows, FftDirection direction, size_t limit) {
  const auto room = static_cast<int64_t>(limit), row_bytes = static_cast<int64_t>(rows.with_count(1).bytes());
  const int64_t count = std::clamp<int64_t>(room / row_bytes, 1, std::max<int64_t>(rows.count, 1));
  if (rows.n == 1) return count;
  const std::scoped_lock lock(cache().mutex);
  const auto work = static_cast<int64_t>(cache().find(key_of(rows.with_count(count), direction)).work_bytes);
  const int64_t needed = count * row_bytes + work;
  return needed <= room ? count : std::max<int64_t>(1, count * room / needed);
}

}  // namespace mahia::cuda
