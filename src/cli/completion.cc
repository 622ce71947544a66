#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

#include "cli/command.h"

namespace mayfly::cli {
namespace {

struct Word {
  std::string text;
  std::string help;
};
struct Place {  // a command by its path, "" or "/keys/create", and what may follow it
  std::string path;
  std::vector<Word> commands;
  std::vector<Word> flags;
};

void add_flags(const CLI::App& app, std::vector<Word>& out) {
  for (const CLI::Option* o : app.get_options()) {
    for (const auto& name : o->get_lnames()) out.push_back({"--" + name, o->get_description()});
    for (const auto& name : o->get_snames()) out.push_back({"-" + name, o->get_description()});
  }
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_name().empty()) add_flags(*sub, out);  // an option group
  }
}

void collect(const CLI::App& app, const std::string& path, const std::vector<Word>& global, std::vector<Place>& out) {
  Place place{path, {}, {}};
  add_flags(app, place.flags);
  if (!path.empty()) place.flags.insert(place.flags.end(), global.begin(), global.end());
  const auto subs = app.get_subcommands([](const CLI::App* a) { return !a->get_name().empty(); });
  for (const CLI::App* sub : subs) place.commands.push_back({sub->get_name(), sub->get_description()});
  out.push_back(std::move(place));
  for (const CLI::App* sub : subs) collect(*sub, path + "/" + sub->get_name(), global, out);
}

std::vector<Place> places(const CLI::App& root) {
  std::vector<Word> global;
  for (const char* name : {"--server", "--key", "--output", "-o"}) {
    if (const auto* o = root.get_option_no_throw(name)) global.push_back({name, o->get_description()});
  }
  std::vector<Place> out;
  collect(root, "", global, out);
  return out;
}

std::string words(const std::vector<Word>& list) {
  std::string out;
  for (const auto& w : list) out += (out.empty() ? "" : " ") + w.text;
  return out;
}

// 'text:help' for _describe; quotes end and a colon would end the word.
std::string described(const std::vector<Word>& list) {
  std::string out;
  for (const auto& w : list) {
    out += " '" + w.text + ":";
    for (const char c : w.help) out += c == '\'' ? std::string("'\\''") : c == ':' ? "\\:" : std::string(1, c);
    out += "'";
  }
  return out;
}

std::string known_paths(const std::vector<Place>& all) {
  std::string out;
  for (const auto& p : all) {
    if (!p.path.empty()) out += (out.empty() ? "" : "|") + p.path;
  }
  return out;
}

}  // namespace

std::string bash_completion(const CLI::App& root) {
  const auto all = places(root);
  std::string out = "# bash completion of mayfly; load it with: source <(mayfly completion bash)\n_mayfly() {\n";
  out += "  local at='' i commands='' flags='' word=\"${COMP_WORDS[COMP_CWORD]}\"\n";
  out += "  for ((i = 1; i < COMP_CWORD; i++)); do\n    case \"$at/${COMP_WORDS[i]}\" in\n";
  out += fmt::format("      {}) at=\"$at/${{COMP_WORDS[i]}}\" ;;\n    esac\n  done\n", known_paths(all));
  out += "  case \"$at\" in\n";
  for (const auto& p : all) {
    out += fmt::format("    '{}') commands='{}' flags='{}' ;;\n", p.path, words(p.commands), words(p.flags));
  }
  out += "  esac\n  COMPREPLY=()\n";
  out += "  case \"${COMP_WORDS[COMP_CWORD-1]}\" in\n";
  out += "    -o|--output) COMPREPLY=($(compgen -W 'table json' -- \"$word\")); return ;;\n  esac\n";
  out += "  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n";
  out += "  elif [[ -n $commands ]]; then COMPREPLY=($(compgen -W \"$commands\" -- \"$word\")); fi\n}\n";
  return out + "complete -o default -F _mayfly mayfly\n";
}

std::string zsh_completion(const CLI::App& root) {
  const auto all = places(root);
  std::string out = "#compdef mayfly\n# zsh completion of mayfly; load it with: source <(mayfly completion zsh)\n";
  out += "_mayfly() {\n  local at='' word\n  local -a commands flags\n";
  out += "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n    case \"$at/$word\" in\n";
  out += fmt::format("      {}) at=\"$at/$word\" ;;\n    esac\n  done\n  case \"$at\" in\n", known_paths(all));
  for (const auto& p : all) {
    out += fmt::format("    '{}') commands=({} ) flags=({} ) ;;\n", p.path, described(p.commands), described(p.flags));
  }
  out += "  esac\n  if [[ ${words[CURRENT]} == -* ]]; then _describe flag flags\n";
  out += "  elif (( $#commands )); then _describe command commands\n  else _files; fi\n}\n";
  return out + "compdef _mayfly mayfly\n";
}

void add_completion(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("completion", "a script that completes commands and flags in your shell");
  auto shell = std::make_shared<std::string>();
  cmd->add_option("SHELL", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  cmd->footer(examples({"source <(mayfly completion bash)", "mayfly completion zsh > ~/.zfunc/_mayfly"}));
  cmd->callback([&app, &ctx, shell] {
    ctx.run = [&app, shell]() -> Result<int> {
      fmt::print("{}", *shell == "bash" ? bash_completion(app) : zsh_completion(app));
      return 0;
    };
  });
}

}  // namespace mayfly::cli
