// SPDX-License-Identifier: Apache-2.0
#include "train/safetensors.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "train/file.hpp"

namespace mahia::train {
namespace {

// The digest covers the length, the header with zeros in the digest's own place, and all values. A file of ours is
// known by either of two entries, so that damage to one of them is seen too.
const std::string digest_key = "mahia.digest", writer_key = "mahia.writer", writer = "mahia 1";

std::span<std::byte> bytes_of(const Tensor& contiguous) {
  return {static_cast<std::byte*>(contiguous.output_view().raw()),
          static_cast<size_t>(contiguous.numel()) * size_of(contiguous.dtype())};
}

struct RawHeader {
  std::string json;
  SafetensorsHeader parsed;
};

void refuse_pickle(const std::string& path, std::string_view beginning) {
  const bool is_zip = beginning.starts_with("PK\x03\x04"), is_pickle = beginning.starts_with('\x80');
  check<IoError>(!is_zip && !is_pickle, path,
                 ": is a PyTorch pickle, which can run code and is not read. Convert it once, in Python:\n"
                 "  from safetensors.torch import save_file\n"
                 "  save_file(torch.load(\"",
                 path, "\", map_location=\"cpu\", weights_only=True), \"model.safetensors\")");
}

RawHeader read_header(const InputFile& file) {
  std::string start(std::min<uint64_t>(file.size(), 9), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  uint64_t length = 0;  // little-endian
  for (size_t i = 0; i < 8 && i < start.size(); ++i) {
    length |= static_cast<uint64_t>(static_cast<unsigned char>(start[i])) << (8 * i);
  }
  const bool fits = start.size() == 9 && length <= max_header_bytes && length <= file.size() - 8;
  if (!fits || start[8] != '{') refuse_pickle(file.path(), start);
  check<IoError>(start.size() == 9, file.path(), ": no safetensors file: only ", start.size(), " bytes");
  check<IoError>(fits, file.path(), ": no safetensors file, or cut off: a header of ", std::to_string(length),
                 " bytes, at byte 0, in a file of ", file.size());
  check<IoError>(length > 0 && start[8] == '{', file.path(),
                 ": no safetensors file: the header, at byte 8, is no object");
  RawHeader header;
  header.json.resize(length);
  file.read(8, std::as_writable_bytes(std::span(header.json)));
  header.parsed = parse_safetensors_header(header.json, file.size() - 8 - length, file.path());
  return header;
}

// Length and header as the digest sees them.
void add_header(Digest& digest, std::string json) {
  const std::string key = '"' + digest_key + "\":\"";
  if (const size_t at = json.find(key); at != json.npos) {
    const size_t digits = std::min(Digest::digits, json.size() - at - key.size());
    std::fill_n(json.begin() + static_cast<std::ptrdiff_t>(at + key.size()), digits, '0');
  }
  digest.add(std::to_string(json.size()));
  digest.add(json);
}

void check_values(const Tensor& x, const SafetensorsEntry& entry, uint64_t values_begin, const std::string& path) {
  if (x.dtype() != DType::boolean) return;
  const std::span<const std::byte> bytes = bytes_of(x);
  const auto bad = std::ranges::find_if(bytes, [](std::byte b) { return b > std::byte{1}; });
  check<IoError>(bad == bytes.end(), path, ": tensor `", entry.name,
                 "`: a truth value that is neither 0 nor 1, at byte ",
                 values_begin + entry.begin + static_cast<uint64_t>(bad - bytes.begin()));
}

std::string padded(std::string json) { return json.append((8 - json.size() % 8) % 8, ' '); }

// Larger elements first, as PyTorch's writer orders them: then every tensor stands aligned in the file.
std::vector<size_t> order_in_file(const nn::NamedTensors& tensors) {
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, std::greater<>(), [&](size_t i) { return size_of(tensors[i].second.dtype()); });
  return order;
}

void check_names(const std::string& path, const nn::NamedTensors& tensors, const Metadata& metadata) {
  std::unordered_set<std::string> seen;
  for (const auto& [name, tensor] : tensors) {
    check<ValueError>(tensor.defined(), path, ": tensor `", name, "` is undefined");
    check<ValueError>(seen.insert(name).second, path, ": two tensors are named `", name, "`");
    check<ValueError>(name != "__metadata__" && name.size() <= max_name_bytes, path, ": bad tensor name `", name, "`");
  }
  check<ValueError>(tensors.size() <= max_tensors, path, ": more than ", max_tensors, " tensors");
  check<ValueError>(!metadata.contains(digest_key) && !metadata.contains(writer_key), path, ": metadata `", digest_key,
                    "` and `", writer_key, "` are set by the writer");
}

}  // namespace

SafetensorsHeader read_safetensors_header(const std::string& path) { return read_header(InputFile(path)).parsed; }

SafeTensors load_safetensors(const std::string& path) {
  const InputFile file(path);
  RawHeader header = read_header(file);
  const uint64_t values_begin = 8 + header.json.size();
  Digest digest;
  add_header(digest, header.json);
  SafeTensors loaded;
  for (const SafetensorsEntry& entry : header.parsed.tensors) {
    const Tensor x = empty(entry.shape, entry.dtype);
    file.read(values_begin + entry.begin, bytes_of(x));
    check_values(x, entry, values_begin, path);
    digest.add(bytes_of(x));
    loaded.tensors.emplace_back(entry.name, x);
  }
  loaded.metadata = std::move(header.parsed.metadata);
  loaded.digest = digest.hex();
  const auto written = loaded.metadata.extract(digest_key), by = loaded.metadata.extract(writer_key);
  check<IoError>(written.empty() == by.empty(), path, ": damaged: metadata `", digest_key, "` or `", writer_key,
                 "` is missing");
  check<IoError>(written.empty() || written.mapped() == loaded.digest, path,
                 ": damaged, or edited without renewing its digest: metadata `", digest_key, "` says ",
                 written.empty() ? "" : written.mapped(), ", the bytes give ", loaded.digest);
  return loaded;
}

std::string save_safetensors(const std::string& path, const nn::NamedTensors& tensors, const Metadata& metadata) {
  check_names(path, tensors, metadata);
  const std::vector<size_t> order = order_in_file(tensors);
  SafetensorsHeader header{{}, metadata};
  header.metadata[writer_key] = writer;
  header.metadata[digest_key] = std::string(Digest::digits, '0');
  uint64_t end = 0;
  for (const size_t i : order) {
    const auto& [name, tensor] = tensors[i];
    const uint64_t begin = end;
    end += static_cast<uint64_t>(tensor.numel()) * size_of(tensor.dtype());
    header.tensors.push_back({name, tensor.dtype(), tensor.shape(), begin, end});
  }
  std::string json;
  try {
    json = padded(write_safetensors_header(header));
  } catch (const nlohmann::json::exception&) {
    fail<ValueError>(path, ": a name or a piece of metadata is not UTF-8");
  }
  const auto on_host = [&](size_t i) { return copy_to(tensors[i].second, cpu_device, tensors[i].second.dtype()); };
  Digest digest;
  add_header(digest, json);
  for (const size_t i : order) digest.add(bytes_of(on_host(i)));
  const size_t place = json.find(digest_key) + digest_key.size() + 3;
  const std::string hex = digest.hex();
  json.replace(place, Digest::digits, hex);

  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((json.size() >> (8 * i)) & 0xff);
  AtomicFile file(path);
  file.write(length);
  file.write(json);
  for (const size_t i : order) file.write(bytes_of(on_host(i)));
  file.commit();
  return hex;
}

namespace {

// Names that stand for the same memory, and the first of them.
std::map<std::string, std::string> first_names(const nn::NamedTensors& state) {
  std::map<const void*, std::string> known;
  std::map<std::string, std::string> first;
  for (const auto& [name, tensor] : state) {
    const void* place = ConstView(tensor).raw();
    first[name] = tensor.numel() == 0 ? name : known.try_emplace(place, name).first->second;
  }
  return first;
}

}  // namespace

std::string save(const nn::Module& model, const std::string& path, const Metadata& metadata) {
  const nn::NamedTensors state = model.state_dict();
  const auto first = first_names(state);
  nn::NamedTensors stored;
  Metadata notes = metadata;
  for (const auto& [name, tensor] : state) {
    if (first.at(name) == name) {
      stored.emplace_back(name, tensor);
    } else {
      notes[name] = first.at(name);
    }
  }
  return save_safetensors(path, stored, notes);
}

Metadata load(nn::Module& model, const std::string& path) { return load(model, load_safetensors(path), path); }

Metadata load(nn::Module& model, SafeTensors file, const std::string& path) {
  const auto first = first_names(model.state_dict());
  std::unordered_map<std::string, Tensor> given(file.tensors.begin(), file.tensors.end());
  std::unordered_map<std::string, Tensor> tied;  // by the first of a tensor's names
  for (const auto& [name, one] : first) {
    if (given.contains(name)) tied.try_emplace(one, given.at(name));
  }
  for (const auto& [name, one] : first) {
    if (!given.contains(name) && tied.contains(one)) file.tensors.emplace_back(name, tied.at(one));
    if (one != name) file.metadata.erase(name);
  }
  try {
    model.load_state_dict(file.tensors);
  } catch (const ValueError& error) {
    fail<ValueError>(path, ": ", error.what());
  }
  return std::move(file.metadata);
}

}  // namespace mahia::train
