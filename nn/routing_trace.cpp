// SPDX-License-Identifier: Apache-2.0
#include "nn/routing_trace.hpp"

#include "autograd/checkpoint.hpp"
#include "core/error.hpp"

namespace mahia::nn {
namespace {

thread_local RouterChoices* recorded = nullptr;
thread_local ReplayedRouting* replayed = nullptr;

}  // namespace

RecordedRouting::RecordedRouting(RouterChoices& choices) : before_(recorded) { recorded = &choices; }
RecordedRouting::~RecordedRouting() { recorded = before_; }

ReplayedRouting::ReplayedRouting(const RouterChoices& choices) : choices_(choices), before_(replayed) {
  replayed = this;
}
ReplayedRouting::~ReplayedRouting() { replayed = before_; }

void ReplayedRouting::check_used_up() const {
  check<ValueError>(next_ == choices_.size(), "routing: ", choices_.size(), " choices to replay, the routers took ",
                    next_);
}

Tensor replayed_choice(int64_t tokens, int64_t top_k, int64_t num_experts) {
  if (replayed == nullptr) return {};
  check<ValueError>(!recomputing(), "Router: choices cannot be replayed inside a checkpointed forward");
  check<ValueError>(replayed->next_ < replayed->choices_.size(), "Router: only ", replayed->choices_.size(),
                    " choices to replay, and the routers are called once more");
  const RouterChoice& choice = replayed->choices_[replayed->next_++];
  check<ShapeError>(choice.indices.shape() == Shape{tokens, top_k}, "Router: the choice to replay must be (N, k) = (",
                    tokens, ", ", top_k, "), got ", choice.indices);
  check<ValueError>(choice.num_experts == num_experts, "Router: the choice to replay is among ", choice.num_experts,
                    " experts, the router has ", num_experts);
  return choice.indices;
}

bool routing_is_traced() { return recorded != nullptr || replayed != nullptr; }

void note_choice(const Tensor& indices, int64_t num_experts) {
  if (recorded != nullptr && !recomputing()) recorded->push_back({indices.detach(), num_experts});
}

}  // namespace mahia::nn
