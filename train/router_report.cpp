// SPDX-License-Identifier: Apache-2.0
#include "train/router_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/grad_mode.hpp"
#include "nn/router.hpp"
#include "ops/binary.hpp"
#include "ops/optim_step.hpp"
#include "train/router_gradients.hpp"
#include "train/weighted_aux.hpp"

namespace mahia::train {
namespace {

constexpr double rounding = 1e-5;  // of a gradient that does not cancel

// Where a router stands among the parameters of its model.
struct Place {
  std::string name;
  const nn::Router* router;
  std::optional<size_t> weight = {};  // which parameter it is
  std::vector<size_t> others = {};    // the other parameters of its layer
};

void find_routers(const nn::Module& module, const std::string& prefix, std::vector<Place>& found) {
  for (const auto& [name, child] : module.children()) {
    const auto* router = dynamic_cast<const nn::Router*>(child.get());
    const bool is_known = std::ranges::count(found, router, &Place::router) > 0;
    if (router == nullptr) {
      find_routers(*child, prefix + name + ".", found);
    } else if (!is_known) {
      found.push_back({prefix + name, router});
    }
  }
}

std::vector<Place> places_of(const nn::Module& model) {
  std::vector<Place> places;
  find_routers(model, "", places);
  const nn::NamedTensors parameters = model.named_parameters();
  for (Place& place : places) {
    const std::string own = place.name + ".", layer = place.name.substr(0, place.name.rfind('.') + 1);
    for (size_t i = 0; i < parameters.size(); ++i) {
      const std::string& name = parameters[i].first;
      if (name == own + "weight") place.weight = i;
      if (name.starts_with(layer) && !name.starts_with(own)) place.others.push_back(i);
    }
  }
  return places;
}

// Why a router's settings let no task reach it; empty when they do.
std::string remark_of(const Place& place, const nn::NamedTensors& parameters) {
  const nn::RouterConfig& c = place.router->config();
  if (c.kind == nn::RouterKind::hash) return "a hash of the tokens chooses, there is nothing to learn";
  if (place.weight && !parameters[*place.weight].second.requires_grad()) return "its weight is frozen";
  if (c.num_experts == 1) return "there is only one expert";
  const bool chooses = c.kind != nn::RouterKind::expert_choice;
  if (chooses && c.top_k == 1 && place.router->renormalizes()) return "with top 1 a renormalised weight is always 1";
  return {};
}

// Adds what a batch's layers say; means become so when the sums are divided by the tokens.
void add_stats(std::vector<RouterReport>& routers, const std::vector<nn::MoeStats>& layers) {
  check<ValueError>(layers.size() == routers.size(), "router_report: the model has ", std::ssize(routers),
                    " routers, and its loss tells of ", std::ssize(layers), " layers");
  for (size_t l = 0; l < layers.size(); ++l) {
    RouterReport& r = routers[l];
    const std::vector<int64_t> n = layers[l].counts.to_vector<int64_t>();
    r.pairs.resize(n.size());
    std::ranges::transform(n, r.pairs, r.pairs.begin(), std::plus());
    const int64_t tokens = layers[l].tokens();
    r.tokens += tokens;
    r.near_ties += layers[l].near_tie_share() * static_cast<double>(tokens);
    r.mean_top1 += layers[l].mean_top1() * static_cast<double>(tokens);
  }
}

void finish_stats(RouterReport& r) {
  for (size_t e = 0; e < r.pairs.size(); ++e) {
    if (r.pairs[e] == 0) r.dead.push_back(static_cast<int64_t>(e));
  }
  r.near_ties /= static_cast<double>(std::max<int64_t>(1, r.tokens));
  r.mean_top1 /= static_cast<double>(std::max<int64_t>(1, r.tokens));
}

Tensor at_router(const Place& place, const Tensors& gradients) {
  return place.weight ? gradients[*place.weight] : Tensor();
}

// The norm of the gradient at the other parameters of a layer.
double scale_of(const Place& place, const Tensors& gradients) {
  Tensors others;
  for (const size_t i : place.others) {
    if (gradients[i].defined()) others.push_back(gradients[i]);
  }
  return others.empty() ? 0 : grad_norm(others).item<double>();
}

// The largest number that a loss of one layer is multiplied with.
double largest(const std::vector<double>& coefficients) {
  double most = 0;
  for (const double c : coefficients) most = std::max(most, std::abs(c));
  return most;
}

class Audit {
 public:
  Audit(const nn::Module& model, const Trainer::Loss& loss, const std::vector<Batch>& batches, const StepState& state)
      : model_(model), loss_(loss), batches_(batches), state_(state), places_(places_of(model)) {}

  std::vector<RouterReport> run() {
    if (places_.empty()) return {};
    check<ValueError>(!batches_.empty(), "router_report: needs a batch to look at");
    const nn::NamedTensors parameters = model_.named_parameters();
    for (const Place& place : places_) {
      const nn::RouterConfig& c = place.router->config();
      routers_.push_back({.router = place.name, .num_experts = c.num_experts, .top_k = c.top_k});
    }
    weigh_task();
    for (const nn::AuxLoss kind : nn::every_aux_loss) {
      if (state_.wants(kind)) weigh(kind);
    }
    for (size_t l = 0; l < routers_.size(); ++l) {
      RouterReport& r = routers_[l];
      const LossAtRouter& task = r.losses.front();
      if (task.reaches) r.aux_to_task = norm_of(aux_[l]) / task.gradient;
      if (!task.reaches) r.remark = remark_of(places_[l], parameters);
      finish_stats(r);
    }
    return std::move(routers_);
  }

 private:
  void weigh_task() {
    const Tensors gradients = gradients_of(model_, loss_, batches_, [&](const LossTerms& terms) {
      add_stats(routers_, terms.stats);
      return terms.loss;
    });
    for (const Place& place : places_) scales_.push_back(scale_of(place, gradients));
    add("task", gradients, {1}, 1);
    aux_.resize(places_.size());
  }

  void weigh(nn::AuxLoss kind) {
    const auto i = static_cast<size_t>(kind);
    const Tensors gradients = gradients_of(
        model_, loss_, batches_, [&](const LossTerms& terms) { return weighted_aux(terms, state_).weighted[i]; });
    add(nn::aux_loss_names[i], gradients, state_.coefficient(kind).to_vector<double>(),
        1 / static_cast<double>(places_.size()));
    const NoGrad no_grad;
    for (size_t l = 0; l < places_.size(); ++l) {
      const Tensor g = at_router(places_[l], gradients);
      if (g.defined()) aux_[l] = aux_[l].defined() ? aux_[l] + g : g;
    }
  }

  // coefficients: one, or one for each layer; share: of a layer's loss in the whole.
  void add(const std::string& name, const Tensors& gradients, const std::vector<double>& coefficients, double share) {
    for (size_t l = 0; l < places_.size(); ++l) {
      LossAtRouter at{.name = name, .coefficient = coefficients[coefficients.size() == 1 ? 0 : l]};
      at.gradient = norm_of(at_router(places_[l], gradients));
      at.reaches = at.gradient > rounding * largest(coefficients) * share * scales_[l];
      std::vector<LossAtRouter>& losses = routers_[l].losses;
      const LossAtRouter& task = losses.empty() ? at : losses.front();
      if (task.reaches) at.over_task = at.gradient / task.gradient;
      losses.push_back(std::move(at));
    }
  }

  const nn::Module& model_;
  const Trainer::Loss& loss_;
  const std::vector<Batch>& batches_;
  const StepState& state_;
  std::vector<Place> places_;
  std::vector<RouterReport> routers_ = {};
  std::vector<double> scales_ = {};  // per layer
  Tensors aux_ = {};                 // per layer: the gradients of all auxiliary losses together
};

// Numbers a reader can compare: "-" for none.
std::string shown(const std::optional<double>& x) { return x ? fmt::format("{:.3g}", *x) : "-"; }

}  // namespace

std::vector<RouterReport> router_report(const nn::Module& model, const Trainer::Loss& loss,
                                        const std::vector<Batch>& batches, const StepState& state) {
  return Audit(model, loss, batches, state).run();
}

std::string to_table(const std::vector<RouterReport>& routers) {
  std::string text;
  for (const RouterReport& r : routers) {
    text += fmt::format("{}: top {} of {} experts, {} tokens\n", r.router, r.top_k, r.num_experts, r.tokens);
    text += fmt::format("  {:<10} {:<10} {:>9}  {:>15}  {:>11}\n", "loss", "reaches it", "gradient", "over the task's",
                        "coefficient");
    for (const LossAtRouter& at : r.losses) {
      text += fmt::format("  {:<10} {:<10} {:>9.2e}  {:>15}  {:>11}\n", at.name, at.reaches ? "yes" : "NO", at.gradient,
                          shown(at.over_task), shown(at.coefficient));
    }
    if (!r.remark.empty()) text += fmt::format("  the task teaches it nothing: {}\n", r.remark);
    if (r.losses.size() > 2)
      text += fmt::format("  auxiliary losses together over the task: {}\n", shown(r.aux_to_task));
    text += fmt::format("  near ties {:.2f} % of the tokens, mean top probability {:.3f}\n", 100 * r.near_ties,
                        r.mean_top1);
    text += fmt::format("  dead experts: {} of {}{}{}\n", r.dead.size(), r.num_experts, r.dead.empty() ? "" : ": ",
                        fmt::join(r.dead, ", "));
  }
  return text;
}

std::string to_json(const std::vector<RouterReport>& routers) {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::optional<double>& x) { return x ? Json(*x) : Json(nullptr); };
  Json all = Json::array();
  for (const RouterReport& r : routers) {
    Json losses = Json::array();
    for (const LossAtRouter& at : r.losses) {
      losses.push_back({{"name", at.name},
                        {"reaches", at.reaches},
                        {"gradient", at.gradient},
                        {"over_task", or_null(at.over_task)},
                        {"coefficient", at.coefficient}});
    }
    all.push_back({{"router", r.router},
                   {"experts", r.num_experts},
                   {"top_k", r.top_k},
                   {"tokens", r.tokens},
                   {"losses", losses},
                   {"aux_to_task", or_null(r.aux_to_task)},
                   {"remark", r.remark},
                   {"pairs", r.pairs},
                   {"dead", r.dead},
                   {"near_ties", r.near_ties},
                   {"mean_top1", r.mean_top1}});
  }
  return Json{{"routers", all}}.dump();
}

}  // namespace mahia::train
