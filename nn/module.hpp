// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/random.hpp"
#include "../core/tensor.hpp"

namespace mahia::nn {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// A part of a model: parameters, buffers and children, each under a name. Registration is construction:
//   Linear& in_proj_ = add<Linear>("in_proj", width, 3 * width);
// so a member that is not registered cannot exist. Modules are built on the CPU and neither copy nor move.
class Module {
 public:
  Module();
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Every parameter once, under the first name it has; names are joined by '.'.
  NamedTensors named_parameters() const;
  Tensors parameters() const;
  int64_t num_parameters() const;
  NamedTensors named_buffers() const;
  // Every name, shared tensors under each of theirs: parameters and persistent buffers, in PyTorch's order.
  NamedTensors state_dict() const;
  // Copies values into the existing tensors. All problems (missing, unexpected, shapes, dtypes) are collected and
  // thrown as one ValueError before anything changes. With strict = false, missing and unexpected names are skipped.
  void load_state_dict(const NamedTensors& state, bool strict = true);

  virtual void train(bool training = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  // Replaces storage inside the existing tensors, so that references, ties and optimizers stay valid.
  void to(Device device);
  // The floating tensors in another dtype; for bf16, those whose name keep_f32 accepts stay or become f32.
  void to(DType dtype, const std::function<bool(const std::string& name)>& keep_f32 = {});

  // Where this module stands in the model: "layers.0.mixer"; empty for the root.
  const std::string& path() const { return path_; }
  // The class's name without namespaces.
  std::string type_name() const;
  // What the printed tree shows in brackets after the type: sizes and options.
  virtual std::string summary() const { return {}; }
  const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& children() const { return children_; }

 protected:
  // Builds a child whose path is this module's path and `name`.
  template <class M, class... Args>
  M& add(const std::string& name, Args&&... args) {
    const PathScope scope(*this, name);
    auto child = std::make_shared<M>(std::forward<Args>(args)...);
    M& reference = *child;
    place(name, std::move(child));
    return reference;
  }
  // A child that `make` builds, which gives a std::shared_ptr<M>.
  template <class M, class Make>
  M& add_made(const std::string& name, const Make& make) {
    const PathScope scope(*this, name);
    std::shared_ptr<M> child = make();
    M& reference = *child;
    place(name, std::move(child));
    return reference;
  }
  // The same child once more under another name.
  template <class M>
  M& share(const std::string& name, M& child) {
    place(name, find_child(child));
    return child;
  }
  // Registers a leaf that requires a gradient.
  Tensor parameter(const std::string& name, Tensor value);
  // The same parameter as another module's, under one more name (tied weights, shared frequencies).
  Tensor share_parameter(const std::string& name, const Tensor& parameter);
  // A tensor that is saved with the model but not trained; a non-persistent one is not saved either.
  Tensor buffer(const std::string& name, Tensor value, bool persistent = true);
  // The key of this module's random numbers for one purpose.
  uint64_t key(std::string_view purpose) const { return random_key(path_, purpose); }
  // The call for drawing the initial values of one parameter.
  RandomCall init_call(std::string_view parameter) const {
    return {key(std::string("init ") + std::string(parameter))};
  }

 private:
  struct Entry {
    std::string name;
    Tensor tensor;
    bool persistent = true;
  };
  // While alive, modules built by this thread take `name` below `parent` as their path.
  class PathScope {
   public:
    PathScope(const Module& parent, const std::string& name);
    ~PathScope();
    PathScope(const PathScope&) = delete;
    PathScope& operator=(const PathScope&) = delete;

   private:
    std::string before_;
  };
  void place(const std::string& name, std::shared_ptr<Module> child);
  std::shared_ptr<Module> find_child(const Module& child) const;
  void check_new(const std::string& name) const;
  void visit(const std::string& prefix, const std::function<void(const std::string&, const Entry&, bool)>& fn) const;

  std::string path_;
  std::vector<Entry> parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  bool training_ = true;
};

// The tree with types, shapes and counts.
std::ostream& operator<<(std::ostream& out, const Module& module);

}  // namespace mahia::nn
