// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "core/error.hpp"
#include "train/main_commands.hpp"

namespace {

// A first word that is no command, with the nearest one; CLI11 would only say that a command is missing.
void check_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  const std::string word = argv[1];
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    known.push_back(command->get_name());
  }
  mahia::check<mahia::train::UsageError>(std::find(known.begin(), known.end(), word) != known.end(),
                                         "there is no command `", word, "`; did you mean `",
                                         mahia::train::nearest(word, known), "`?");
}

// Results that did not reach their file are an error, whatever the command thought of them.
int finish(int status) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  std::fprintf(stderr, "mahia: standard output cannot be written: %s\n", std::strerror(errno));
  return status == 0 ? mahia::train::exit_error : status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains and uses Hyena + sparse mixture-of-experts language models.\n\n"
      "  mahia train --config train/configs/kjv_demo.toml --out runs/demo\n"
      "  mahia eval --checkpoint runs/demo\n"
      "  mahia generate --checkpoint runs/demo --prompt 'In the beginning' --tokens 200\n"
      "  mahia plot runs/demo\n"
      "  mahia audit --checkpoint runs/demo\n"
      "  mahia reproduce associative-recall\n\n"
      "Results go to standard output, talk to standard error. `mahia COMMAND --help` explains a command.");
  app.name("mahia");
  app.set_version_flag("--version", std::string("mahia ") + MAHIA_VERSION);
  app.require_subcommand(1);
  int status = 0;
  mahia::train::add_train(app, status);
  mahia::train::add_eval(app, status);
  mahia::train::add_generate(app, status);
  mahia::train::add_plot(app, status);
  mahia::train::add_what_if(app, status);
  mahia::train::add_audit(app, status);
  mahia::train::add_reproduce(app, status);
  mahia::train::add_inspect(app, status);
  mahia::train::add_info(app, status);
  // Set last: commands would inherit it.
  app.footer(
      "\nThe command line wins over the environment, that over the configuration file:\n"
      "  MAHIA_NUM_THREADS=N    worker threads            MAHIA_DEVICE=cpu|cuda|cuda:N  where a model is trained\n"
      "  MAHIA_SEED=N           seed of all numbers       MAHIA_LOG=error|warning|info  how much is said\n"
      "  MAHIA_CHECK_NAN=1      stop at the first NaN     MAHIA_CPU_ISA=avx2|avx512     widest vectors to use\n"
      "  MAHIA_SYNC=1           wait after each op        MAHIA_DETERMINISTIC=1         always so\n"
      "\nExit codes: 0 done, 1 failed while running, 2 wrong usage, 130 and 143 stopped by SIGINT and SIGTERM.");
  try {
    check_command(app, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return finish(app.exit(error) == 0 ? 0 : mahia::train::exit_usage);
  } catch (const mahia::train::UsageError& error) {
    std::fprintf(stderr, "mahia: %s\n", error.what());
    return mahia::train::exit_usage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mahia: %s\n", error.what());
    return mahia::train::exit_error;
  }
  return finish(status);
}
