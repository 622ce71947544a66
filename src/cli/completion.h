// Shell completion from the CLI11 tree: what can follow each command is read from the commands themselves, so that a
// new command or flag is completed without a word here. Pure.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace mayfly::cli {

std::string bash_completion(const CLI::App& root);
std::string zsh_completion(const CLI::App& root);

}  // namespace mayfly::cli
