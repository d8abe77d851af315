// SPDX-License-Identifier: Apache-2.0
#include "train/safetensors.hpp"

#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/failing_calls.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"

namespace mahia::train {
namespace {

using tests::check_same_bits;
using tests::check_throws;
using tests::FailingCalls;
using tests::TemporaryFolder;

std::string fixture(const std::string& name) { return MAHIA_SOURCE_DIR "/tests/fixtures/" + name + ".safetensors"; }

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string length_bytes(uint64_t n) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((n >> (8 * i)) & 0xff);
  return bytes;
}

std::string file_bytes(const std::string& json, size_t values) {
  return length_bytes(json.size()) + json + std::string(values, '\0');
}

Tensor find(const nn::NamedTensors& tensors, const std::string& name) {
  for (const auto& [known, tensor] : tensors) {
    if (known == name) return tensor;
  }
  BOOST_FAIL("no tensor named " + name);
  return {};
}

nn::NamedTensors some_tensors() {
  return {{"a", randn({3, 5})},
          {"b", arange(7)},
          {"odd \"name\"\n\u00e4", randn({4}, DType::f64)},
          {"flags", Tensor::from({true, false, true}, {3})}};
}

BOOST_AUTO_TEST_SUITE(safetensors)

BOOST_AUTO_TEST_CASE(a_file_of_pytorch_loads_with_every_dtype) {
  const SafeTensors file = load_safetensors(fixture("torch_dtypes"));
  const auto values = [&](const std::string& name) { return find(file.tensors, name).to_vector<double>(); };
  const std::vector<double> floats = {-1.5, -0.0, 0.25, 1, 2.5, 1024};
  for (const auto& [name, dtype] : {std::pair("float64", DType::f64), std::pair("float32", DType::f32),
                                    std::pair("bfloat16", DType::bf16), std::pair("float16", DType::f16)}) {
    BOOST_TEST((find(file.tensors, name).dtype() == dtype));
    BOOST_TEST(values(name) == floats, boost::test_tools::per_element());
  }
  BOOST_TEST(find(file.tensors, "int64").to_vector<int64_t>()[0] == std::numeric_limits<int64_t>::min());
  BOOST_TEST(find(file.tensors, "int32").to_vector<int32_t>()[0] == std::numeric_limits<int32_t>::min());
  BOOST_TEST(values("uint8") == (std::vector<double>{0, 1, 2, 3, 100, 255}), boost::test_tools::per_element());
  BOOST_TEST(values("bool") == (std::vector<double>{1, 0, 1, 0, 0, 1}), boost::test_tools::per_element());
  BOOST_TEST(std::isnan(values("special")[0]));
  BOOST_TEST(values("special")[3] == 0x1p-149);
  BOOST_TEST(std::signbit(values("special")[4]));
  BOOST_TEST(find(file.tensors, "scalar").item<float>() == 3.25f);
  BOOST_TEST(find(file.tensors, "empty").shape() == (Shape{0, 3}));
  BOOST_TEST(!file.metadata.empty());
}

BOOST_AUTO_TEST_CASE(every_fixture_loads) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MAHIA_SOURCE_DIR "/tests/fixtures")) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    BOOST_TEST(!load_safetensors(entry.path().string()).tensors.empty());
  }
  BOOST_TEST(files > 50u);
}

BOOST_AUTO_TEST_CASE(what_is_saved_comes_back_bit_for_bit) {
  const TemporaryFolder folder;
  nn::NamedTensors tensors = load_safetensors(fixture("torch_dtypes")).tensors;
  tensors.emplace_back("strided", transpose(randn({3, 4}), 0, 1));
  for (const auto& more : some_tensors()) tensors.push_back(more);
  save_safetensors(folder / "x.safetensors", tensors, {{"note", "\u00fc \"quoted\""}});
  const SafeTensors back = load_safetensors(folder / "x.safetensors");
  BOOST_TEST(back.tensors.size() == tensors.size());
  BOOST_TEST((back.metadata == Metadata{{"note", "\u00fc \"quoted\""}}));
  for (const auto& [name, tensor] : tensors) check_same_bits(find(back.tensors, name), tensor);
  for (const SafetensorsEntry& e : read_safetensors_header(folder / "x.safetensors").tensors) {
    BOOST_TEST(e.begin % size_of(e.dtype) == 0u, e.name << " is not aligned");
  }
}

BOOST_AUTO_TEST_CASE(no_tensors_are_a_file_too) {
  const TemporaryFolder folder;
  save_safetensors(folder / "none.safetensors", {});
  BOOST_TEST(load_safetensors(folder / "none.safetensors").tensors.empty());
}

// Each header with the number of value bytes behind it, and what the error must say.
BOOST_AUTO_TEST_CASE(hostile_headers_are_refused_with_tensor_and_byte) {
  const std::string good = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string deep = R"({"x":{"dtype":"F32","shape":)" + std::string(100'000, '[');
  const std::string long_name(4097, 'n');
  const auto tensor = [](const std::string& fields) { return R"({"x":{)" + fields + "}}"; };
  const std::vector<std::tuple<std::string, size_t, std::string>> cases = {
      {"{", 0, "no valid JSON in UTF-8, at byte 9"},
      {"{}}", 0, "no valid JSON"},
      {"{} {}", 0, "no valid JSON"},
      {"{\"x\":{}}", 0, "tensor `x`: has no dtype"},
      {"{\"\xff\":{}}", 0, "no valid JSON in UTF-8"},
      {"{\"x\":1}", 0, "a number stands where the format allows none"},
      {"{\"x\":\"F32\"}", 0, "a text stands where"},
      {"{\"x\":[]}", 0, "a list stands where"},
      {"{\"x\":null}", 0, "null stands where"},
      {"{\"__metadata__\":{\"a\":{}}}", 0, "an object stands where"},
      {"{\"__metadata__\":{\"a\":true}}", 0, "a truth value stands where"},
      {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "metadata `a` stands twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ stands twice"},
      {R"({"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[],"data_offsets":[4,8]}})",
       8, "tensor `x`: the name stands twice"},
      {"{\"" + long_name + "\":{}}", 0, "a name of 4097 bytes; at most 4096"},
      {deep, 8, "tensor `x`: a list stands where"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1)"), 8, "unknown field `more`, at byte"},
      {tensor(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"), 8, "dtype stands twice"},
      {tensor(R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])"), 8, "unknown dtype `F8_E4M3`; known: F64"},
      {tensor(R"("shape":[2],"data_offsets":[0,8])"), 8, "has no dtype"},
      {tensor(R"("dtype":"F32","data_offsets":[0,8])"), 8, "has no shape"},
      {tensor(R"("dtype":"F32","shape":[2])"), 8, "has no data_offsets"},
      {tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8, "a negative number"},
      {tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8, "a number that is no integer"},
      {tensor(R"("dtype":"F32","shape":[2e0],"data_offsets":[0,8])"), 8, "a number that is no integer"},
      {tensor(R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8])"), 8, "no integer below 2^64"},
      {tensor(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), 8, "is too large"},
      {tensor(R"("dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0])"), 0, "more than 2^63 bytes"},
      {tensor(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"), 8, "more than 8 axes"},
      {tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8, "f32 [3] needs 12 bytes, data_offsets give 8"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8, "data_offsets [8, 0] leave"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,16])"), 8, "leave the 8 bytes of values"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8, "data_offsets has 1 numbers instead of two"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), 8, "data_offsets has more than two numbers"},
      {tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), 8, "tensor `x`: leaves a hole"},
      {good, 12, "the last tensor ends at byte 70, the file at byte 74"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "tensor `y`: overlaps the one before it"},
  };
  const TemporaryFolder folder;
  write_bytes(folder / "good", file_bytes(good, 8));
  BOOST_TEST(load_safetensors(folder / "good").tensors.size() == 1u);
  for (const auto& [json, values, text] : cases) {
    write_bytes(folder / "bad", file_bytes(json, values));
    BOOST_TEST_CONTEXT(json.substr(0, 200)) {
      check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, text);
      check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, folder / "bad");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_truth_value_is_0_or_1) {
  const TemporaryFolder folder;
  const std::string json = R"({"x":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})";
  write_bytes(folder / "bad", length_bytes(json.size()) + json + "\1\2");
  check_throws<IoError>([&] { load_safetensors(folder / "bad"); },
                        message("tensor `x`: a truth value that is neither 0 nor 1, at byte ", 9 + json.size()));
}

BOOST_AUTO_TEST_CASE(lying_lengths_are_refused_before_memory_is_taken) {
  const TemporaryFolder folder;
  for (const uint64_t n : {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    write_bytes(folder / "bad", length_bytes(n) + "{}");
    check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, "bytes, at byte 0, in a file of 10");
  }
  for (const std::string& bytes : {std::string(), std::string(8, '\0')}) {
    write_bytes(folder / "bad", bytes);
    check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, "no safetensors file: only");
  }
  write_bytes(folder / "bad", length_bytes(2) + "[]");
  check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, "the header, at byte 8, is no object");
}

BOOST_AUTO_TEST_CASE(too_many_tensors_are_refused) {
  std::string json = "{";
  for (int i = 0; i <= 100'000; ++i) {
    json += message(i > 0 ? "," : "", "\"", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  const TemporaryFolder folder;
  write_bytes(folder / "bad", file_bytes(json + "}", 0));
  check_throws<IoError>([&] { load_safetensors(folder / "bad"); }, "tensor `100000`: more than 100000 tensors");
}

BOOST_AUTO_TEST_CASE(what_is_no_regular_file_is_refused) {
  const TemporaryFolder folder;
  check_throws<IoError>([&] { load_safetensors(folder / "none"); }, "/none: cannot open it: No such file");
  check_throws<IoError>([&] { load_safetensors(folder.path()); }, "is no regular file");
  BOOST_REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  check_throws<IoError>([&] { load_safetensors(folder / "pipe"); }, "is no regular file");
}

BOOST_AUTO_TEST_CASE(pickles_are_refused_with_the_conversion) {
  const TemporaryFolder folder;
  for (const std::string& beginning : {std::string("PK\x03\x04 and a zip"), std::string("\x80\x02}q\x01(pickle)")}) {
    write_bytes(folder / "model.pt", beginning);
    check_throws<IoError>([&] { load_safetensors(folder / "model.pt"); }, "is a PyTorch pickle");
    check_throws<IoError>([&] { load_safetensors(folder / "model.pt"); }, "save_file(torch.load(");
  }
}

BOOST_AUTO_TEST_CASE(every_single_bit_flip_is_detected) {
  const TemporaryFolder folder;
  save_safetensors(folder / "good",
                   {{"weight", randn({32, 32})}, {"bias", randn({32})}, {"on", ones({5}, DType::boolean)}},
                   {{"step", "100"}});
  const size_t bytes = read_file(folder / "good").size(), header_bits = 8 * (bytes - 4 * 32 * 33 - 5);
  std::fstream file(folder / "good", std::ios::in | std::ios::out | std::ios::binary);
  const auto flip = [&](size_t bit) {
    const auto place = static_cast<std::streamoff>(bit / 8);
    const int byte = file.seekg(place).get();
    file.seekp(place).put(static_cast<char>(byte ^ (1 << (bit % 8)))).flush();
  };
  std::mt19937_64 random(1);
  int undetected = 0;
  for (size_t i = 0; i < header_bits + 1000; ++i) {
    const size_t bit = i < header_bits ? i : random() % (8 * bytes);
    flip(bit);
    try {
      load_safetensors(folder / "good");
      ++undetected;
      BOOST_TEST_MESSAGE("bit " << bit);
    } catch (const IoError&) {
    }
    flip(bit);
  }
  BOOST_CHECK_NO_THROW(load_safetensors(folder / "good"));
  BOOST_TEST(undetected == 0);
}

BOOST_AUTO_TEST_CASE(every_truncation_is_detected) {
  const TemporaryFolder folder;
  save_safetensors(folder / "good", some_tensors());
  const std::string good = read_file(folder / "good");
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    write_bytes(folder / "bad", good.substr(0, bytes));
    BOOST_CHECK_THROW(load_safetensors(folder / "bad"), IoError);
  }
}

BOOST_AUTO_TEST_CASE(a_fault_at_any_call_leaves_the_old_file) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const nn::NamedTensors old = {{"x", full({1000}, 1)}}, young = {{"x", full({1000}, 2)}};
  save_safetensors(path, old);
  const int calls = tests::count_calls([&] { save_safetensors(path, old); });
  BOOST_TEST(calls >= 9);  // open, three writes, fsync, close, rename, and the folder's open, fsync, close
  for (const int error : {ENOSPC, EIO}) {
    for (int bad = 0; bad < calls; ++bad) {
      save_safetensors(path, old);
      bool saved = true;
      try {
        const FailingCalls failing([&](int n) { return n == bad ? error : 0; });
        save_safetensors(path, young);
      } catch (const IoError& refused) {
        saved = false;
        BOOST_TEST(std::string(refused.what()).find(std::strerror(error)) != std::string::npos, refused.what());
      }
      const float value = find(load_safetensors(path).tensors, "x").to_vector<float>()[999];
      BOOST_TEST((value == 2.f || (value == 1.f && !saved)), "call " << bad);
      BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1, "call " << bad);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_disk_that_stays_full_leaves_the_old_file) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"x", full({1000}, 1)}});
  for (int first = 0; first < 10; ++first) {
    const FailingCalls failing([&](int n) { return n >= first ? ENOSPC : 0; });
    BOOST_CHECK_THROW(save_safetensors(path, {{"x", full({1000}, 2)}}), IoError);
  }
  BOOST_CHECK_NO_THROW(load_safetensors(path));
}

BOOST_AUTO_TEST_CASE(signals_and_short_writes_change_nothing) {
  const TemporaryFolder folder;
  const nn::NamedTensors tensors = some_tensors();
  save_safetensors(folder / "plain", tensors);
  {
    const FailingCalls failing([](int n) { return n % 2 == 0 ? EINTR : 0; }, 7);
    save_safetensors(folder / "interrupted", tensors);
  }
  BOOST_TEST(read_file(folder / "plain") == read_file(folder / "interrupted"));
}

BOOST_AUTO_TEST_CASE(names_that_cannot_be_written_are_refused) {
  const TemporaryFolder folder;
  const Tensor x = zeros({1});
  const auto save = [&](const nn::NamedTensors& tensors) { save_safetensors(folder / "bad", tensors); };
  check_throws<ValueError>([&] { save({{"a", x}, {"a", x}}); }, "two tensors are named `a`");
  check_throws<ValueError>([&] { save({{"__metadata__", x}}); }, "bad tensor name");
  check_throws<ValueError>([&] { save({{"\xff", x}}); }, "is not UTF-8");
  check_throws<ValueError>([&] { save({{"a", Tensor()}}); }, "tensor `a` is undefined");
}

struct Tied : nn::Module {
  Tensor first = parameter("first", randn({3, 4}));
  Tensor second = share_parameter("second", first);
  Tensor third = parameter("third", randn({2}));
};

BOOST_AUTO_TEST_CASE(a_model_is_saved_and_loaded_in_one_line_with_ties_stored_once) {
  const TemporaryFolder folder;
  Tied model, other;
  model.load_state_dict({{"first", full({3, 4}, 5)}, {"second", full({3, 4}, 5)}, {"third", full({2}, 6)}});
  save(model, folder / "model.safetensors", {{"note", "n"}});
  BOOST_TEST(load_safetensors(folder / "model.safetensors").tensors.size() == 2u);
  BOOST_TEST(load_safetensors(folder / "model.safetensors").metadata.at("second") == "first");
  BOOST_TEST((load(other, folder / "model.safetensors") == Metadata{{"note", "n"}}));
  for (size_t i = 0; i < 3; ++i) check_same_bits(other.state_dict()[i].second, model.state_dict()[i].second);
}

BOOST_AUTO_TEST_CASE(a_file_that_does_not_fit_is_reported_whole_and_changes_nothing) {
  const TemporaryFolder folder;
  save_safetensors(folder / "bad", {{"second", zeros({3, 4})}, {"extra", zeros({1})}});
  Tied model;
  const std::vector<float> before = model.first.to_vector<float>();
  check_throws<ValueError>([&] { load(model, folder / "bad"); }, "missing: third");
  check_throws<ValueError>([&] { load(model, folder / "bad"); }, "unexpected: extra");
  check_throws<ValueError>([&] { load(model, folder / "bad"); }, folder / "bad");
  BOOST_TEST((model.first.to_vector<float>() == before));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
