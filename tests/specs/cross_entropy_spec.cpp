// SPDX-License-Identifier: Apache-2.0
#include "ops/cross_entropy.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/linear.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

Array cross_entropy_of(const Array& x, const Array& targets, const CrossEntropyOptions& options) {
  const int64_t rows = x.shape[0], classes = x.shape[1];
  Array each({rows}), all((Shape()));
  double count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const auto target = static_cast<int64_t>(targets[row]);
    if (target == options.ignore_index) continue;
    double total = 0, sum = 0;
    for (int64_t i = 0; i < classes; ++i) {
      total += std::exp(x[row * classes + i]);
      sum += x[row * classes + i];
    }
    each[row] = std::log(total) - (1 - options.label_smoothing) * x[row * classes + target] -
                options.label_smoothing * sum / static_cast<double>(classes);
    all[0] += each[row];
    ++count;
  }
  if (options.reduction == Reduction::none) return each;
  if (options.reduction == Reduction::mean) all[0] /= count;
  return all;
}

std::string name_of_case(const Shape& shape, const CrossEntropyOptions& options) {
  return message(shape, ", ignore ", options.ignore_index, ", smoothing ", options.label_smoothing, ", reduction ",
                 static_cast<int>(options.reduction));
}

OpCase logits_case(int64_t rows, int64_t classes, const CrossEntropyOptions& options) {
  return {name_of_case({rows, classes}, options),
          {{{rows, classes}, -5, 5}, indices({rows}, classes)},
          [=](const Tensors& x) { return Tensors{cross_entropy(x[0], x[1], options)}; },
          [=](const Arrays& x) { return Arrays{cross_entropy_of(x[0], x[1], options)}; }};
}

OpCase linear_case(int64_t rows, int64_t width, int64_t classes, const CrossEntropyOptions& options) {
  return {name_of_case({rows, width, classes}, options),
          {{{rows, width}}, {{classes, width}, -1, 1}, indices({rows}, classes)},
          [=](const Tensors& x) { return Tensors{linear_cross_entropy(x[0], x[1], x[2], options)}; },
          [=](const Arrays& x) {
            Array logits({rows, classes});
            for (int64_t i = 0; i < logits.size(); ++i) {
              for (int64_t k = 0; k < width; ++k) {
                logits[i] += x[0][i / classes * width + k] * x[1][i % classes * width + k];
              }
            }
            return Arrays{cross_entropy_of(logits, x[2], options)};
          }};
}

std::vector<OpCase> logits_cases() {
  return {logits_case(1, 1, {}),
          logits_case(0, 4, {-100, 0, Reduction::sum}),
          logits_case(5, 3, {}),
          logits_case(9, 33, {1, 0.1, Reduction::mean}),
          logits_case(7, 12, {-100, 0.2, Reduction::none}),
          logits_case(20, 17, {3, 0, Reduction::sum})};
}

std::vector<OpCase> logits_device_cases() {
  return {logits_case(65537, 2, {}),
          logits_case(129, 1, {-100, 0, Reduction::none}),
          logits_case(3, 50257, {-100, 0.1, Reduction::mean}),
          logits_case(1, 1023, {-100, 0, Reduction::none}),
          logits_case(31, 32, {0, 0, Reduction::mean}),
          logits_case(33, 31, {-100, 1, Reduction::sum}),
          logits_case(127, 1025, {5, 0.3, Reduction::none}),
          logits_case(255, 256, {}),
          logits_case(257, 129, {-100, 0.1, Reduction::sum}),
          logits_case(1025, 255, {7, 0, Reduction::mean})};
}

std::vector<OpCase> linear_cases() {
  return {linear_case(1, 1, 1, {}), linear_case(0, 3, 4, {-100, 0, Reduction::sum}), linear_case(5, 4, 3, {}),
          linear_case(9, 6, 21, {1, 0.1, Reduction::mean}), linear_case(20, 5, 7, {3, 0, Reduction::sum})};
}

std::vector<OpCase> linear_device_cases() {
  return {linear_case(2100, 40, 50, {}),  // several chunks of rows
          linear_case(5000, 8, 33, {1, 0.1, Reduction::mean}),
          linear_case(1025, 1, 129, {-100, 0, Reduction::sum}),
          linear_case(1, 257, 1023, {}),
          linear_case(3, 64, 20011, {-100, 0.2, Reduction::mean}),
          linear_case(31, 128, 256, {}),
          linear_case(33, 127, 1, {}),
          linear_case(128, 128, 512, {0, 0, Reduction::sum}),
          linear_case(129, 65, 255, {-100, 0.1, Reduction::sum}),
          linear_case(257, 3, 2, {1, 0, Reduction::mean})};
}

const OpSpec cross_entropy_spec("cross_entropy", logits_cases, {.device_cases = logits_device_cases});
const OpSpec linear_cross_entropy_spec("linear_cross_entropy", linear_cases, {.device_cases = linear_device_cases});

BOOST_AUTO_TEST_SUITE(cross_entropy)

BOOST_AUTO_TEST_CASE(names_what_does_not_fit) {
  const Tensor x = zeros({2, 3});
  const auto target = [](int64_t second) { return Tensor::from<int64_t>({0, second}, {2}); };
  check_throws<IndexError>([&] { mahia::cross_entropy(x, target(3)); },
                           "cross_entropy: target 1 is 3, must be in [0, 3) or the ignored -100");
  check_throws<IndexError>([&] { mahia::cross_entropy(x, target(-1)); }, "cross_entropy: target 1 is -1");
  check_throws<DTypeError>([&] { mahia::cross_entropy(x, zeros({2})); },
                           "cross_entropy: targets must be i64: targets f32 [2] cpu:0");
  check_throws<ShapeError>([&] { mahia::cross_entropy(x, arange(3)); },
                           "cross_entropy: needs rows (N, ..) and targets (N): rows f32 [2, 3] cpu:0, targets i64 [3]");
  check_throws<ValueError>([&] { mahia::cross_entropy(x, target(1), {.label_smoothing = 1.5}); },
                           "cross_entropy: label_smoothing is 1.5, must be in [0, 1]");
  check_throws<ShapeError>(
      [&] {
        linear_cross_entropy(x, zeros({5, 4}), target(1));
      },
      "linear_cross_entropy: x (N, D) and weight (V, D) disagree on `D`: x f32 [2, 3] cpu:0, "
      "weight f32 [5, 4] cpu:0");
  check_throws<ValueError>(
      [&] {
        linear_cross_entropy(x, zeros({5, 3}), target(1), {.reduction = Reduction::none});
      },
      "linear_cross_entropy: reduces to a mean or a sum");
}

BOOST_AUTO_TEST_CASE(the_mean_over_ignored_rows_only_is_nan_and_has_no_gradient) {
  const Tensor x = randn({2, 3}).set_requires_grad(true);
  const Tensor loss = mahia::cross_entropy(x, Tensor::from<int64_t>({-100, -100}, {2}));
  BOOST_TEST(std::isnan(loss.item<float>()));
  backward(loss);
  check_same_bits(x.grad(), zeros({2, 3}));
}

BOOST_AUTO_TEST_CASE(huge_logits_keep_their_loss) {
  const Tensor x = Tensor::from({1e4f, 1e4f, -1e30f}, {1, 3});
  BOOST_TEST(mahia::cross_entropy(x, Tensor::from<int64_t>({1}, {1})).item<float>() == std::log(2.0f));
}

BOOST_AUTO_TEST_CASE(chunks_of_rows_give_the_bits_of_the_whole_for_any_thread_count) {
  const int64_t rows = 2100, width = 40, classes = 50;  // three chunks
  const Tensor x = randn({rows, width}).set_requires_grad(true), weight = randn({classes, width});
  const Tensor targets = randint(0, classes, {rows});
  const Tensor whole = mahia::cross_entropy(linear(x, weight), targets);
  backward(whole);
  const Tensor expected = x.grad();
  const int before = num_threads();
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    x.set_grad({});
    const Tensor loss = linear_cross_entropy(x, weight, targets);
    backward(loss);
    check_same_bits(loss, whole);
    check_same_bits(x.grad(), expected);
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
