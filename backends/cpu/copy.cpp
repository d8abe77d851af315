// SPDX-License-Identifier: Apache-2.0
#include "core/copy.hpp"

#include <cmath>
#include <cstring>
#include <numbers>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

// y = x, converted; 2 * bytes(y) moved when the dtypes agree.
template <class Y, class X>
void copy_run(Y* y, int64_t y_stride, const X* x, int64_t x_stride, int64_t n) {
  if (y_stride == 1 && x_stride == 1) {
    if constexpr (std::is_same_v<X, Y>) {
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(Y));
    } else {
      for (int64_t i = 0; i < n; ++i) y[i] = convert<Y>(x[i]);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) y[i * y_stride] = convert<Y>(x[i * x_stride]);
}

constexpr int64_t block = 32;  // a transposed copy moves 32 x 32 squares, so that both sides use whole cache lines

// y (rows, cols) with unit column stride = x with unit row stride.
template <class T>
void transpose_copy(const ConstView& x, const View& y) {
  const int64_t rows = y.size(-2), cols = y.size(-1);
  const int64_t outer = y.numel() / (rows * cols);
  const int64_t row_blocks = (rows + block - 1) / block;
  parallel_rows(outer * row_blocks, std::max<int64_t>(1, elementwise_tile / (block * cols)), [&](int64_t b, int64_t e) {
    for (int64_t task = b; task < e; ++task) {
      const T* source = x.data<T>();
      T* target = y.data<T>();
      int64_t index = task / row_blocks;
      for (int axis = y.rank() - 3; axis >= 0; --axis) {
        source += index % y.size(axis) * x.stride(axis);
        target += index % y.size(axis) * y.stride(axis);
        index /= y.size(axis);
      }
      const int64_t r0 = task % row_blocks * block, r1 = std::min(rows, r0 + block);
      for (int64_t c0 = 0; c0 < cols; c0 += block) {
        const int64_t c1 = std::min(cols, c0 + block);
        for (int64_t r = r0; r < r1; ++r) {
          for (int64_t c = c0; c < c1; ++c) target[r * y.stride(-2) + c] = source[r + c * x.stride(-1)];
        }
      }
    }
  });
}

bool is_transposed(const ConstView& x, const View& y) {
  return x.dtype() == y.dtype() && y.rank() >= 2 && y.stride(-1) == 1 && x.stride(-2) == 1 && x.stride(-1) != 1 &&
         y.size(-1) >= 8 && y.size(-2) >= 8;
}

void copy(ConstView x, View y) {
  if (y.numel() == 0) return;
  visit_any(y.dtype(), [&]<class Y>() {
    if (is_transposed(x, y)) {
      transpose_copy<Y>(x, y);
      return;
    }
    visit_any(x.dtype(), [&]<class X>() {
      Walk<2>({&y, &x}).run([](const auto& p, const auto& stride, int64_t n) {
        copy_run(reinterpret_cast<Y*>(p[0]), stride[0], reinterpret_cast<const X*>(p[1]), stride[1], n);
      });
    });
  });
}

void fill(View y, double value) {
  visit_any(y.dtype(), [&]<class Y>() {
    const Y v = convert<Y>(value);
    Walk<1>({&y}).run([v](const auto& p, const auto& stride, int64_t n) {
      Y* out = reinterpret_cast<Y*>(p[0]);
      if (stride[0] == 1) {
        std::fill_n(out, n, v);
      } else {
        for (int64_t i = 0; i < n; ++i) out[i * stride[0]] = v;
      }
    });
  });
}

// y += x; the sum of two bf16 numbers is rounded once from f32.
void add_into(ConstView x, View y) {
  visit_float(y.dtype(), [&]<class Y>() {
    visit_float(x.dtype(), [&]<class X>() {
      Walk<2>({&y, &x}).run([](const auto& p, const auto& stride, int64_t n) {
        Y* out = reinterpret_cast<Y*>(p[0]);
        const X* in = reinterpret_cast<const X*>(p[1]);
        const auto add = [](Y a, X b) { return convert<Y>(convert<compute_t<Y>>(a) + convert<compute_t<Y>>(b)); };
        if (stride[0] == 1 && stride[1] == 1) {
          for (int64_t i = 0; i < n; ++i) out[i] = add(out[i], in[i]);
        } else {
          for (int64_t i = 0; i < n; ++i) out[i * stride[0]] = add(out[i * stride[0]], in[i * stride[1]]);
        }
      });
    });
  });
}

// Box-Muller in f64 on two uniforms per pair: words (0, 1) make elements 4b and 4b + 1, words (2, 3) the next two.
void normals(const std::array<uint32_t, 4>& words, double out[4]) {
  for (int pair = 0; pair < 2; ++pair) {
    const double u1 = (static_cast<double>(words[2 * static_cast<size_t>(pair)]) + 1.0) * 0x1p-32;  // (0, 1]
    const double u2 = static_cast<double>(words[2 * static_cast<size_t>(pair) + 1]) * 0x1p-32;
    const double radius = std::sqrt(-2 * std::log(u1)), angle = 2 * std::numbers::pi * u2;
    out[2 * pair] = radius * std::cos(angle);
    out[2 * pair + 1] = radius * std::sin(angle);
  }
}

void random_fill(View y, RandomCall call, bool normal) {
  const int64_t n = y.numel();
  visit_float(y.dtype(), [&]<class Y>() {
    Y* out = y.data<Y>();
    parallel_rows((n + 3) / 4, elementwise_tile / 16, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const auto words = random_words(call, static_cast<uint64_t>(b));
        double values[4];
        if (normal) {
          normals(words, values);
        } else {
          for (size_t k = 0; k < 4; ++k) values[k] = static_cast<double>(uniform(words[k]));
        }
        for (int64_t k = 0; k < std::min<int64_t>(4, n - 4 * b); ++k) out[4 * b + k] = convert<Y>(values[k]);
      }
    });
  });
}

void count_nonfinite(ConstView x, View count) {
  int64_t bad = 0;
  visit_float(x.dtype(), [&]<class X>() {
    const X* values = x.data<X>();
    for (int64_t i = 0, n = x.numel(); i < n; ++i) bad += !std::isfinite(convert<compute_t<X>>(values[i]));
  });
  *count.data<int64_t>() = bad;
}

void check_finite(ConstView x, const char* what) {
  visit_float(x.dtype(), [&]<class X>() {
    const X* values = x.data<X>();
    for (int64_t i = 0, n = x.numel(); i < n; ++i) {
      const auto value = convert<compute_t<X>>(values[i]);
      check<ValueError>(std::isfinite(value), what, " ", i, " is ", value, ", must be finite");
    }
  });
}

void commit(ConstView x, View y) { std::memcpy(y.raw(), x.raw(), static_cast<size_t>(y.numel()) * size_of(y.dtype())); }

void set_bytes(View y, kernels::FewBytes bytes) {
  std::memcpy(y.raw(), bytes.data(), static_cast<size_t>(y.numel()) * size_of(y.dtype()));
}

const Registered registered_copy(DeviceType::cpu, kernels::copy, copy);
const Registered registered_commit(DeviceType::cpu, kernels::commit, commit);
const Registered registered_fill(DeviceType::cpu, kernels::fill, fill);
const Registered registered_add_into(DeviceType::cpu, kernels::add_into, add_into);
const Registered registered_random_fill(DeviceType::cpu, kernels::random_fill, random_fill);
const Registered registered_count_nonfinite(DeviceType::cpu, kernels::count_nonfinite, count_nonfinite);
const Registered registered_check_finite(DeviceType::cpu, kernels::check_finite, check_finite);
const Registered registered_set_bytes(DeviceType::cpu, kernels::set_bytes, set_bytes);

}  // namespace
}  // namespace mahia::cpu
