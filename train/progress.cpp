// SPDX-License-Identifier: Apache-2.0
#include "train/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <numbers>

namespace mahia::train {
namespace {

constexpr double terminal_interval = 0.2, plain_interval = 10;  // seconds

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

ProgressLine::ProgressLine(std::string unit) : unit_(std::move(unit)), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (open_) std::fputc('\n', stderr);
}

void ProgressLine::print(const std::string& text, bool keep) {
  if (terminal_) {
    std::fprintf(stderr, "\r%s\x1b[K%s", text.c_str(), keep ? "\n" : "");
    open_ = !keep;
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::fflush(stderr);
}

void ProgressLine::show(const Progress& p) {
  if (first_step_ < 0) {
    first_step_ = p.step;
    first_seconds_ = p.seconds;
  }
  if (p.record != nullptr) tokens_per_second_ = p.record->tokens_per_second;
  if (p.held_out != nullptr) {
    print(fmt::format("step {:>6}/{}  held out {:.4f} bits per {}", p.held_out->step, p.steps,
                      p.held_out->bits_per_byte, unit_),
          true);
  }
  const bool last = p.step == p.steps;
  if (!last && p.seconds - last_shown_ < (terminal_ ? terminal_interval : plain_interval)) return;
  last_shown_ = p.seconds;
  const double elapsed = p.seconds - first_seconds_;
  const double rate = elapsed > 0 ? static_cast<double>(p.step - first_step_) / elapsed : 0;
  const std::string eta = rate > 0 ? duration(static_cast<double>(p.steps - p.step) / rate) : "?";
  print(fmt::format("step {:>6}/{}  loss {:.3f} bits  {:.2f} steps/s  {:.0f} tokens/s  ETA {}", p.step, p.steps,
                    p.loss / std::numbers::ln2, rate, tokens_per_second_, eta),
        false);
}

}  // namespace mahia::train
