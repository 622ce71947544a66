// What a version holds while nobody calls it: instances that are warm, instances that are parked (ready, their process
// stopped), or nothing. Pure; the owner's wishes and what was measured go in, a number for each rung and the reason
// come out.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace mayfly::policy {

// Every week: `count` warm instances on these days from one minute of the day to another, in UTC. `to` before `from`
// ends on the next day; equal to it, a whole day later.
struct ProvisionWindow {
  std::uint8_t days = 0x7F;  // bit 0 is Monday
  std::uint16_t from_min = 0, to_min = 0;
  std::uint32_t count = 0;
  bool operator==(const ProvisionWindow&) const = default;
};
// The largest count of the windows that are open at `unix_s`; 0 if none is.
std::uint32_t provisioned_at(std::span<const ProvisionWindow> windows, std::uint64_t unix_s);

struct HoldState {
  bool live = false;  // the version gets the endpoint's traffic
  std::uint32_t min = 0, provisioned = 0, parked = 0, max = 1;
  // What a request may wait for an instance, over a warm one's answer; 0: no wish.
  std::uint64_t budget_ns = 0;
  // What it waits, measured; 0: not measured.
  std::uint64_t cold_ns = 0, resume_ns = 0;
};
struct Hold {
  std::uint32_t warm = 0, parked = 0;
  std::string_view reason;
  // The owner named a budget, and what is held keeps it for the first request; false also while that is not known.
  bool within_budget = true;
};
// Never more than `max` in all, warm ones first.
Hold what_to_hold(const HoldState& s);

}  // namespace mayfly::policy
