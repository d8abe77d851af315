// SPDX-License-Identifier: Apache-2.0
#include "train/data/fasta.hpp"
#include "train/data/text.hpp"
#include "train/main_commands.hpp"

namespace mahia::train {

std::shared_ptr<const TokenText> open_text(const RunConfig& c, const std::string& path) {
  if (c.format == "fasta") return std::make_shared<const Fasta>(path, c.held_out);
  return std::make_shared<const ByteText>(path, c.held_out);
}

std::shared_ptr<const BatchSource> training_batches(const RunConfig& c, std::shared_ptr<const TokenText> text) {
  const auto of_length = [&](int64_t batch_size, int64_t time) -> std::shared_ptr<const BatchSource> {
    const auto seed = static_cast<uint64_t>(c.seed);
    if (c.both_strands) return std::make_shared<const StrandBatches>(text, batch_size, time, seed);
    return std::make_shared<const TextBatches>(text, batch_size, time, seed);
  };
  std::vector<StagedBatches::Stage> stages;
  for (const SequenceStage& stage : c.warmup_stages) {
    stages.push_back({stage.steps * c.micro_batches, of_length(stage.batch_size, stage.sequence_length)});
  }
  stages.push_back({0, of_length(c.batch_size, c.sequence_length)});
  return std::make_shared<const StagedBatches>(std::move(stages));
}

}  // namespace mahia::train
