// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <mahia/autograd/backward.hpp>
#include <mahia/nn/models/hyena_moe_lm.hpp>
#include <mahia/ops/binary.hpp>
#include <mahia/train/data/text.hpp>
#include <mahia/train/trainer.hpp>
using namespace mahia;

int main(int argc, char** argv) {
  const auto text = std::make_shared<train::ByteText>(argc > 1 ? argv[1] : "data/kjv.txt");
  const train::TextBatches batches(text, /*batch_size=*/8, /*sequence_length=*/256, /*seed=*/1);
  nn::models::HyenaMoeLM model({.width = 64, .layers = 2, .l_max = 256, .experts = 4, .hidden = 128});
  train::AdamW optimizer(model);
  train::StepState state({.lr = {.peak = 3e-3, .warmup = 20}, .aux = {.balance = {.peak = 0.01}}});
  for (int64_t step = 0; step < 300; ++step) {
    const train::Batch batch = batches.at(step);
    const auto [loss, aux, stats, losses] = model.loss(batch.tokens, batch.targets);
    optimizer.zero_grad();
    backward(loss + state.advance(step).aux * aux);
    clip_grad_norm(optimizer, 1.0);
    optimizer.step(state);
    if (step % 10 == 0) std::cout << "step " << step << ": loss " << loss.item<double>() << " nats per byte\n";
  }
  train::save(model, "model.safetensors");
}
