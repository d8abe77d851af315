// SPDX-License-Identifier: Apache-2.0
#include "ops/optim_step.hpp"

#include <initializer_list>

#include "backends/cuda/math.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

using kernels::ConstViews;
using kernels::Views;

constexpr int threads = 256;
constexpr int64_t tile = 16384;   // elements of one tensor that a block works on
constexpr int most_tensors = 64;  // of one launch: their descriptions are kernel parameters, 4 KiB at most

// Where one parameter's tensors are; what it does not have is null.
struct Parameter {
  void *master, *copy;
  const void* grad;
  void *first, *second;
  int64_t size;
  DType copy_dtype;
  bool aligned;
};

// The tensors of one launch, all of one dtype. Block b works on tile b - first_block[k] of tensor k.
struct Group {
  int count = 0;
  Parameter tensors[most_tensors];
  unsigned first_block[most_tensors + 1] = {};

  __device__ int tensor_of(unsigned block) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_block[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};
static_assert(sizeof(Group) + 128 <= 4096);

// The new master and its rounded copy, of which only `left` elements are there.
template <class X, int V>
__device__ void store_master(const Parameter& p, int64_t i, int64_t left, const Pack<X, V>& x) {
  const auto store = [&]<class Y>(Y* to) { store_pack(to + i, left, p.aligned, converted<Y>(x)); };
  store(static_cast<X*>(p.master));
  if (p.copy == nullptr) return;
  if (p.copy_dtype == DType::bf16) return store(static_cast<bfloat16*>(p.copy));
  if (p.copy_dtype == DType::f32) return store(static_cast<float*>(p.copy));
  store(static_cast<double*>(p.copy));
}

// What a step reads on the device: null stands for 1.
struct Scalars {
  const double *lr, *step, *clip;
  const Fault* fault;
};
__device__ double number(const double* scalar) { return scalar != nullptr ? *scalar : 1; }

// A rule is made by one thread of a block for all of them. `first` and `second` are the moments of one element.
template <class X>
struct AdamW {
  X scale, decay, take1, keep2, take2, step, unit, eps;

  AdamW() = default;
  __device__ AdamW(const Scalars& s, const AdamWOptions& o) {
    const double lr = number(s.lr) * o.lr_scale, t = number(s.step);
    scale = static_cast<X>(number(s.clip));
    decay = static_cast<X>(1 - lr * o.weight_decay);
    take1 = static_cast<X>(1 - o.beta1);
    keep2 = static_cast<X>(o.beta2);
    take2 = static_cast<X>(1 - o.beta2);
    step = static_cast<X>(-(lr / (1 - ::pow(o.beta1, t))));
    unit = static_cast<X>(Math::sqrt(1 - ::pow(o.beta2, t)));
    eps = static_cast<X>(o.eps);
  }
  __device__ void update(X& x, X dx, X& first, X& second) const {
    const X g = dx * scale;
    first = first + take1 * (g - first);
    second = second * keep2 + take2 * g * g;
    x = x * decay + step * (first / (Math::sqrt(second) / unit + eps));
  }
};

struct SgdStep {
  SgdOptions options;
  bool started;
};

template <class X>
struct Sgd {
  X scale, decay, step, keep, take, momentum;
  bool started, has_buffer, nesterov;

  Sgd() = default;
  __device__ Sgd(const Scalars& s, const SgdStep& o) {
    started = o.started;
    has_buffer = o.options.momentum != 0;
    nesterov = o.options.nesterov;
    scale = static_cast<X>(number(s.clip));
    decay = static_cast<X>(o.options.weight_decay);
    step = static_cast<X>(-(number(s.lr) * o.options.lr_scale));
    keep = static_cast<X>(started ? o.options.momentum : 0);
    take = static_cast<X>(started ? 1 - o.options.dampening : 1);
    momentum = static_cast<X>(o.options.momentum);
  }
  __device__ void update(X& x, X dx, X& buffer, X&) const {
    X g = dx * scale + decay * x;
    if (has_buffer) {
      buffer = (started ? keep * buffer : X(0)) + take * g;
      g = nesterov ? g + momentum * buffer : buffer;
    }
    x += step * g;
  }
};

// AdamW: 28 bytes per f32 element: master, gradient and both moments read, all but the gradient written.
template <class Rule, class X, class Options>
__global__ void __launch_bounds__(threads)
    step_tiles(const __grid_constant__ Group group, const Scalars scalars, const Options options) {
  constexpr int v = 16 / sizeof(X);
  __shared__ Rule shared;
  if (scalars.fault->code != FaultCode::none) return;
  if (threadIdx.x == 0) shared = Rule(scalars, options);
  __syncthreads();
  const Rule rule = shared;
  const int number = group.tensor_of(blockIdx.x);
  const Parameter& p = group.tensors[number];
  const int64_t begin = (blockIdx.x - group.first_block[number]) * tile, end = min(p.size, begin + tile);
  for (int64_t i = begin + threadIdx.x * v; i < end; i += threads * v) {
    const auto load = [&](const void* x) { return load_pack<v>(static_cast<const X*>(x) + i, end - i, p.aligned); };
    const auto store = [&](void* x, const Pack<X, v>& y) { store_pack(static_cast<X*>(x) + i, end - i, p.aligned, y); };
    Pack<X, v> x = load(p.master), first = {}, second = {};
    const Pack<X, v> dx = load(p.grad);
    if (p.first != nullptr) first = load(p.first);
    if (p.second != nullptr) second = load(p.second);
#pragma unroll
    for (int k = 0; k < v; ++k) rule.update(x.values[k], dx.values[k], first.values[k], second.values[k]);
    store_master(p, i, end - i, x);
    if (p.first != nullptr) store(p.first, first);
    if (p.second != nullptr) store(p.second, second);
  }
}

// One sum of squares in f64 for each tile.
template <class X>
__global__ void __launch_bounds__(threads) square_tiles(const __grid_constant__ Group group, double* sums) {
  constexpr int v = 16 / sizeof(X);
  __shared__ double shared[threads / 32];
  const int number = group.tensor_of(blockIdx.x);
  const Parameter& p = group.tensors[number];
  const int64_t begin = (blockIdx.x - group.first_block[number]) * tile, end = min(p.size, begin + tile);
  double sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * v; i < end; i += threads * v) {
    const Pack<X, v> dx = load_pack<v>(static_cast<const X*>(p.grad) + i, end - i, p.aligned);
#pragma unroll
    for (int k = 0; k < v; ++k) sum += static_cast<double>(dx.values[k]) * static_cast<double>(dx.values[k]);
  }
  sum = block_reduce(sum, Plus(), shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024) root_of_sum(const double* sums, int64_t count, double* norm) {
  const double total = sum_of<double>(sums, count);
  if (threadIdx.x == 0) *norm = Math::sqrt(total);
}

__global__ void limit(const double* norm, double max_norm, double* coefficient) {
  const double ratio = max_norm / (*norm + 1e-6);
  *coefficient = ratio > 1 ? 1 : ratio;  // NaN stays
}

// Calls run(group, blocks) for the tensors of one dtype, as many at a time as a launch takes.
template <class V, class Describe, class Run>
void for_groups(std::span<const V> tensors, DType dtype, Describe&& describe, Run&& run) {
  Group group;
  const auto finish = [&] {
    if (group.count > 0) run(group, group.first_block[group.count]);
    group.count = 0;
  };
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].dtype() != dtype || tensors[i].numel() == 0) continue;
    if (group.count == most_tensors) finish();
    group.tensors[group.count] = describe(i);
    group.first_block[group.count + 1] = group.first_block[group.count] + blocks_for(tensors[i].numel(), tile);
    ++group.count;
  }
  finish();
}

template <template <class> class Rule, class Options>
void step_all(Views masters, Views copies, ConstViews grads, Views first, Views second, const Scalars& scalars,
              const Options& options) {
  const auto describe = [&](size_t i) {
    const View &master = masters[i], &copy = copies[i];
    Parameter p{master.raw(), copy.raw(), grads[i].raw(), nullptr, nullptr, master.numel(), copy.dtype(), false};
    if (!first.empty()) p.first = first[i].raw();
    if (!second.empty()) p.second = second[i].raw();
    p.aligned = is_aligned(p.copy, 16 / size_of(master.dtype()) * size_of(copy.dtype()));
    for (const void* x : std::initializer_list<const void*>{p.master, p.grad, p.first, p.second}) {
      p.aligned = p.aligned && is_aligned(x, 16);
    }
    return p;
  };
  const auto run = [&]<class X>() {
    for_groups(masters, dtype_of<X>, describe, [&](const Group& group, unsigned blocks) {
      launch(step_tiles<Rule<X>, X, Options>, masters[0].device(), blocks, threads, 0, group, scalars, options);
    });
  };
  run.template operator()<float>();
  run.template operator()<double>();
}

void adamw_step(Views masters, Views copies, ConstViews grads, Views first, Views second, ConstView lr, ConstView step,
                ConstView clip, AdamWOptions options) {
  if (masters.empty()) return;
  const Scalars scalars{data_or_null<double>(lr), data_or_null<double>(step), data_or_null<double>(clip),
                        fault_of(masters[0].device())};
  step_all<AdamW>(masters, copies, grads, first, second, scalars, options);
}

void sgd_step(Views masters, Views copies, ConstViews grads, Views buffers, ConstView lr, ConstView clip,
              SgdOptions options, bool started) {
  if (masters.empty()) return;
  const Scalars scalars{data_or_null<double>(lr), nullptr, data_or_null<double>(clip), fault_of(masters[0].device())};
  step_all<Sgd>(masters, copies, grads, options.momentum != 0 ? buffers : Views(), {}, scalars,
                SgdStep{options, started});
}

// Sums of squares in f64 into a slot for each tile, slots in an order that depends on the shapes alone.
void grad_norm(ConstViews grads, View norm) {
  int64_t slots = 0;
  for (const ConstView& dx : grads) slots += ceil_div(dx.numel(), tile);
  const Scratch sums(norm.device(), static_cast<size_t>(slots) * sizeof(double));
  double* next = sums.data<double>();
  const auto describe = [&](size_t i) {
    const ConstView& dx = grads[i];
    const bool aligned = is_aligned(dx.raw(), 16);
    return Parameter{nullptr, nullptr, dx.raw(), nullptr, nullptr, dx.numel(), dx.dtype(), aligned};
  };
  const auto run = [&]<class X>() {
    for_groups(grads, dtype_of<X>, describe, [&](const Group& group, unsigned blocks) {
      launch(square_tiles<X>, norm.device(), blocks, threads, 0, group, next);
      next += blocks;
    });
  };
  run.template operator()<float>();
  run.template operator()<double>();
  launch(root_of_sum, norm.device(), 1, 1024, 0, sums.data<double>(), slots, norm.data<double>());
}

void clip_coefficient(ConstView norm, double max_norm, View coefficient) {
  launch(limit, norm.device(), 1, 1, 0, norm.data<double>(), max_norm, coefficient.data<double>());
}

const Registered registered_adamw_step(DeviceType::cuda, kernels::adamw_step, adamw_step);
const Registered registered_sgd_step(DeviceType::cuda, kernels::sgd_step, sgd_step);
const Registered registered_grad_norm(DeviceType::cuda, kernels::grad_norm, grad_norm);
const Registered registered_clip_coefficient(DeviceType::cuda, kernels::clip_coefficient, clip_coefficient);

}  // namespace
}  // namespace mahia::cuda
