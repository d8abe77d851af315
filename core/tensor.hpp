// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <memory>
#include <span>
#include <vector>

#include "storage.hpp"
#include "view.hpp"

namespace mahia {

struct Meta;  // the tensor's place in the graph, defined in autograd/meta.hpp

// A shared handle to an n-dimensional array: copies of a Tensor are the same tensor. Math is free functions.
// A default-constructed Tensor is undefined; ops take it for an absent optional operand.
class Tensor {
 public:
  Tensor() = default;
  // A new view of `storage`; strides and offset are in elements.
  Tensor(std::shared_ptr<Storage> storage, const Shape& shape, const Shape& strides, int64_t offset, DType dtype);

  // A copy of `values` (row-major) on `device`; throws ShapeError when their number is not that of `shape`.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = cpu_device) {
    return from_bytes(values.data(), static_cast<int64_t>(values.size()), shape, dtype_of<T>, device);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = cpu_device) {
    return from(std::span<const T>(values), shape, device);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = cpu_device) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }

  bool defined() const { return body_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return body().shape; }
  const Shape& strides() const { return body().strides; }
  int rank() const { return body().shape.rank(); }
  int64_t size(int64_t axis) const { return shape()[normalize_axis("size", axis, rank())]; }
  int64_t numel() const;
  int64_t offset() const { return body().offset; }
  DType dtype() const { return body().dtype; }
  Device device() const { return body().storage->device(); }
  bool is_contiguous() const { return mahia::is_contiguous(shape(), strides()); }
  const std::shared_ptr<Storage>& storage() const { return body().storage; }
  uint64_t version() const { return body().storage->version(); }

  // The values in row-major order, converted to T, on the host. Waits for the device.
  template <class T>
  std::vector<T> to_vector() const;
  // The only element, converted to T; throws ShapeError when there is not exactly one. Waits for the device.
  template <class T>
  T item() const;

  operator ConstView() const {
    return defined() ? ConstView(pointer(), body_->shape, body_->strides, body_->dtype, device()) : ConstView();
  }
  // For kernels and loaders that write values; says so to the version counter.
  View mutable_view() const {
    body().storage->bump_version();
    return {pointer(), body_->shape, body_->strides, body_->dtype, device()};
  }
  // For an output that its op has just made: no reader can exist, so the version stays.
  View output_view() const { return {pointer(), body_->shape, body_->strides, body_->dtype, device()}; }

  // autograd (defined there): see autograd/record.hpp and autograd/backward.hpp.
  bool requires_grad() const { return body().meta != nullptr && meta_requires_grad(); }
  Tensor& set_requires_grad(bool value);  // only for a leaf with a floating dtype; returns *this
  bool is_leaf() const;
  Tensor grad() const;               // undefined before the first backward; f32 for a bf16 leaf
  void set_grad(Tensor grad) const;  // an undefined tensor clears it
  // The same values without history.
  Tensor detach() const;

  // Replaces what this handle and all its copies refer to; the Meta stays. For Module::to and loaders.
  void replace_storage(const Tensor& value) const;
  const std::shared_ptr<Meta>& meta() const { return body().meta; }
  void set_meta(std::shared_ptr<Meta> meta) const { body_->meta = std::move(meta); }
  bool is_same(const Tensor& other) const { return body_ == other.body_; }
  const void* id() const { return body_.get(); }
  // True when nobody else can see these bytes: one handle, one view.
  bool is_unshared() const { return body_.use_count() == 1 && body_->storage.use_count() == 1; }

 private:
  struct Body {
    Body(std::shared_ptr<Storage> s, const Shape& dims, const Shape& steps, int64_t first, DType type)
        : storage(std::move(s)), shape(dims), strides(steps), offset(first), dtype(type) {}
    std::shared_ptr<Storage> storage;
    Shape shape, strides;
    int64_t offset;
    DType dtype;
    std::shared_ptr<Meta> meta;
  };
  static Tensor from_bytes(const void* values, int64_t count, const Shape& shape, DType dtype, Device device);
  const Body& body() const {
    if (body_ == nullptr) [[unlikely]]
      fail<ValueError>("an undefined tensor was used where a value is needed");
    return *body_;
  }
  void* pointer() const {
    return static_cast<std::byte*>(body().storage->data()) + static_cast<size_t>(body_->offset) * size_of(body_->dtype);
  }
  bool meta_requires_grad() const;

  std::shared_ptr<Body> body_;
};

using Tensors = std::vector<Tensor>;

void describe(std::string& out, const Tensor& tensor);  // "f32 [2, 3] cpu:0" or "undefined"
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

}  // namespace mahia
