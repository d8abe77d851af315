// SPDX-License-Identifier: Apache-2.0
#include "train/rename.hpp"

#include <unordered_map>

namespace mahia::train {
namespace {

// `name` after one rule.
std::string after_rule(const RenameRule& rule, const std::string& name) {
  const size_t star = rule.from.find('*');
  if (star == std::string::npos) return name == rule.from ? rule.to : name;
  const std::string_view before = std::string_view(rule.from).substr(0, star);
  const std::string_view after = std::string_view(rule.from).substr(star + 1);
  const bool fits = name.size() >= before.size() + after.size() && name.starts_with(before) && name.ends_with(after);
  if (!fits) return name;
  std::string to = rule.to;
  const size_t place = to.find('*');
  return place == std::string::npos ? to : to.replace(place, 1, name, star, name.size() - before.size() - after.size());
}

}  // namespace

RenameRules hyena_reference_names() {
  return {{"model.*", "*"},
          {"backbone.embeddings.word_embeddings.weight", "embedding.weight"},
          {"backbone.ln_f.*", "norm.*"},
          {"backbone.layers.*", "layers.*"},
          {"lm_head.weight", "head.weight"}};
}

nn::NamedTensors renamed(const nn::NamedTensors& tensors, const RenameRules& rules) {
  nn::NamedTensors out;
  std::unordered_map<std::string, std::string> origins;
  for (const auto& [name, tensor] : tensors) {
    std::string now = name;
    for (const RenameRule& rule : rules) now = after_rule(rule, now);
    if (now.empty()) continue;
    const auto [known, is_new] = origins.emplace(now, name);
    check<ValueError>(is_new, "renamed: `", known->second, "` and `", name, "` both become `", now, "`");
    out.emplace_back(std::move(now), tensor);
  }
  return out;
}

void load_state_dict(nn::Module& model, const nn::NamedTensors& tensors, const RenameRules& rules,
                     const std::string& origin) {
  load(model, SafeTensors{.tensors = renamed(tensors, rules), .metadata = {}, .digest = {}}, origin);
}

}  // namespace mahia::train
