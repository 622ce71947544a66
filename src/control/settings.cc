// Endpoint settings: one table (kSettings) declares each; parsing, printing, suggestions and the reference page walk
// it.
//
// Pure functions on values, any thread. A row's parse function reads one JSON value into EndpointSettings and checks
// its bounds; its print function is the inverse. Groups ("input.image") exist because rows are named below them.
// Amounts with units are kept as integers (bytes, milliseconds, thousandths of a CPU); fractions are rounded up, so
// that nobody gets less than was asked.
#include "control/settings.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <variant>

#include "control/provision.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxSpecBytes = 64U << 20;
constexpr std::size_t kMaxNameChars = 63;
constexpr std::size_t kMaxLabels = 100'000;
constexpr std::size_t kMaxLabelBytes = 512;
constexpr std::size_t kMaxOutputNameBytes = 4096;
constexpr double kMaxChannelValue = 1e6;
constexpr std::uint64_t kKi = 1ULL << 10, kMi = 1ULL << 20, kGi = 1ULL << 30;
constexpr std::uint64_t kSecond = 1000, kMinute = 60 * kSecond, kHour = 60 * kMinute;

// --- amounts with units ---

struct Scale {
  std::string_view suffix;
  std::uint64_t factor;
};
// From small to large; printing takes the largest that divides the value.
constexpr Scale kByteScales[] = {{"", 1}, {"Ki", kKi}, {"Mi", kMi}, {"Gi", kGi}};
constexpr Scale kTimeScales[] = {{"ms", 1}, {"s", kSecond}, {"m", kMinute}, {"h", kHour}};
constexpr Scale kShortTimeScales[] = {{"us", 1}, {"ms", 1000}, {"s", 1000 * 1000}};
constexpr Scale kCpuScales[] = {{"m", 1}, {"", 1000}};
constexpr Scale kCountScales[] = {{"", 1}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// DIGITS[.DIGITS]SUFFIX; nothing if it is not that or does not fit. A count ("" alone) must be whole.
std::optional<std::uint64_t> parse_amount(std::string_view text, std::span<const Scale> scales) {
  // 18 digits before and 9 behind the point: with a factor of 2^30 it fits 128 bits.
  constexpr std::size_t kMaxWhole = 18, kMaxFraction = 9;
  std::size_t at = 0;
  unsigned __int128 value = 0;
  for (; at < text.size() && is_digit(text[at]); ++at) value = value * 10 + static_cast<unsigned>(text[at] - '0');
  if (at == 0 || at > kMaxWhole) return std::nullopt;
  std::uint64_t divisor = 1;
  if (at < text.size() && text[at] == '.') {
    const std::size_t first = ++at;
    for (; at < text.size() && is_digit(text[at]) && at - first < kMaxFraction; ++at) {
      value = value * 10 + static_cast<unsigned>(text[at] - '0');
      divisor *= 10;
    }
    if (at == first) return std::nullopt;
  }
  const std::string_view suffix = text.substr(at);
  const auto scale = std::find_if(scales.begin(), scales.end(), [&](const Scale& s) { return s.suffix == suffix; });
  if (scale == scales.end()) return std::nullopt;
  value *= scale->factor;
  if (scales.size() == 1 && value % divisor != 0) return std::nullopt;
  value = (value + divisor - 1) / divisor;
  if (value > std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

std::string print_amount(std::uint64_t value, std::span<const Scale> scales) {
  const Scale* best = &scales[0];
  for (const Scale& s : scales) {
    if (value != 0 && value % s.factor == 0) best = &s;
  }
  return fmt::format("{}{}", value / best->factor, best->suffix);
}

// --- the table ---

struct Setting;
using Parse = Status (*)(const Setting&, const Json&, EndpointSettings&);
using Print = Json (*)(const Setting&, const EndpointSettings&);  // null: not set
using Field = std::variant<std::monostate, std::uint64_t EndpointSettings::*, std::uint32_t EndpointSettings::*>;

struct Setting {
  std::string_view path;
  std::string_view unit;          // for people
  std::span<const Scale> scales;  // amounts only
  Field field;                    // amounts only
  std::uint64_t low, high;        // amounts, sides and `top`
  std::string_view bounds;        // where low and high don't say it
  Parse parse;
  Print print;
  std::string_view help;
};

std::string bounds_of(const Setting& row) {
  if (!row.bounds.empty()) return std::string(row.bounds);
  return fmt::format("{} to {}", print_amount(row.low, row.scales), print_amount(row.high, row.scales));
}

std::string excerpt(const Json& value) {
  constexpr std::size_t kMaxExcerpt = 80;
  // An escape for everything outside ASCII, so that cutting does not split a character.
  std::string text = value.is_structured() && value.size() > 8
                         ? std::string(value.is_array() ? "[…]" : "{…}")
                         : value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kMaxExcerpt) text = text.substr(0, kMaxExcerpt) + "…";
  return text;
}

Error wrong(const Setting& row, const Json& value) {
  return invalid("invalid_setting", "setting {}: {} is not possible; expected {}, {}", row.path, excerpt(value),
                 row.unit, bounds_of(row));
}

std::optional<std::string> text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  return std::nullopt;
}

std::optional<std::uint64_t> bounded(const Setting& row, const Json& value) {
  const auto text = text_of(value);
  if (!text) return std::nullopt;
  auto amount = parse_amount(*text, row.scales);
  // Zero is the same in every unit.
  if (!amount && *text == "0") amount = 0;
  if (!amount || *amount < row.low || *amount > row.high) return std::nullopt;
  return amount;
}

Status parse_field(const Setting& row, const Json& value, EndpointSettings& s) {
  const auto amount = bounded(row, value);
  if (!amount) return wrong(row, value);
  if (const auto* wide = std::get_if<std::uint64_t EndpointSettings::*>(&row.field)) s.** wide = *amount;
  if (const auto* narrow = std::get_if<std::uint32_t EndpointSettings::*>(&row.field)) {
    s.** narrow = static_cast<std::uint32_t>(*amount);
  }
  return Ok{};
}

Json print_field(const Setting& row, const EndpointSettings& s) {
  std::uint64_t value = 0;
  if (const auto* wide = std::get_if<std::uint64_t EndpointSettings::*>(&row.field)) value = s.**wide;
  if (const auto* narrow = std::get_if<std::uint32_t EndpointSettings::*>(&row.field)) value = s.**narrow;
  if (row.scales.size() == 1) return value;
  return print_amount(value, row.scales);
}

Status parse_resize(const Setting& row, const Json& value, EndpointSettings& s) {
  const bool pair = value.is_array() && value.size() == 2;
  if (value.is_array() && !pair) return wrong(row, value);
  const auto width = bounded(row, pair ? value[0] : value);
  const auto height = bounded(row, pair ? value[1] : value);
  if (!width || !height) return wrong(row, value);
  s.image->width = static_cast<std::uint32_t>(*width);
  s.image->height = static_cast<std::uint32_t>(*height);
  return Ok{};
}
Json print_resize(const Setting&, const EndpointSettings& s) { return Json::array({s.image->width, s.image->height}); }

Status parse_crop(const Setting& row, const Json& value, EndpointSettings& s) {
  if (value == "none" || value == "center") {
    s.image->crop_permille = value == "none" ? 0 : 1000;
    return Ok{};
  }
  double part = 0;
  if (value.is_number()) part = value.get<double>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), part);
    if (ec != std::errc() || end != text.data() + text.size()) return wrong(row, value);
  }
  if (!(part >= 0.001 && part <= 1)) return wrong(row, value);
  s.image->crop_permille = static_cast<std::uint32_t>(std::lround(part * 1000));
  return Ok{};
}
Json print_crop(const Setting&, const EndpointSettings& s) {
  if (s.image->crop_permille == 0) return "none";
  if (s.image->crop_permille == 1000) return "center";
  return s.image->crop_permille / 1000.0;
}

Status parse_tier_up(const Setting& row, const Json& value, EndpointSettings& s) {
  if (value == "auto" || value == true || value == "off" || value == false) {  // YAML reads off as false
    s.tier_up = value == "auto" || value == true;
    return Ok{};
  }
  return wrong(row, value);
}
Json print_tier_up(const Setting&, const EndpointSettings& s) { return s.tier_up ? "auto" : "off"; }

Status parse_wake_on(const Setting& row, const Json& value, EndpointSettings& s) {
  if (value != "request" && value != "connection") return wrong(row, value);
  s.wake_on_connection = value == "connection";
  return Ok{};
}
Json print_wake_on(const Setting&, const EndpointSettings& s) {
  return s.wake_on_connection ? "connection" : "request";
}

Status parse_layout(const Setting& row, const Json& value, EndpointSettings& s) {
  if (value != "nchw" && value != "nhwc") return wrong(row, value);
  s.image->nhwc = value == "nhwc";
  return Ok{};
}
Json print_layout(const Setting&, const EndpointSettings& s) { return s.image->nhwc ? "nhwc" : "nchw"; }

template <float (ImageInput::*kChannels)[3]>
Status parse_channels(const Setting& row, const Json& value, EndpointSettings& s) {
  const bool triple = value.is_array() && value.size() == 3;
  if (value.is_array() && !triple) return wrong(row, value);
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& channel = triple ? value[i] : value;
    if (!channel.is_number()) return wrong(row, value);
    const double number = channel.get<double>();
    if (!(std::abs(number) <= kMaxChannelValue)) return wrong(row, value);
    (*s.image.*kChannels)[i] = static_cast<float>(number);
  }
  return Ok{};
}
// The shortest text that reads back as the same float: 0.1, not 0.10000000149.
Json shortest(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }
template <float (ImageInput::*kChannels)[3]>
Json print_channels(const Setting&, const EndpointSettings& s) {
  const auto& c = *s.image.*kChannels;
  if (c[0] == c[1] && c[1] == c[2]) return shortest(c[0]);
  return Json::array({shortest(c[0]), shortest(c[1]), shortest(c[2])});
}

Status parse_top(const Setting& row, const Json& value, EndpointSettings& s) {
  const auto top = bounded(row, value);
  if (!top) return wrong(row, value);
  s.classes->top = static_cast<std::uint32_t>(*top);
  return Ok{};
}
Json print_top(const Setting&, const EndpointSettings& s) { return s.classes->top; }

Status parse_output(const Setting& row, const Json& value, EndpointSettings& s) {
  if (!value.is_string() || value.get_ref<const std::string&>().size() > kMaxOutputNameBytes) return wrong(row, value);
  s.classes->output = value.get<std::string>();
  return Ok{};
}
Json print_output(const Setting&, const EndpointSettings& s) {
  return s.classes->output.empty() ? Json() : Json(s.classes->output);
}

Status parse_labels(const Setting& row, const Json& value, EndpointSettings& s) {
  if (!value.is_array() || value.size() > kMaxLabels) return wrong(row, value);
  std::vector<std::string> labels;
  labels.reserve(value.size());
  for (const Json& label : value) {
    if (!label.is_string() || label.get_ref<const std::string&>().size() > kMaxLabelBytes) {
      return invalid("invalid_setting", "setting {}[{}]: {} is not possible; expected a string of at most {} bytes",
                     row.path, labels.size(), excerpt(label), kMaxLabelBytes);
    }
    labels.push_back(label.get<std::string>());
  }
  s.classes->labels = std::move(labels);
  return Ok{};
}
Json print_labels(const Setting&, const EndpointSettings& s) {
  return s.classes->labels.empty() ? Json() : Json(s.classes->labels);
}

Status parse_sample(const Setting& row, const Json& value, EndpointSettings& s) {
  if (!value.is_object()) return wrong(row, value);
  s.sample_json = value.dump();
  return Ok{};
}
Json print_sample(const Setting&, const EndpointSettings& s) {
  auto sample = parse_json_bounded(s.sample_json);
  return sample.ok() ? std::move(*sample) : Json();
}

Status parse_provisioned(const Setting&, const Json& value, EndpointSettings& s) {
  auto windows = provision_from_json(value);
  if (!windows.ok()) return std::move(windows.error());
  s.provisioned = std::move(*windows);
  return Ok{};
}
Json print_provisioned(const Setting&, const EndpointSettings& s) { return provision_to_json(s.provisioned); }

using S = EndpointSettings;
constexpr std::string_view kBytes = "bytes with Ki, Mi or Gi", kTime = "a time in ms, s, m or h",
                           kNumber = "a whole number", kChannelUnit = "a number, or [r, g, b]",
                           kChannelBounds = "-1000000 to 1000000";
// clang-format off
const Setting kSettings[] = {
    {"memory", kBytes, kByteScales, &S::memory_bytes, 64 * kMi, 64 * kGi, "", parse_field, print_field,
     "Memory of one instance; it is ended when it takes more."},
    {"cpu", "CPUs, or thousandths with m", kCpuScales, &S::cpu_milli, 100, 64'000, "", parse_field, print_field,
     "CPU time one instance may take: 1, 0.5 or 500m."},
    {"threads", kNumber, kCountScales, &S::threads, 0, 64, "", parse_field, print_field,
     "Threads of one run, at most cpu rounded up. 0: as many as that; never more than the machine has CPUs."},
    {"tier_up", "a word", {}, {}, 0, 0, "auto or off", parse_tier_up, print_tier_up,
     "auto: where the deploy found that pre-packed weights run faster, a busy instance changes to them if its memory allows it."},
    {"wake_on", "a word", {}, {}, 0, 0, "request or connection", parse_wake_on, print_wake_on,
     "connection: an address that asked the endpoint within the last hour starts an instance as soon as it connects, before its request is there."},
    {"min", kNumber, kCountScales, &S::min_instances, 0, 1000, "", parse_field, print_field,
     "Instances that are kept also when nobody calls. 0: the endpoint costs nothing while idle."},
    {"max", kNumber, kCountScales, &S::max_instances, 1, 1000, "", parse_field, print_field,
     "Instances at most; further requests wait in the queue."},
    {"parked", kNumber, kCountScales, &S::parked, 0, 1000, "", parse_field, print_field,
     "Instances that are kept ready with their process stopped: they take memory and no CPU, and answer in well under a millisecond more than a warm one."},
    {"provisioned", "a number, or a list of {count, days, from, to}", {}, {}, 0, 0, "0 to 1000; at most 100 windows, in UTC",
     parse_provisioned, print_provisioned, "Instances that are kept warm, always or in these windows of the week; the larger of it and min counts."},
    {"cold_start_budget_ms", kNumber, kCountScales, &S::cold_start_budget_ms, 0, 60'000, "", parse_field, print_field,
     "What a request may wait for an instance. Nothing, a parked or a warm instance is held, the least that keeps it as measured. 0: no wish."},
    {"concurrency", kNumber, kCountScales, &S::concurrency, 1, 64, "", parse_field, print_field,
     "Requests that are handed to one instance at once."},
    {"idle", kTime, kTimeScales, &S::idle_ms, 0, 24 * kHour, "", parse_field, print_field,
     "How long an instance without requests is kept."},
    {"timeout", kTime, kTimeScales, &S::timeout_ms, 1, kHour, "", parse_field, print_field,
     "Time a request may take, waiting and cold start included."},
    {"queue", kNumber, kCountScales, &S::queue, 0, 100'000, "", parse_field, print_field,
     "Requests that may wait for an instance, per version; further ones are refused with 429."},
    {"batch.max", kNumber, kCountScales, &S::batch_max, 0, 1024, "", parse_field, print_field,
     "Rows of several requests that are run together. 1: never; 0: up to 32 where the deploy found that rows do not influence each other."},
    {"batch.delay", "a time in us, ms or s", kShortTimeScales, &S::batch_delay_us, 0, 10'000'000, "", parse_field, print_field,
     "How long an idle instance waits for more rows at most, when requests come fast enough for it."},
    {"max_request", kBytes, kByteScales, &S::max_request_bytes, kKi, kGi, "", parse_field, print_field,
     "Size of the input tensors of one request."},
    {"max_response", kBytes, kByteScales, &S::max_response_bytes, kKi, kGi, "", parse_field, print_field,
     "Size of the output tensors of one request."},
    {"input.image.resize", "a side, or [width, height]", kCountScales, {}, 1, 4096, "", parse_resize, print_resize,
     "Pixels that the model takes. Callers may then send a PNG or JPEG."},
    {"input.image.crop", "a word or a part", {}, {}, 0, 0, "center, none, or 0.001 to 1", parse_crop, print_crop,
     "center: the largest centred square; a number: that part of it (0.875 is usual for ImageNet); none: stretch."},
    {"input.image.mean", kChannelUnit, {}, {}, 0, 0, kChannelBounds, parse_channels<&ImageInput::mean>,
     print_channels<&ImageInput::mean>, "Value = (pixel − mean) × scale, with pixels from 0 to 255."},
    {"input.image.scale", kChannelUnit, {}, {}, 0, 0, kChannelBounds, parse_channels<&ImageInput::scale>,
     print_channels<&ImageInput::scale>, "See mean."},
    {"input.image.layout", "a word", {}, {}, 0, 0, "nchw or nhwc", parse_layout, print_layout,
     "Order of the model's input: channels before or after the pixels."},
    {"output.classes.top", kNumber, kCountScales, {}, 1, kMaxTopClasses, "", parse_top, print_top,
     "How many of the best classes are answered."},
    {"output.classes.output", "a name", {}, {}, 0, 0, "at most 4096 bytes", parse_output, print_output,
     "The output that holds the scores. None: the model's last floating-point output."},
    {"output.classes.labels", "a list of strings", {}, {}, 0, 0, "at most 100000 labels of 512 bytes",
     parse_labels, print_labels, "Names of the classes in the order of the model's output."},
    {"sample", "an Open Inference Protocol request", {}, {}, 0, 0, "within max_request", parse_sample, print_sample,
     "Run once at deploy in a trial instance instead of zeros; the deploy is refused if it fails."},
};
// clang-format on

// --- names ---

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('.') + 1); }  // npos + 1 is 0

bool is_group(std::string_view path) {
  return std::any_of(std::begin(kSettings), std::end(kSettings), [&](const Setting& row) {
    return row.path.size() > path.size() && row.path.starts_with(path) && row.path[path.size()] == '.';
  });
}

const Setting* find_setting(std::string_view path) {
  for (const Setting& row : kSettings) {
    if (row.path == path) return &row;
  }
  return nullptr;
}

std::vector<std::string_view> names_below(std::string_view prefix) {
  std::vector<std::string_view> names;
  const std::size_t skip = prefix.empty() ? 0 : prefix.size() + 1;
  for (const Setting& row : kSettings) {
    if (!prefix.empty() && !(row.path.starts_with(prefix) && row.path.size() > skip && row.path[skip - 1] == '.'))
      continue;
    std::string_view name = row.path.substr(skip);
    name = name.substr(0, name.find('.'));
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

std::string suggestion(std::string_view prefix, std::string_view key) {
  constexpr std::size_t kMaxTypingErrors = 2;
  const auto names = names_below(prefix);
  std::string_view best;
  std::size_t least = kMaxTypingErrors + 1;
  for (std::string_view name : names) {
    const std::size_t distance = key.size() > kMaxNameChars ? least : edit_distance(key, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  if (!best.empty()) return fmt::format("did you mean {}?", best);
  for (const Setting& row : kSettings) {
    if (last_part(row.path) == key) return fmt::format("did you mean {}?", row.path);
  }
  return fmt::format("known are {}", fmt::join(names, ", "));
}

Error unknown(const std::string& prefix, std::string_view key) {
  return invalid("unknown_setting", "there is no setting {}{}{}; {}", prefix, prefix.empty() ? "" : ".",
                 excerpt(Json(key)), suggestion(prefix, key));
}

// As deep as the table's groups: an unknown group ends it.
Status read_group(const Json& group, const std::string& prefix, EndpointSettings& s) {
  if (!group.is_object()) {
    return invalid("invalid_setting", "{}: {} is not an object; it takes {}",
                   prefix.empty() ? "the specification" : "setting " + prefix, excerpt(group),
                   fmt::join(names_below(prefix), ", "));
  }
  if (prefix == "input.image") s.image.emplace();
  if (prefix == "output.classes") s.classes.emplace();
  for (const auto& [key, value] : group.items()) {
    // A dot would let a key name a row of another group.
    if (key.empty() || key.find('.') != std::string::npos) return unknown(prefix, key);
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (const Setting* row = find_setting(path)) {
      MAYFLY_TRY(row->parse(*row, value, s));
    } else if (is_group(path)) {
      MAYFLY_TRY(read_group(value, path, s));
    } else {
      return unknown(prefix, key);
    }
  }
  return Ok{};
}

Result<Json> parse_json(std::string_view text) {
  if (text.size() > kMaxSpecBytes) {
    return invalid("invalid_setting", "the specification has {} bytes; the limit is {}", text.size(), kMaxSpecBytes);
  }
  auto spec = parse_json_bounded(text);
  if (!spec.ok()) return invalid("invalid_setting", "cannot read the specification: {}", spec.error().message);
  return spec;
}

bool is_shown(const Setting& row, const EndpointSettings& s) {
  if (row.path.starts_with("input.image.")) return s.image.has_value();
  if (row.path.starts_with("output.classes.")) return s.classes.has_value();
  return true;
}

}  // namespace

Result<EndpointSettings> settings_from_json(std::string_view json) {
  auto spec = parse_json(json);
  if (!spec.ok()) return std::move(spec.error());
  EndpointSettings s;
  MAYFLY_TRY(read_group(*spec, "", s));
  if (s.threads > (s.cpu_milli + 999) / 1000) {
    return invalid("invalid_setting",
                   "setting threads: {} is above cpu rounded up, which is {}; raise cpu or lower threads", s.threads,
                   (s.cpu_milli + 999) / 1000);
  }
  for (const policy::ProvisionWindow& w : s.provisioned) {
    if (w.count > s.max_instances) {
      return invalid("invalid_setting", "setting provisioned: {} is above max, which is {}; raise max or lower it",
                     w.count, s.max_instances);
    }
  }
  if (s.min_instances > s.max_instances) {
    return invalid("invalid_setting", "setting min: {} is above max, which is {}; raise max or lower min",
                   s.min_instances, s.max_instances);
  }
  return s;
}

std::string settings_to_json(const EndpointSettings& s) {
  Json spec = Json::object();
  for (const Setting& row : kSettings) {
    if (!is_shown(row, s)) continue;
    Json value = row.print(row, s);
    if (value.is_null()) continue;
    Json* at = &spec;
    std::string_view rest = row.path;
    for (std::size_t dot; (dot = rest.find('.')) != std::string_view::npos; rest.remove_prefix(dot + 1)) {
      at = &(*at)[std::string(rest.substr(0, dot))];
    }
    (*at)[std::string(rest)] = std::move(value);
  }
  return spec.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string settings_reference_markdown() {
  EndpointSettings defaults;
  defaults.image.emplace();
  defaults.classes.emplace();
  std::string page = "| setting | value | default | bounds | meaning |\n|---|---|---|---|---|\n";
  for (const Setting& row : kSettings) {
    const Json value = row.print(row, defaults);
    const std::string text = value.is_null() ? "none" : value.is_string() ? value.get<std::string>() : value.dump();
    page += fmt::format("| `{}` | {} | {} | {} | {} |\n", row.path, row.unit, text, bounds_of(row), row.help);
  }
  return page;
}

Status check_endpoint_name(std::string_view name) {
  const auto is_end = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); };
  const auto is_inner = [&](char c) { return is_end(c) || c == '-' || c == '_' || c == '.'; };
  if (!name.empty() && name.size() <= kMaxNameChars && is_end(name.front()) && is_end(name.back()) &&
      std::all_of(name.begin(), name.end(), is_inner)) {
    return Ok{};
  }
  return invalid("invalid_name",
                 "endpoint name {} is not possible; use 1 to {} of a-z, 0-9, '-', '_' and '.', with a letter or "
                 "digit at both ends",
                 excerpt(Json(name)), kMaxNameChars);
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  if (auto bytes = parse_amount(text, kByteScales)) return *bytes;
  return invalid("invalid_setting", "{} is not a size; write bytes, or Ki, Mi or Gi as in 512Mi", excerpt(Json(text)));
}

Result<std::uint64_t> parse_duration_ms(std::string_view text) {
  if (text == "0") return std::uint64_t{0};
  if (auto ms = parse_amount(text, kTimeScales)) return *ms;
  return invalid("invalid_setting", "{} is not a time; write it with ms, s, m or h as in 10s", excerpt(Json(text)));
}

}  // namespace mayfly
