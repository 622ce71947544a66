#include "control/supplies.h"

#include <utility>

namespace mayfly {
namespace {

// Said to whoever asks the endpoint for something: what of the package is wrong, and what to do.
Error unavailable(const std::string& package, const Error& cause) {
  if (cause.reason == "package_corrupt") return cause;
  return make_error(Code::kUnavailable, "package_unavailable",
                    "its artefact is not on this server and can't be had from package {} now: {}", package,
                    cause.message);
}

}  // namespace

Task<Result<Supplied>> Supplies::supply(VersionPtr version) {
  const std::string package = version->package;
  const bool first = !under_way_.contains(package);
  auto work = [this, &version] { return bring(version); };
  auto got = co_await under_way_.run(package, work);
  // Its last version may have gone meanwhile. Who waited starts first.
  if (first) asio::co_spawn(executor_, collect(&artefacts_, package), asio::detached);
  co_return got;
}

Task<void> Supplies::collect(Artefacts* artefacts, std::string package) {
  std::vector<std::string> one;
  one.push_back(std::move(package));
  co_await artefacts->collect(std::move(one));
}

Task<Result<Supplied>> Supplies::bring(VersionPtr version) {
  co_await begin();
  auto hold = co_await artefacts_.pin(version->package);
  Result<Supplied> out = Supplied();
  if (artefact_there(*version)) {  // a deploy of the same package has built it
    out->bytes = version->artefact ? version->artefact->bytes : 0;
  } else {
    out = co_await artefacts_.restore(version->package);
  }
  hold.release();
  end();
  if (!out.ok()) co_return unavailable(version->package, out.error());
  co_return out;
}

Task<void> Supplies::begin() {
  if (running_ < kAtOnce) {
    ++running_;
    co_return;
  }
  OneShot<Ok> mine;
  queue_.push_back(&mine);
  co_await mine.wait();
}

void Supplies::end() {
  if (queue_.empty()) {
    --running_;
    return;
  }
  OneShot<Ok>* next = queue_.front();
  queue_.pop_front();
  next->set(Ok{});
}

}  // namespace mayfly
