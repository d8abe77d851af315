// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "core/error.hpp"
#include "train/main_commands.hpp"

int main(int argc, char** argv) {
  CLI::App app(
      "Trains and uses Hyena + sparse mixture-of-experts language models.\n\n"
      "  mahia train --config train/configs/kjv_demo.toml --out runs/demo\n"
      "  mahia eval --checkpoint runs/demo\n"
      "  mahia generate --checkpoint runs/demo --prompt 'In the beginning' --tokens 200\n"
      "  mahia plot runs/demo\n\n"
      "Results go to standard output, talk to standard error. `mahia COMMAND --help` explains a command.");
  app.set_version_flag("--version", std::string("mahia ") + MAHIA_VERSION);
  app.require_subcommand(1);
  int status = 0;
  mahia::train::add_train(app, status);
  mahia::train::add_eval(app, status);
  mahia::train::add_generate(app, status);
  mahia::train::add_plot(app, status);
  mahia::train::add_inspect(app, status);
  mahia::train::add_info(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : mahia::train::exit_usage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mahia: %s\n", error.what());
    return mahia::train::exit_error;
  }
  return status;
}
