// SPDX-License-Identifier: Apache-2.0
#include "train/stop_signals.hpp"

#include <csignal>

namespace mahia::train {
namespace {

volatile std::sig_atomic_t last_signal = 0;

void note(int signal) { last_signal = signal; }

}  // namespace

struct StopSignals::Actions {
  struct sigaction interrupt {};
  struct sigaction terminate {};
};

StopSignals::StopSignals() : before_(std::make_unique<Actions>()) {
  last_signal = 0;
  struct sigaction action {};
  action.sa_handler = note;
  // After the first one the default action is back: whoever asks twice does not want to wait.
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  sigaction(SIGINT, &action, &before_->interrupt);
  sigaction(SIGTERM, &action, &before_->terminate);
}

StopSignals::~StopSignals() {
  sigaction(SIGINT, &before_->interrupt, nullptr);
  sigaction(SIGTERM, &before_->terminate, nullptr);
}

int StopSignals::received() const { return last_signal; }

}  // namespace mahia::train
