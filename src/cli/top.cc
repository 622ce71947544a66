#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/command.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

constexpr int kPeriodMs = 1000;

Result<std::string> frame(const Context& ctx, Client& client) {
  auto endpoints = client.call("GET", "/admin/v1/endpoints");
  if (!endpoints) return std::move(endpoints.error());
  auto instances = client.call("GET", "/admin/v1/instances");
  if (!instances) return std::move(instances.error());
  const Json& e = member(*endpoints, "endpoints");
  const Json& i = member(*instances, "instances");
  if (ctx.json()) return print_json(Json{{"endpoints", e}, {"instances", i}}) + "\n";
  return fmt::format("{}: {} endpoints, {} instances\n\n{}\n{}", client.server(), e.size(), i.size(),
                     endpoints_table(e, unix_ms()), instances_table(i));
}

Result<int> run_top(const Context& ctx, bool once) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  Fd interrupt;
  if (!once) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    interrupt = Fd(::signalfd(-1, &set, SFD_CLOEXEC));
    if (!interrupt.valid()) return errno_error(errno, "cannot wait for ^C (signalfd)");
  }
  const bool redraw = !once && !ctx.json() && ::isatty(STDOUT_FILENO) == 1;
  for (;;) {
    auto text = frame(ctx, **client);
    if (!text) return std::move(text.error());
    fmt::print("{}{}", redraw ? "\033[H\033[2J" : "", *text);
    std::fflush(stdout);
    if (once || std::ferror(stdout)) return 0;
    pollfd p{interrupt.get(), POLLIN, 0};
    if (::poll(&p, 1, kPeriodMs) > 0) return 0;
  }
}

}  // namespace

void add_top(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("top", "endpoints and instances, every second until ^C");
  auto once = std::make_shared<bool>(false);
  cmd->add_flag("--once", *once, "print once and end");
  cmd->footer(examples({"mayfly top", "mayfly top --once -o json"}));
  cmd->callback([&ctx, once] { ctx.run = [&ctx, once] { return run_top(ctx, *once); }; });
}

}  // namespace mayfly::cli
