// SPDX-License-Identifier: Apache-2.0
#include "ops/optim_step.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"
#include "train/safetensors.hpp"

namespace mahia::tests {
namespace {

constexpr double lr = 0.02, clip = 0.75;

StepScalars scalars(double rate, double step, double coefficient = 1, Device device = cpu_device) {
  return {scalar(rate, DType::f64, device), scalar(step, DType::f64, device), scalar(coefficient, DType::f64, device)};
}

// Copies that a step may change, since an op's operands must stay.
Tensors copies_of(const Tensors& t, size_t from, size_t count) {
  Tensors copies;
  for (size_t i = from; i < from + count; ++i) copies.push_back(clone(t[i]));
  return copies;
}

using ShapeLists = std::vector<std::vector<Shape>>;
const ShapeLists shape_lists = {{{1}}, {{}}, {{0, 3}}, {{5}, {2, 3}, {0}, {7, 1}}, {{40000}, {3}}, {{129, 130}, {17}}};

ShapeLists device_shape_lists() {
  std::vector<Shape> many, ones(1000, Shape{1}), powers;
  for (int64_t n = 0; n < 300; ++n) many.push_back({n});
  for (int64_t n = 1; n <= 1 << 16; n *= 4) powers.insert(powers.end(), {{n - 1}, {n}, {n + 1}});
  return {many,
          ones,
          powers,
          {{500009}},
          {{31}, {33}},
          {{32}},
          {{0}, {0}},
          {{255}, {257}},
          {{2, 3, 4, 5, 7}},
          {{3}, {100003}},
          {{1023, 33}, {1025}},
          {{0}, {1}, {0}, {65537}}};
}

// Cases over lists of tensors: `moments` more lists like the masters' and gradients', the second of them not negative.
std::vector<OpCase> list_cases(const ShapeLists& lists, size_t moments,
                               std::function<Tensors(const Tensors&, size_t)> call,
                               std::function<Arrays(const Arrays&, size_t)> reference) {
  std::vector<OpCase> list;
  for (const std::vector<Shape>& shapes : lists) {
    OpCase c;
    for (size_t kind = 0; kind < 2 + moments; ++kind) {
      for (const Shape& shape : shapes) c.inputs.push_back({shape, kind == 3 ? 0.01 : -2.0, 2});
    }
    for (size_t k = 0; k < std::min<size_t>(shapes.size(), 4); ++k) c.name += message(shapes[k], " ");
    c.call = [=, n = shapes.size()](const Tensors& t) { return call(t, n); };
    c.reference = [=, n = shapes.size()](const Arrays& a) { return reference(a, n); };
    list.push_back(std::move(c));
  }
  return list;
}

Tensors joined(std::initializer_list<Tensors> lists) {
  Tensors all;
  for (const Tensors& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

std::vector<OpCase> adamw_cases(const ShapeLists& lists) {
  constexpr AdamWOptions o{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1, .lr_scale = 0.5};
  constexpr double t = 3;
  return list_cases(
      lists, 2,
      [=](const Tensors& x, size_t n) {
        const OptimizerTensors tensors{copies_of(x, 0, n), Tensors(n), copies_of(x, n, n), copies_of(x, 2 * n, n),
                                       copies_of(x, 3 * n, n)};
        adamw_step(tensors, scalars(lr, t, clip, x[0].device()), o);
        return joined({tensors.masters, tensors.first, tensors.second});
      },
      [=](const Arrays& x, size_t n) {
        Arrays y(3 * n);
        for (size_t k = 0; k < n; ++k) {
          y[k] = x[k], y[n + k] = x[2 * n + k], y[2 * n + k] = x[3 * n + k];
          for (int64_t i = 0; i < y[k].size(); ++i) {
            const double g = x[n + k][i] * clip;
            double &p = y[k][i], &m = y[n + k][i], &v = y[2 * n + k][i];
            m = o.beta1 * m + (1 - o.beta1) * g;
            v = o.beta2 * v + (1 - o.beta2) * g * g;
            const double m_hat = m / (1 - std::pow(o.beta1, t)), v_hat = v / (1 - std::pow(o.beta2, t));
            p -= lr * o.lr_scale * (o.weight_decay * p + m_hat / (std::sqrt(v_hat) + o.eps));
          }
        }
        return y;
      });
}

std::vector<OpCase> sgd_cases(const ShapeLists& lists) {
  constexpr SgdOptions o{.momentum = 0.9, .dampening = 0.25, .weight_decay = 0.1, .nesterov = false, .lr_scale = 2};
  return list_cases(
      lists, 1,
      [=](const Tensors& x, size_t n) {
        const OptimizerTensors tensors{copies_of(x, 0, n), Tensors(n), copies_of(x, n, n), copies_of(x, 2 * n, n), {}};
        sgd_step(tensors, scalars(lr, 1, clip, x[0].device()), o, true);
        return joined({tensors.masters, tensors.first});
      },
      [=](const Arrays& x, size_t n) {
        Arrays y(2 * n);
        for (size_t k = 0; k < n; ++k) {
          y[k] = x[k], y[n + k] = x[2 * n + k];
          for (int64_t i = 0; i < y[k].size(); ++i) {
            const double g = x[n + k][i] * clip + o.weight_decay * y[k][i];
            y[n + k][i] = o.momentum * y[n + k][i] + (1 - o.dampening) * g;
            y[k][i] -= lr * o.lr_scale * y[n + k][i];
          }
        }
        return y;
      });
}

std::vector<OpCase> norm_cases(const ShapeLists& lists) {
  return list_cases(
      lists, 0,
      [](const Tensors& x, size_t) {
        Tensors flat;
        for (const Tensor& dx : x) flat.push_back(clone(dx));
        const Tensor norm = grad_norm(flat);
        return Tensors{norm, clip_coefficient(norm, 1.5)};
      },
      [](const Arrays& x, size_t) {
        double squares = 0;
        for (const Array& dx : x) {
          for (const double value : dx.values) squares += value * value;
        }
        Array norm(Shape{}), coefficient(Shape{});
        norm[0] = std::sqrt(squares);
        coefficient[0] = std::min(1.0, 1.5 / (norm[0] + 1e-6));
        return Arrays{norm, coefficient};
      });
}

OpSpec spec_of(const char* name, std::vector<OpCase> (*cases)(const ShapeLists&)) {
  return OpSpec(name, [=] { return cases(shape_lists); },
                {.dtypes = {DType::f64, DType::f32}, .gradient = false, .device_cases = [=] {
                   return cases(device_shape_lists());
                 }});
}
const OpSpec adamw_step_spec = spec_of("adamw_step", adamw_cases);
const OpSpec sgd_step_spec = spec_of("sgd_step", sgd_cases);
const OpSpec grad_norm_spec = spec_of("grad_norm", norm_cases);

const std::vector<std::string> names = {"weight", "bias", "scale"};

std::map<std::string, Tensor> read_fixture(const std::string& name) {
  std::map<std::string, Tensor> values;
  const std::string folder = std::string(MAHIA_SOURCE_DIR) + "/tests/fixtures/";
  for (const auto& [key, tensor] : train::load_safetensors(folder + name + ".safetensors").tensors) {
    values[key] = tensor;
  }
  return values;
}

// |difference| <= 4 ulp of the largest |value| of the tensor.
void check_within_four_ulp(const Tensor& actual, const Tensor& expected, const std::string& what) {
  const std::vector<float> a = actual.to_vector<float>(), b = expected.to_vector<float>();
  float largest = 0, worst = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  const float ulp = std::nextafter(largest, INFINITY) - largest;
  BOOST_TEST(worst <= 4 * ulp, what << " is off by " << worst / ulp << " ulp of " << largest);
}

// Ten steps from the fixture's start with its gradients; `update` is called for each group of parameter numbers.
template <class Update>
void run_ten_steps(const std::string& name, const std::vector<std::string>& buffers, Update&& update) {
  const auto f = read_fixture(name);
  OptimizerTensors all;
  for (const std::string& p : names) {
    all.masters.push_back(clone(f.at("start." + p)));
    all.first.push_back(zeros_like(all.masters.back()));
    all.second.push_back(zeros_like(all.masters.back()));
  }
  for (int step = 1; step <= 10; ++step) {
    all.grads.clear();
    for (const std::string& p : names) all.grads.push_back(f.at("gradient." + std::to_string(step) + "." + p));
    update(all, step);
    if (step == 1) {
      for (size_t i = 0; i < names.size(); ++i)
        check_within_four_ulp(all.masters[i], f.at("step1." + names[i]), name + " step 1 " + names[i]);
    }
  }
  for (size_t i = 0; i < names.size(); ++i) {
    check_within_four_ulp(all.masters[i], f.at("step10." + names[i]), name + " " + names[i]);
    for (size_t k = 0; k < buffers.size(); ++k) {
      const auto buffer = f.find("buffer10." + names[i] + "." + buffers[k]);
      if (buffer == f.end()) continue;
      check_within_four_ulp(k == 0 ? all.first[i] : all.second[i], buffer->second, buffer->first);
    }
  }
}

OptimizerTensors group_of(const OptimizerTensors& all, const std::vector<size_t>& members) {
  OptimizerTensors group;
  for (const size_t i : members) {
    group.masters.push_back(all.masters[i]);
    group.copies.emplace_back();
    group.grads.push_back(all.grads[i]);
    group.first.push_back(all.first[i]);
    group.second.push_back(all.second[i]);
  }
  return group;
}

BOOST_AUTO_TEST_SUITE(optim_step)

BOOST_AUTO_TEST_CASE(adamw_agrees_with_pytorch_over_ten_steps) {
  run_ten_steps("adamw", {"exp_avg", "exp_avg_sq"}, [](const OptimizerTensors& all, int step) {
    adamw_step(group_of(all, {0}), scalars(1e-2, step), {.beta2 = 0.98, .weight_decay = 0.1});
    adamw_step(group_of(all, {1, 2}), scalars(3e-3, step), {.weight_decay = 0});
  });
  run_ten_steps("adamw_defaults", {"exp_avg", "exp_avg_sq"}, [](const OptimizerTensors& all, int step) {
    adamw_step(group_of(all, {0, 1, 2}), scalars(1e-3, step), {});
  });
}

BOOST_AUTO_TEST_CASE(sgd_agrees_with_pytorch_over_ten_steps) {
  struct Run {
    const char* name;
    double lr1;
    SgdOptions first;
    double lr2;
    SgdOptions second;
  };
  for (const Run& r : {Run{"sgd", 0.1, {}, 0.01, {.weight_decay = 0.05}},
                       Run{"sgd_momentum", 0.1, {.momentum = 0.9}, 0.05, {.momentum = 0.8, .weight_decay = 0.01}},
                       Run{"sgd_nesterov",
                           0.1,
                           {.momentum = 0.9, .weight_decay = 0.1, .nesterov = true},
                           0.05,
                           {.momentum = 0.5, .nesterov = true}},
                       Run{"sgd_dampening",
                           0.1,
                           {.momentum = 0.9, .dampening = 0.3},
                           0.05,
                           {.momentum = 0.9, .dampening = 1, .weight_decay = 0.1}}}) {
    run_ten_steps(r.name, {"momentum_buffer"}, [&](const OptimizerTensors& all, int step) {
      sgd_step(group_of(all, {0}), scalars(r.lr1, step), r.first, step > 1);
      sgd_step(group_of(all, {1, 2}), scalars(r.lr2, step), r.second, step > 1);
    });
  }
}

BOOST_AUTO_TEST_CASE(the_norm_and_the_clipped_gradients_agree_with_pytorch) {
  const auto f = read_fixture("clip_grad_norm");
  Tensors grads;
  for (const std::string& p : names) grads.push_back(f.at("gradient." + p));
  const Tensor norm = grad_norm(grads);
  BOOST_TEST(norm.item<double>() == f.at("total_norm").item<double>(), boost::test_tools::tolerance(3e-7));
  const Tensor coefficient = clip_coefficient(norm, 1.5);
  for (size_t i = 0; i < names.size(); ++i) {  // a step of rate -1 from 0 leaves the scaled gradient
    const OptimizerTensors t{{zeros_like(grads[i])}, Tensors(1), {grads[i]}, {}, {}};
    sgd_step(t, {scalar(-1, DType::f64), {}, coefficient}, {}, false);
    check_within_four_ulp(t.masters[0], f.at("clipped." + names[i]), names[i]);
  }
}

BOOST_AUTO_TEST_CASE(a_norm_that_is_not_a_number_is_passed_on) {
  BOOST_TEST(std::isnan(clip_coefficient(grad_norm({full({3}, NAN)}), 1.0).item<double>()));
  BOOST_TEST(clip_coefficient(grad_norm({full({3}, INFINITY)}), 1.0).item<double>() == 0.0);
}

BOOST_AUTO_TEST_CASE(a_bf16_parameter_receives_the_rounded_master) {
  const OptimizerTensors t{
      {full({70}, 1.0)}, {zeros({70}, DType::bf16)}, {full({70}, 0.3)}, {zeros({70})}, {zeros({70})}};
  const uint64_t version = t.copies[0].version();
  adamw_step(t, scalars(1e-2, 1), {});
  for (const float x : t.copies[0].to_vector<float>()) {
    BOOST_TEST_REQUIRE(x == static_cast<float>(bfloat16(t.masters[0].to_vector<float>()[0])));
  }
  BOOST_TEST(t.copies[0].version() > version);
  BOOST_TEST(t.masters[0].to_vector<float>()[0] < 1.0f);
}

BOOST_AUTO_TEST_CASE(lists_and_numbers_that_do_not_fit_are_named) {
  const Tensor x = zeros({2, 3});
  const auto step = [&](const OptimizerTensors& t, const StepScalars& s = scalars(1, 1)) { adamw_step(t, s, {}); };
  check_throws<ValueError>(
      [&] {
        step({{x}, {{}}, {}, {x}, {x}});
      },
      "adamw_step: lists of different lengths: 1 masters, 1 copies, 0 gradients, 1 moments");
  check_throws<ShapeError>(
      [&] {
        step({{x}, {{}}, {zeros({3, 2})}, {x}, {x}});
      },
      "adamw_step: master f32 [2, 3] cpu:0 and gradient f32 [3, 2] cpu:0 differ in shape");
  check_throws<DTypeError>(
      [&] {
        step({{x}, {{}}, {zeros({2, 3}, DType::f64)}, {x}, {x}});
      },
      "adamw_step: master f32 [2, 3] cpu:0 and gradient f64 [2, 3] cpu:0 differ in dtype");
  check_throws<DTypeError>(
      [&] {
        step({{zeros({2}, DType::bf16)}, {{}}, {x}, {x}, {x}});
      },
      "adamw_step: needs f32 or f64 masters, got bf16 [2] cpu:0");
  check_throws<ShapeError>(
      [&] {
        step({{x}, {{}}, {x}, {x}, {zeros({6})}});
      },
      "adamw_step: moment f32 [6] cpu:0 does not fit its master f32 [2, 3] cpu:0");
  check_throws<ValueError>(
      [&] {
        step({{x}, {{}}, {x}, {x}, {x}}, {Tensor(), scalar(1, DType::f64), {}});
      },
      "adamw_step: lr must be f64 with one element, got undefined");
  check_throws<ValueError>(
      [&] {
        step({{x}, {{}}, {x}, {x}, {x}}, {scalar(1, DType::f64), scalar(1), {}});
      },
      "adamw_step: step must be f64 with one element, got f32 [] cpu:0");
  check_throws<ValueError>(
      [&] {
        sgd_step({{x}, {{}}, {x}, {x}, {}}, scalars(1, 1), {.nesterov = true}, true);
      },
      "sgd_step: nesterov needs a momentum and no dampening");
  check_throws<DTypeError>([&] { grad_norm({zeros({2}, DType::i64)}); },
                           "grad_norm: needs f32 or f64, got i64 [2] cpu:0");
  check_throws<ValueError>([&] { clip_coefficient(scalar(1, DType::f64), 0); },
                           "clip_coefficient: max_norm is 0, must be above 0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
