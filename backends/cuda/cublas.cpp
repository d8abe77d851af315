// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cublas.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <map>
#include <mutex>
#include <new>

#include "backends/cuda/check.hpp"
#include "backends/cuda/runtime.hpp"
#include "core/counters.hpp"
#include "core/scratch.hpp"
#include "ops/matmul.hpp"

namespace mahia::cuda {
namespace {

constexpr size_t workspace_bytes = size_t{32} << 20;

void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail<DeviceError>(what, ": cuBLAS error ", static_cast<int64_t>(status), ", ", cublasLtGetStatusString(status));
}

// What decides about the algorithm.
struct PlanKey {
  int device;
  DType dtype, result;
  bool tf32, a_transposed, b_transposed, accumulate, bias;
  int64_t m, n, k, count, a_row, b_row, c_row, a_step, b_step, c_step;
  uint32_t a_alignment, b_alignment, c_alignment, bias_alignment;
  auto operator<=>(const PlanKey&) const = default;
};

struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace = 0;
};

// The largest power of two up to 256 that divides the address and, where there are several, their distance.
uint32_t alignment_of(const void* data, int64_t step_bytes) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(data) | static_cast<uint64_t>(step_bytes) | 256u;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

cudaDataType_t cuda_type(DType dtype) {
  return dtype == DType::f64 ? CUDA_R_64F : dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)), "cublasLtMatmulDesc");
}

cublasLtMatrixLayout_t layout(DType dtype, int64_t rows, int64_t cols, int64_t row, int64_t count, int64_t step) {
  cublasLtMatrixLayout_t result = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&result, cuda_type(dtype), static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(cols), row),
               "cublasLtMatrixLayoutCreate");
  const auto matrices = static_cast<int32_t>(count);
  check_cublas(
      cublasLtMatrixLayoutSetAttribute(result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices, sizeof(matrices)),
      "cublasLtMatrixLayout");
  check_cublas(
      cublasLtMatrixLayoutSetAttribute(result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof(step)),
      "cublasLtMatrixLayout");
  return result;
}

// cuBLAS counts columns first, so it computes c^T = b^T a^T: its first operand is our b.
void set_layouts(Plan& plan, const PlanKey& key) {
  plan.first = layout(key.dtype, key.b_transposed ? key.k : key.n, key.b_transposed ? key.n : key.k, key.b_row,
                      key.count, key.b_step);
  plan.second = layout(key.dtype, key.a_transposed ? key.m : key.k, key.a_transposed ? key.k : key.m, key.a_row,
                       key.count, key.a_step);
  plan.result = layout(key.result, key.n, key.m, key.c_row, key.count, key.c_step);
}

// cuBLAS's choice for operands as the plan describes them.
cublasLtMatmulHeuristicResult_t best_algorithm(cublasLtHandle_t handle, const PlanKey& key, const Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.c_alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  check_cublas(cublasLtMatmulAlgoGetHeuristic(handle, plan.operation, plan.first, plan.second, plan.result, plan.result,
                                              preference, 1, &found, &count),
               "cublasLtMatmulAlgoGetHeuristic");
  check_cublas(cublasLtMatmulPreferenceDestroy(preference), "cublasLtMatmulPreferenceDestroy");
  check<DeviceError>(count > 0, "matmul: cuBLAS has no algorithm for ", key.dtype, " of ", key.m, " x ", key.k, " x ",
                     key.n);
  return found;
}

Plan make_plan(cublasLtHandle_t handle, const PlanKey& key) {
  const bool wide = key.dtype == DType::f64;
  const cublasComputeType_t compute = wide                                  ? CUBLAS_COMPUTE_64F
                                      : key.tf32 && key.dtype == DType::f32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                            : CUBLAS_COMPUTE_32F;
  Plan plan;
  check_cublas(cublasLtMatmulDescCreate(&plan.operation, compute, wide ? CUDA_R_64F : CUDA_R_32F),
               "cublasLtMatmulDescCreate");
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, key.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (key.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set_layouts(plan, key);
  const cublasLtMatmulHeuristicResult_t found = best_algorithm(handle, key, plan);
  plan.algorithm = found.algo;
  plan.workspace = found.workspaceSize;
  return plan;
}

// Handles and plans live as long as the process.
struct Cache {
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> handles;
  std::map<PlanKey, Plan> plans;
};

Cache& cache() {
  alignas(Cache) static std::byte memory[sizeof(Cache)];
  static Cache* const kept = ::new (memory) Cache;
  return *kept;
}

const Plan& find_plan(const PlanKey& key, cublasLtHandle_t& handle) {
  Cache& c = cache();
  const std::scoped_lock lock(c.mutex);
  cublasLtHandle_t& h = c.handles[key.device];
  if (h == nullptr) check_cublas(cublasLtCreate(&h), "cublasLtCreate");
  handle = h;
  const auto found = c.plans.find(key);
  return found != c.plans.end() ? found->second : c.plans.emplace(key, make_plan(h, key)).first->second;
}

}  // namespace

void gemm(Device device, const Gemm& g) {
  const cudaStream_t stream = stream_of(device);
  const auto item = static_cast<int64_t>(size_of(g.dtype));
  const auto result_item = static_cast<int64_t>(size_of(g.result));
  const bool many = g.count > 1;
  const PlanKey key{.device = device.index,
                    .dtype = g.dtype,
                    .result = g.result,
                    .tf32 = tf32_allowed(),
                    .a_transposed = g.a_transposed,
                    .b_transposed = g.b_transposed,
                    .accumulate = g.accumulate,
                    .bias = g.bias != nullptr,
                    .m = g.m,
                    .n = g.n,
                    .k = g.k,
                    .count = g.count,
                    .a_row = g.a_row,
                    .b_row = g.b_row,
                    .c_row = g.c_row,
                    .a_step = g.a_step,
                    .b_step = g.b_step,
                    .c_step = g.c_step,
                    .a_alignment = alignment_of(g.a, many ? g.a_step * item : 0),
                    .b_alignment = alignment_of(g.b, many ? g.b_step * item : 0),
                    .c_alignment = alignment_of(g.c, many ? g.c_step * result_item : 0),
                    .bias_alignment = alignment_of(g.bias, 0)};
  cublasLtHandle_t handle = nullptr;
  const Plan& plan = find_plan(key, handle);
  const Scratch workspace(device, std::max<size_t>(plan.workspace, 1));
  static std::mutex bias_mutex;  // the bias pointer is part of the shared description
  const std::unique_lock lock = g.bias != nullptr ? std::unique_lock(bias_mutex) : std::unique_lock<std::mutex>();
  if (g.bias != nullptr) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
  const double one = 1, zero = 0;
  const float one_f = 1, zero_f = 0;
  const bool wide = g.dtype == DType::f64;
  const void* alpha = wide ? static_cast<const void*>(&one) : &one_f;
  const void* beta = g.accumulate ? alpha : wide ? static_cast<const void*>(&zero) : &zero_f;
  check_cublas(cublasLtMatmul(handle, plan.operation, alpha, g.b, plan.first, g.a, plan.second, beta, g.c, plan.result,
                              g.c, plan.result, &plan.algorithm, workspace.data<void>(), plan.workspace, stream),
               "matmul");
  add_launches(1);
}

}  // namespace mahia::cuda
