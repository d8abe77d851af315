// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device.hpp"
#include "dtype.hpp"
#include "shape.hpp"

namespace mahia {

// What a kernel reads: a pointer with shape, strides (in elements), dtype and device. No ownership, no history.
// An undefined tensor becomes a view with defined() == false; slots take it for an absent operand.
class ConstView {
 public:
  ConstView() = default;
  ConstView(const void* data, const Shape& shape, const Shape& strides, DType dtype, Device device)
      : data_(const_cast<void*>(data)), shape_(shape), strides_(strides), dtype_(dtype), device_(device) {}

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  int rank() const { return shape_.rank(); }
  int64_t size(int axis) const { return shape_[axis < 0 ? axis + rank() : axis]; }
  int64_t stride(int axis) const { return strides_[axis < 0 ? axis + rank() : axis]; }
  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t d : shape_) n *= d;
    return n;
  }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  bool is_contiguous() const { return mahia::is_contiguous(shape_, strides_); }
  const void* raw() const { return data_; }
  template <class T>
  const T* data() const {
    check<DTypeError>(dtype_ == dtype_of<T>, "view: holds ", dtype_, ", read as ", dtype_of<T>);
    return static_cast<const T*>(data_);
  }

 protected:
  void* data_ = nullptr;
  Shape shape_, strides_;
  DType dtype_ = DType::f32;
  Device device_;
};

// What a kernel writes.
class View : public ConstView {
 public:
  View() = default;
  View(void* data, const Shape& shape, const Shape& strides, DType dtype, Device device)
      : ConstView(data, shape, strides, dtype, device) {}
  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    return const_cast<T*>(ConstView::data<T>());
  }
};

void describe(std::string& out, const ConstView& view);  // "f32 [8, 64] cpu:0"

// True when every offset inside the view, in elements, fits a signed 32-bit number.
bool fits_int32(const ConstView& view);

}  // namespace mahia
