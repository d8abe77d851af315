// SPDX-License-Identifier: Apache-2.0
// Numbers, shapes, tensors: what core says about itself.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <sstream>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

const auto each = boost::test_tools::per_element();

std::string printed(const Tensor& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

uint16_t rounded(uint32_t f32_bits) { return bfloat16(std::bit_cast<float>(f32_bits)).bits; }

BOOST_AUTO_TEST_SUITE(core_numbers)

BOOST_AUTO_TEST_CASE(every_bf16_survives_and_every_midpoint_rounds_to_even) {
  for (uint32_t p = 0; p < 0x10000; ++p) {
    const bfloat16 x = std::bit_cast<bfloat16>(static_cast<uint16_t>(p));
    const auto value = static_cast<float>(x);
    if (std::isnan(value)) {
      BOOST_REQUIRE(std::isnan(static_cast<float>(bfloat16(value))));
      continue;
    }
    BOOST_REQUIRE_EQUAL(bfloat16(value).bits, p);
    if (std::isinf(value)) continue;
    BOOST_REQUIRE_EQUAL(rounded((p << 16) | 0x7fff), p);
    BOOST_REQUIRE_EQUAL(rounded((p << 16) | 0x8000), p + (p & 1));
    BOOST_REQUIRE_EQUAL(rounded((p << 16) | 0x8001), p + 1);
  }
}

BOOST_AUTO_TEST_CASE(every_f16_survives_and_every_midpoint_rounds_to_even) {
  for (uint32_t p = 0; p < 0x10000; ++p) {
    const auto value = static_cast<float>(std::bit_cast<float16>(static_cast<uint16_t>(p)));
    if (std::isnan(value)) {
      BOOST_REQUIRE(std::isnan(static_cast<float>(float16(value))));
      continue;
    }
    BOOST_REQUIRE_EQUAL(float16(value).bits, p);
    if ((p & 0x7fff) >= 0x7bff) continue;  // the largest finite numbers have no finite neighbour
    const auto next = static_cast<float>(std::bit_cast<float16>(static_cast<uint16_t>(p + 1)));
    BOOST_REQUIRE_EQUAL(float16((value + next) / 2).bits, p + (p & 1));
  }
  BOOST_TEST(float16(65519.0f).bits == 0x7bff);
  BOOST_TEST(float16(65520.0f).bits == 0x7c00);
}

BOOST_AUTO_TEST_CASE(dtypes_have_names_sizes_and_promote_as_in_pytorch) {
  BOOST_TEST(message(DType::bf16, " ", DType::boolean, " ", DType::i32) == "bf16 bool i32");
  BOOST_TEST(size_of(DType::f64) == 8u);
  BOOST_TEST(size_of(DType::u8) == 1u);
  BOOST_TEST((promote(DType::f16, DType::bf16) == DType::f32));
  BOOST_TEST((promote(DType::i64, DType::bf16) == DType::bf16));
  BOOST_TEST((promote(DType::u8, DType::boolean) == DType::u8));
  BOOST_TEST((promote(DType::i32, DType::u8) == DType::i32));
  check_throws<DTypeError>([] { visit_float(DType::f16, []<class T>() {}); }, "needs f64, f32 or bf16, got f16");
  check_throws<DTypeError>([] { visit_index(DType::u8, []<class T>() {}); }, "needs i64 or i32, got u8");
}

BOOST_AUTO_TEST_CASE(devices_are_read_and_written) {
  BOOST_TEST(message(parse_device("cuda:1")) == "cuda:1");
  BOOST_TEST((parse_device("cpu") == cpu_device));
  for (const char* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0x"}) {
    BOOST_CHECK_THROW(parse_device(bad), ValueError);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(core_shapes)

BOOST_AUTO_TEST_CASE(shapes_count_and_reject_nonsense) {
  BOOST_TEST(numel(Shape{}) == 1);
  BOOST_TEST(numel(Shape{3, 0, 5}) == 0);
  check_throws<ShapeError>([] { numel(Shape{2, -1}); }, "shape: negative dimension in [2, -1]");
  check_throws<ShapeError>([] { numel(Shape{int64_t{1} << 40, int64_t{1} << 40}); }, "more than 2^63 elements");
  check_throws<ShapeError>([] { Shape{1, 2, 3, 4, 5, 6, 7, 8, 9}; }, "shape: more than 8 axes");
  Shape shape{2, 3};
  shape.insert(1, 7);
  BOOST_TEST((shape == Shape{2, 7, 3}));
  shape.erase(0);
  BOOST_TEST((shape == Shape{7, 3}));
}

BOOST_AUTO_TEST_CASE(shapes_broadcast_from_the_right) {
  BOOST_TEST((broadcast_shapes("op", {5, 1, 3}, {4, 1}) == Shape{5, 4, 3}));
  BOOST_TEST((broadcast_shapes("op", {}, {2}) == Shape{2}));
  BOOST_TEST((broadcast_shapes("op", {0}, {1}) == Shape{0}));
  check_throws<ShapeError>(
      [] {
        broadcast_shapes("op", {2, 3}, {2, 4});
      },
      "op: shapes [2, 3] and [2, 4] do not broadcast: 3 against 4 on axis 1");
  check_throws<IndexError>([] { normalize_axis("op", -3, 2); }, "op: axis -3 is out of range for a tensor of 2 axes");
}

BOOST_AUTO_TEST_CASE(contiguity_ignores_axes_of_size_one) {
  BOOST_TEST((contiguous_strides({2, 3, 4}) == Shape{12, 4, 1}));
  BOOST_TEST(is_contiguous({2, 1, 4}, {4, 99, 1}));
  BOOST_TEST(is_contiguous({2, 0}, {7, 7}));
  BOOST_TEST(!is_contiguous({2, 3}, {1, 2}));
}

BOOST_AUTO_TEST_CASE(offsets_beyond_32_bits_are_noticed) {
  const int value = 0;
  const int64_t half = int64_t{1} << 30;
  BOOST_TEST(fits_int32(ConstView(&value, {2, 3}, {half, 1}, DType::f32, cpu_device)));
  BOOST_TEST(!fits_int32(ConstView(&value, {3, 3}, {half, 1}, DType::f32, cpu_device)));
  BOOST_TEST(!fits_int32(ConstView(&value, {4 * half}, {0}, DType::f32, cpu_device)));
  BOOST_TEST(fits_int32(ConstView(&value, {0, 4 * half}, {1, 1}, DType::f32, cpu_device)));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(core_tensors)

BOOST_AUTO_TEST_CASE(values_go_in_and_come_out_in_every_dtype) {
  const Tensor x = Tensor::from({1.5f, -2.0f, 0.0f}, {3});
  BOOST_TEST(x.to_vector<double>() == (std::vector<double>{1.5, -2, 0}), each);
  BOOST_TEST(x.to_vector<int64_t>() == (std::vector<int64_t>{1, -2, 0}), each);
  BOOST_TEST(x.to_vector<bool>() == (std::vector<bool>{true, true, false}), each);
  BOOST_TEST(static_cast<float>(x.to_vector<bfloat16>()[0]) == 1.5f);
  BOOST_TEST(scalar(2.5, DType::bf16).item<double>() == 2.5);
  BOOST_TEST(scalar(7, DType::f16).item<int64_t>() == 7);
  BOOST_TEST(Tensor::from(std::vector<int32_t>{}, {0, 3}).to_vector<float>().empty());
  check_throws<ShapeError>([] { Tensor::from({1.0f, 2.0f, 3.0f}, {2, 2}); }, "from: 3 values do not fill shape [2, 2]");
  check_throws<ShapeError>([&] { x.item<float>(); }, "item: needs exactly one element, got f32 [3] cpu:0");
  check_throws<ValueError>([] { Tensor().item<float>(); }, "item: the tensor is undefined");
  check_throws<DTypeError>([&] { ConstView(x).data<double>(); }, "view: holds f32, read as f64");
}

BOOST_AUTO_TEST_CASE(a_handle_is_shared_and_a_view_sees_changes) {
  const Tensor x = zeros({2, 3}), same = x, column = select(x, 1, 2);
  BOOST_TEST(same.is_same(x));
  BOOST_TEST(!x.is_unshared());
  const uint64_t before = column.version();
  fill(column, 5);
  BOOST_TEST(x.to_vector<float>() == (std::vector<float>{0, 0, 5, 0, 0, 5}), each);
  BOOST_TEST(x.version() == before + 1);
  const Tensor own = clone(x);
  fill(own, 1);
  BOOST_TEST(x.to_vector<float>()[2] == 5.0f);
}

BOOST_AUTO_TEST_CASE(a_tensor_may_borrow_memory_and_gives_it_back) {
  float values[2] = {3, 4};
  int released = 0;
  {
    const auto storage = std::make_shared<Storage>(cpu_device, values, sizeof values, [&] { ++released; });
    const Tensor x(storage, {2}, {1}, 0, DType::f32);
    BOOST_TEST(x.to_vector<float>() == (std::vector<float>{3, 4}), each);
    BOOST_TEST(released == 0);
  }
  BOOST_TEST(released == 1);
}

BOOST_AUTO_TEST_CASE(a_replaced_storage_is_seen_by_every_copy_of_the_handle) {
  const Tensor x = zeros({2}), same = x;
  x.replace_storage(ones({3}, DType::f64));
  BOOST_TEST(message(same) == "f64 [3] cpu:0");
  BOOST_TEST(same.to_vector<double>() == (std::vector<double>{1, 1, 1}), each);
}

BOOST_AUTO_TEST_CASE(overwriting_converts_and_demands_equal_shapes) {
  const Tensor target = zeros({2}, DType::i32);
  overwrite(Tensor::from({1.9f, -1.9f}, {2}), target);
  BOOST_TEST(target.to_vector<int64_t>() == (std::vector<int64_t>{1, -1}), each);
  check_throws<ShapeError>([&] { overwrite(zeros({3}), target); },
                           "overwrite: shapes differ: source f32 [3] cpu:0, target i32 [2] cpu:0");
  BOOST_TEST(count_nonfinite(Tensor::from({1.0f, NAN, INFINITY, -INFINITY}, {4})) == 3);
}

BOOST_AUTO_TEST_CASE(a_few_bytes_travel_with_a_call) {
  const Tensor x = zeros({3}, DType::i32);
  const uint64_t version = x.version();
  kernels::FewBytes bytes{};
  bytes[0] = std::byte{7};
  bytes[8] = std::byte{9};
  bytes[12] = std::byte{1};  // beyond x
  kernels::set_bytes(x.mutable_view(), bytes);
  tests::check_same_bits(x, Tensor::from({7, 0, 9}, {3}));
  BOOST_TEST(x.version() > version);
}

BOOST_AUTO_TEST_CASE(a_commit_writes_in_place_and_moves_the_version) {
  const Tensor x = zeros({3}, DType::f32);
  const uint64_t version = x.version();
  commit(Tensor::from({1.0, -2.5, 3.0}, {3}), x);  // f64
  tests::check_same_bits(x, Tensor::from({1.0f, -2.5f, 3.0f}, {3}));
  BOOST_TEST(x.version() > version);
  tests::check_throws<ShapeError>([&] { commit(zeros({2}), x); },
                                  "commit: shapes differ: source f32 [2] cpu:0, target f32 [3] cpu:0");
}

BOOST_AUTO_TEST_CASE(factories_fill_exactly) {
  BOOST_TEST(full({2}, 0.5, DType::bf16).to_vector<float>() == (std::vector<float>{0.5f, 0.5f}), each);
  BOOST_TEST(arange(3, DType::f32).to_vector<float>() == (std::vector<float>{0, 1, 2}), each);
  BOOST_TEST(zeros_like(ones({2}, DType::u8)).to_vector<int64_t>() == (std::vector<int64_t>{0, 0}), each);
  const auto line = linspace(-1, 0.1, 12, DType::f64).to_vector<double>();
  BOOST_TEST(line.front() == -1.0);
  BOOST_TEST(line.back() == 0.1);
  BOOST_TEST(linspace(3, 4, 1).item<float>() == 3.0f);
  BOOST_TEST(linspace(3, 4, 0).numel() == 0);
  check_throws<ShapeError>([] { empty({2, -3}); }, "shape: negative dimension in [2, -3]");
  check_throws<ShapeError>([] { empty({int64_t{1} << 62}); }, "is larger than 2^63 bytes");
  check_throws<OutOfMemoryError>([] { empty({int64_t{1} << 50}); }, "cpu: out of memory: wanted");
  check_throws<ValueError>([] { arange(-1); }, "arange: n is -1, must not be negative");
  check_throws<DTypeError>([] { randn({2}, DType::i64); }, "randn: needs f64, f32 or bf16, got i64");
}

BOOST_AUTO_TEST_CASE(tensors_print_short_and_with_their_kind) {
  BOOST_TEST(printed(Tensor()) == "tensor(undefined)");
  BOOST_TEST(printed(scalar(2.5)) == "tensor(2.5, f32 [] cpu:0)");
  BOOST_TEST(printed(Tensor::from({true, false}, {2})) == "tensor([true, false], bool [2] cpu:0)");
  BOOST_TEST(printed(transpose(reshape(arange(4), {2, 2}), 0, 1)) == "tensor([[0, 2],\n [1, 3]], i64 [2, 2] cpu:0)");
  BOOST_TEST(printed(arange(20)) == "tensor([0, 1, 2, ..., 17, 18, 19], i64 [20] cpu:0)");
  BOOST_TEST(printed(zeros({0, 2})) == "tensor([], f32 [0, 2] cpu:0)");
}

BOOST_AUTO_TEST_CASE(an_undefined_tensor_is_refused) {
  const std::string text = "an undefined tensor was used where a value is needed";
  check_throws<ValueError>([] { Tensor().shape(); }, text);
  check_throws<ValueError>([] { Tensor().to_vector<float>(); }, "to_vector: the tensor is undefined");
  check_throws<ValueError>([] { Tensor().requires_grad(); }, text);
  check_throws<ValueError>([] { clone(Tensor()); }, text);
  check_throws<ValueError>([] { zeros_like(Tensor()); }, text);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
