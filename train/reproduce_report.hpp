// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "reproduce.hpp"

namespace mahia::train {

// All of a reproduction as JSON: recipe, baselines, published accuracy, each seed's evaluations, mean and spread.
std::string to_json(const Reproduction& reproduction);

// Mean, spread, chance, baselines and the published accuracy as a table for people.
std::string to_table(const Reproduction& reproduction);

// The score against the epoch, a curve per seed, with the baselines.
std::string to_svg(const Reproduction& reproduction);

// The settings of a recipe by name, as JSON text in lines; a run keeps them.
std::string recipe_json(const Recipe& recipe);

// A seed's evaluations, to be found again after an interruption.
std::string evaluations_json(const std::vector<Evaluation>& evaluations);
std::vector<Evaluation> read_evaluations(const std::string& json);

}  // namespace mahia::train
