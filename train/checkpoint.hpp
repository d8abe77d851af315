// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "optimizer.hpp"
#include "safetensors.hpp"

namespace mahia::train {

// Where a run stands, beside weights and moments. The seed and step of the random numbers are saved with it.
struct RunState {
  int64_t step = 0;                      // optimizer steps done
  int64_t next_batch = 0;                // the number of the batch that comes next
  std::string schedules = {};            // the schedules in words, to notice when a resumed run has others
  Metadata notes = {};                   // whatever the program wants to find again, such as its configuration
  nn::NamedTensors schedule_state = {};  // of the schedules that have one: StepState::state()
};

// Saves a run in a new folder below `folder`, named after the step: model.safetensors, optimizer.safetensors,
// state.safetensors, and last manifest.json, without which a checkpoint does not count. Then the link `latest` moves to
// it and all but the newest `keep` checkpoints go. Whenever this is cut off, what `latest` pointed to can be loaded.
// Returns the new folder's path; throws IoError.
std::string save_checkpoint(const std::string& folder, const nn::Module& model, const Optimizer& optimizer,
                            const RunState& state, int64_t keep = 3);

// Restores model, optimizer and random numbers. Every file is read and checked before anything changes; throws IoError
// for damaged files, ValueError for those of another model or seed.
RunState load_checkpoint(const std::string& checkpoint, nn::Module& model, Optimizer& optimizer);

// The model alone, as eval and generate need it; throws likewise.
void load_weights(const std::string& checkpoint, nn::Module& model);

// The state of a checkpoint alone.
RunState read_run_state(const std::string& checkpoint);

// The checkpoint that `path` means: itself, or the latest in it, or the latest in its folder `checkpoints` (as a run's
// folder has it). Empty when there is none.
std::string find_checkpoint(const std::string& path);

}  // namespace mahia::train
