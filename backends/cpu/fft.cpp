// SPDX-License-Identifier: Apache-2.0
#include "ops/fft.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "backends/cpu/fft_unit.hpp"
#include "backends/cpu/fft_walk.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

// One complex number, where Complex<T> is a vector of them.
template <class T>
struct Number {
  T re = 0, im = 0;
  Number conj() const { return {re, -im}; }
  friend Number operator+(Number a, Number b) { return {a.re + b.re, a.im + b.im}; }
  friend Number operator-(Number a, Number b) { return {a.re - b.re, a.im - b.im}; }
  friend Number operator*(Number a, Number b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
  friend Number operator*(T a, Number b) { return {a * b.re, a * b.im}; }
};

template <class T>
Number<T> unit(int64_t turn, int64_t den) {
  const UnitNumber u = unit_number(turn, den);
  return {static_cast<T>(u.re), static_cast<T>(u.im)};
}

template <class T>
Number<T> get(const Complex<T>* x, int64_t k) {
  return {x[k / lane_count<T>].re[k % lane_count<T>], x[k / lane_count<T>].im[k % lane_count<T>]};
}
template <class T>
void put(Complex<T>* x, int64_t k, Number<T> value) {
  x[k / lane_count<T>].re[k % lane_count<T>] = value.re;
  x[k / lane_count<T>].im[k % lane_count<T>] = value.im;
}

// The complex transform of any length, in natural order: a few terms are summed as they stand, lengths with a plan go
// through it, all others become a circular convolution with a chirp (Bluestein 1970): with c[k] = exp(-i pi k^2 / n),
// X[k] = c[k] sum_j (x[j] c[j]) conj(c[k - j]).
template <class T>
class ComplexFft {
 public:
  explicit ComplexFft(int64_t n) : n_(n) {
    if (n <= direct_up_to) {
      for (int64_t k = 0; k < n; ++k) factors_.push_back(unit<T>(k, n));
      return;
    }
    const bool planned = fft_size(n) == n;
    plan_ = &fft_plan<T>(planned ? n : fft_size(2 * n - 1), FftPlan<T>::Roots::of_one);
    if (planned) return;
    const int64_t size = plan_->size;
    for (int64_t k = 0; k < n; ++k) factors_.push_back(unit<T>(k * k % (2 * n), 2 * n));
    chirp_.resize(static_cast<size_t>(size / lane_count<T>));
    for (int64_t k = 0; k < n; ++k) {
      const Number<T> value = T(1) / static_cast<T>(size) * factor(k).conj();
      put(chirp_.data(), k, value);
      if (k > 0) put(chirp_.data(), size - k, value);
    }
    walk_from_root(*plan_, {chirp_.data()}, {}, leave_as_is);
  }

  // Vectors of work space.
  int64_t work_size() const { return (plan_ == nullptr ? direct_up_to : plan_->size) / lane_count<T>; }

  void operator()(Number<T>* x, Complex<T>* work) const {
    if (plan_ == nullptr) return sum_directly(x, work);
    if (chirp_.empty()) return go_through_plan(x, work);
    std::fill(work, work + work_size(), Complex<T>());
    for (int64_t k = 0; k < n_; ++k) put(work, k, x[k] * factor(k));
    const Complex<T>* chirp = chirp_.data();
    walk_from_root(*plan_, {work}, work, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) work[i] = work[i] * chirp[i];
    });
    for (int64_t k = 0; k < n_; ++k) x[k] = get(work, k) * factor(k);
  }

 private:
  static constexpr int64_t direct_up_to = 16;

  Number<T> factor(int64_t k) const { return factors_[static_cast<size_t>(k)]; }

  void sum_directly(Number<T>* x, Complex<T>* work) const {
    for (int64_t k = 0; k < n_; ++k) {
      Number<T> total = x[0];
      for (int64_t j = 1; j < n_; ++j) total = total + x[j] * factor(j * k % n_);
      put(work, k, total);
    }
    for (int64_t k = 0; k < n_; ++k) x[k] = get(work, k);
  }

  void go_through_plan(Number<T>* x, Complex<T>* work) const {
    for (int64_t k = 0; k < n_; ++k) put(work, k, x[k]);
    walk_from_root(*plan_, {work}, {}, leave_as_is);
    for (int64_t k = 0; k < n_; ++k) x[plan_->order[static_cast<size_t>(k)]] = get(work, k);
  }

  int64_t n_;
  const FftPlan<T>* plan_ = nullptr;  // none for the direct sum
  std::vector<Number<T>> factors_;    // roots of one for the direct sum, c[k] for Bluestein
  std::vector<Complex<T>> chirp_;     // Bluestein: the spectrum of conj(c), over the plan's size
};

// The transform of n real numbers: for even n one complex transform of n/2 pairs of neighbours, else one of n.
template <class T>
class RealFft {
 public:
  explicit RealFft(int64_t n) : n_(n), half_(n % 2 == 0 ? n / 2 : n), transform_(half_) {
    for (int64_t k = 0; is_even() && k <= half_; ++k) turns_.push_back(unit<T>(k, n));
  }

  // Kept for the life of the program; any thread may ask.
  static const RealFft& of_length(int64_t n) {
    static std::mutex mutex;
    static std::map<int64_t, std::unique_ptr<const RealFft>> kept;
    const std::scoped_lock lock(mutex);
    std::unique_ptr<const RealFft>& fft = kept[n];
    if (!fft) fft = std::make_unique<const RealFft>(n);
    return *fft;
  }

  size_t work_bytes() const {
    return static_cast<size_t>(half_ + 1) * sizeof(Number<T>) +
           static_cast<size_t>(transform_.work_size()) * sizeof(Complex<T>);
  }

  // source(t) for t < n -> sink(k, X[k]) for k <= n/2.
  template <class Source, class Sink>
  void forward(Source source, Sink sink, void* work) const {
    const auto [z, rest] = split(work);
    if (!is_even()) {
      for (int64_t k = 0; k < n_; ++k) z[k] = {source(k), T(0)};
      transform_(z, rest);
      for (int64_t k = 0; k <= n_ / 2; ++k) sink(k, z[k]);
      return;
    }
    for (int64_t k = 0; k < half_; ++k) z[k] = {source(2 * k), source(2 * k + 1)};
    transform_(z, rest);
    z[half_] = z[0];
    for (int64_t k = 0; k <= half_; ++k) {
      const Number<T> a = z[k], b = z[half_ - k].conj(), odd = turn(k) * (a - b);
      sink(k, T(0.5) * (a + b + Number<T>{odd.im, -odd.re}));
    }
  }

  // source(k) for k <= n/2 -> sink(t, y[t]) for t < n with y[t] = the sum over k < n of s[k] exp(2 pi i k t / n), where
  // s[k] = source(k) and s[n - k] = conj(s[k]). Twice conjugated, the inverse is the forward transform.
  template <class Source, class Sink>
  void inverse(Source source, Sink sink, void* work) const {
    const auto [z, rest] = split(work);
    if (!is_even()) {
      for (int64_t k = 0; k < n_; ++k) z[k] = k <= n_ / 2 ? source(k).conj() : source(n_ - k);
      transform_(z, rest);
      for (int64_t k = 0; k < n_; ++k) sink(k, z[k].re);
      return;
    }
    for (int64_t k = 0; k < half_; ++k) {
      const Number<T> a = source(k), b = source(half_ - k).conj(), odd = turn(k).conj() * (a - b);
      z[k] = (a + b + Number<T>{-odd.im, odd.re}).conj();
    }
    transform_(z, rest);
    for (int64_t k = 0; k < half_; ++k) {
      sink(2 * k, z[k].re);
      sink(2 * k + 1, -z[k].im);
    }
  }

 private:
  bool is_even() const { return n_ % 2 == 0; }
  Number<T> turn(int64_t k) const { return turns_[static_cast<size_t>(k)]; }
  std::pair<Number<T>*, Complex<T>*> split(void* work) const {
    auto* vectors = static_cast<Complex<T>*>(work);
    return {reinterpret_cast<Number<T>*>(vectors + transform_.work_size()), vectors};
  }

  int64_t n_, half_;
  ComplexFft<T> transform_;
  std::vector<Number<T>> turns_;  // exp(-2 pi i k / n)
};

// Calls body(row, work space) for each row, in tiles of some ten thousand numbers.
template <class T, class Body>
void for_rows(const RealFft<T>& fft, int64_t rows, int64_t n, Device device, Body body) {
  parallel_rows(rows, std::max<int64_t>(1, 16384 / n), [&](int64_t begin, int64_t end) {
    const Scratch work(device, fft.work_bytes());
    for (int64_t row = begin; row < end; ++row) body(row, work.data<void>());
  });
}

template <class T>
struct Weights {
  int64_t n;
  T edge, inner;
  T operator()(int64_t k) const { return is_edge(k) ? edge : inner; }
  bool is_edge(int64_t k) const { return k == 0 || 2 * k == n; }
};

void rfft(ConstView x, View y, int64_t n, FftWeights weights) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const RealFft<T>& fft = RealFft<T>::of_length(n);
    const Weights<T> weight{n, static_cast<T>(weights.edge), static_cast<T>(weights.inner)};
    const int64_t time = x.size(1), frequencies = y.size(1);
    for_rows(fft, x.size(0), n, x.device(), [&](int64_t row, void* work) {
      const S* from = x.data<S>() + row * time;
      S* to = y.data<S>() + row * frequencies * 2;
      const auto source = [=](int64_t t) { return t < time ? static_cast<T>(from[t]) : T(0); };
      const auto sink = [=](int64_t k, Number<T> value) {
        if (k >= frequencies) return;
        to[2 * k] = static_cast<S>(weight(k) * value.re);
        to[2 * k + 1] = static_cast<S>(weight.is_edge(k) ? T(0) : weight(k) * value.im);
      };
      fft.forward(source, sink, work);
      std::fill(to + std::min(frequencies, n / 2 + 1) * 2, to + frequencies * 2, S());
    });
  });
}

void irfft(ConstView x, View y, int64_t n, FftWeights weights) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const RealFft<T>& fft = RealFft<T>::of_length(n);
    const Weights<T> weight{n, static_cast<T>(weights.edge), static_cast<T>(weights.inner / 2)};
    const int64_t frequencies = x.size(1), time = y.size(1);
    for_rows(fft, x.size(0), n, x.device(), [&](int64_t row, void* work) {
      const S* from = x.data<S>() + row * frequencies * 2;
      S* to = y.data<S>() + row * time;
      const auto source = [=](int64_t k) {
        if (k >= frequencies) return Number<T>{};
        const T im = weight.is_edge(k) ? T(0) : static_cast<T>(from[2 * k + 1]);
        return weight(k) * Number<T>{static_cast<T>(from[2 * k]), im};
      };
      const auto sink = [=](int64_t t, T value) {
        if (t < time) to[t] = static_cast<S>(value);
      };
      fft.inverse(source, sink, work);
      std::fill(to + std::min(time, n), to + time, S());
    });
  });
}

const Registered registered_rfft(DeviceType::cpu, kernels::rfft, rfft);
const Registered registered_irfft(DeviceType::cpu, kernels::irfft, irfft);

}  // namespace
}  // namespace mahia::cpu
