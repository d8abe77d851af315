// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.hpp"

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/runtime.hpp"

namespace mahia {

Tensor::Tensor(std::shared_ptr<Storage> storage, const Shape& shape, const Shape& strides, int64_t offset, DType dtype)
    : body_(std::make_shared<Body>(std::move(storage), shape, strides, offset, dtype)) {}

Tensor Tensor::from_bytes(const void* values, int64_t count, const Shape& shape, DType dtype, Device device) {
  check<ShapeError>(mahia::numel(shape) == count, "from: ", count, " values do not fill shape ", shape);
  Tensor x = empty(shape, dtype, device);
  if (count > 0) {
    runtime(device.type).copy(x.pointer(), device, values, cpu_device, static_cast<size_t>(count) * size_of(dtype));
  }
  return x;
}

int64_t Tensor::numel() const {
  int64_t n = 1;
  for (const int64_t d : shape()) n *= d;
  return n;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  check<ValueError>(defined(), "to_vector: the tensor is undefined");
  const Tensor host = copy_to(*this, cpu_device, dtype());
  std::vector<T> out(static_cast<size_t>(numel()));
  visit_any(dtype(), [&]<class S>() {
    const S* values = ConstView(host).template data<S>();
    for (size_t i = 0; i < out.size(); ++i) {
      if constexpr (std::is_same_v<S, T>) {
        out[i] = values[i];
      } else if constexpr (std::is_arithmetic_v<S> && std::is_arithmetic_v<T>) {
        out[i] = static_cast<T>(values[i]);
      } else if constexpr (std::is_arithmetic_v<T>) {
        out[i] = static_cast<T>(static_cast<float>(values[i]));
      } else {
        out[i] = T(static_cast<float>(values[i]));
      }
    }
  });
  return out;
}

template <class T>
T Tensor::item() const {
  check<ValueError>(defined(), "item: the tensor is undefined");
  check<ShapeError>(numel() == 1, "item: needs exactly one element, got ", *this);
  return to_vector<T>()[0];
}

template std::vector<double> Tensor::to_vector<double>() const;
template std::vector<float> Tensor::to_vector<float>() const;
template std::vector<bfloat16> Tensor::to_vector<bfloat16>() const;
template std::vector<int64_t> Tensor::to_vector<int64_t>() const;
template std::vector<int32_t> Tensor::to_vector<int32_t>() const;
template std::vector<uint8_t> Tensor::to_vector<uint8_t>() const;
template std::vector<bool> Tensor::to_vector<bool>() const;
template double Tensor::item<double>() const;
template float Tensor::item<float>() const;
template bfloat16 Tensor::item<bfloat16>() const;
template int64_t Tensor::item<int64_t>() const;
template int32_t Tensor::item<int32_t>() const;
template uint8_t Tensor::item<uint8_t>() const;
template bool Tensor::item<bool>() const;

Tensor Tensor::detach() const { return {body().storage, body_->shape, body_->strides, body_->offset, body_->dtype}; }

void Tensor::replace_storage(const Tensor& value) const {
  body_->storage = value.body_->storage;
  body_->shape = value.body_->shape;
  body_->strides = value.body_->strides;
  body_->offset = value.body_->offset;
  body_->dtype = value.body_->dtype;
}

void describe(std::string& out, const Tensor& tensor) { describe(out, static_cast<ConstView>(tensor)); }

}  // namespace mahia
