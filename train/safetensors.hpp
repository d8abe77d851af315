// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "../nn/module.hpp"
#include "safetensors_header.hpp"

namespace mahia::train {

struct SafeTensors {
  nn::NamedTensors tensors;
  Metadata metadata;
  std::string digest;  // of the whole file, as the writer returned it
};

// Reads a safetensors file of any origin onto the CPU. The file is not trusted: sizes are checked before memory is
// taken, nothing is returned of a file with a fault. Throws IoError naming file, tensor and byte. Files written here
// carry a digest of all their bytes, which is checked. Pickles (.pt) are refused with the way to convert them.
SafeTensors load_safetensors(const std::string& path);

// The names, shapes and places of the tensors, without their values.
SafetensorsHeader read_safetensors_header(const std::string& path);

// Writes tensors (any strides, any device) as a file that appears complete or not at all. Throws ValueError for names
// that are not unique or not UTF-8, IoError when the system refuses; what stood under `path` is then still there.
// Returns the file's digest.
std::string save_safetensors(const std::string& path, const nn::NamedTensors& tensors, const Metadata& metadata = {});

// A model's state_dict in one file. A tensor with several names is stored under the first of them; the metadata maps
// the others to it, as safetensors.torch.save_model does. Returns the file's digest.
std::string save(const nn::Module& model, const std::string& path, const Metadata& metadata = {});
// Loads a file of save() or of PyTorch into a model of the same structure. All missing, unexpected and unfitting names
// are reported in one ValueError before anything changes. Returns the file's metadata.
Metadata load(nn::Module& model, const std::string& path);
// The same of a file that has been read; errors call it `path`.
Metadata load(nn::Module& model, SafeTensors file, const std::string& path);

}  // namespace mahia::train
