#include "cli/spec.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>

namespace mayfly::cli {
namespace {

constexpr std::size_t kMaxFileBytes = 1ULL << 30;
constexpr std::size_t kMaxLabels = 1'000'000;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1] ? 1U : 0U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && std::strchr(" \t\r\n", s.front())) s.remove_prefix(1);
  while (!s.empty() && std::strchr(" \t\r\n", s.back())) s.remove_suffix(1);
  return s;
}

std::vector<std::string_view> split(std::string_view s, char by) {
  std::vector<std::string_view> out;
  for (;;) {
    const auto at = s.find(by);
    out.push_back(s.substr(0, at));
    if (at == std::string_view::npos) return out;
    s.remove_prefix(at + 1);
  }
}

template <typename T>
std::optional<T> parse_number(std::string_view s) {
  T v{};
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return v;
}

std::optional<std::string> label_text(const Json& v) {
  if (v.is_string()) return v.get<std::string>();
  if (v.is_array() && !v.empty() && v.back().is_string()) return v.back().get<std::string>();
  return std::nullopt;
}

Result<Json> labels_from_object(const Json& j, std::string_view file) {
  std::vector<std::optional<std::string>> labels(j.size());
  for (const auto& [key, v] : j.items()) {
    const auto i = parse_number<std::size_t>(key);
    if (!i || *i >= labels.size()) {
      return invalid("invalid_labels", "{}: key \"{}\" is not a class number from 0 to {}; number them without gaps",
                     file, key, labels.size() - 1);
    }
    labels[*i] = label_text(v);
    if (!labels[*i]) return invalid("invalid_labels", "{}: the label of class {} is not a string", file, key);
  }
  Json out = Json::array();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (!labels[i]) return invalid("invalid_labels", "{}: class {} has no label; number them without gaps", file, i);
    out.push_back(std::move(*labels[i]));
  }
  return out;
}

Result<Json> labels_from_json(std::string_view text, std::string_view file) {
  const Json j = Json::parse(text, nullptr, false);
  if (j.is_object()) return labels_from_object(j, file);
  if (!j.is_array())
    return invalid("invalid_labels", "{}: neither a JSON object nor an array, nor one label per line", file);
  Json out = Json::array();
  for (std::size_t i = 0; i < j.size(); ++i) {
    auto label = label_text(j[i]);
    if (!label) return invalid("invalid_labels", "{}: the label of class {} is not a string", file, i);
    out.push_back(std::move(*label));
  }
  return out;
}

// "127" → 127; "1:2:3" → [1,2,3].
Result<Json> channel_values(std::string_view name, std::string_view text) {
  const auto parts = split(text, ':');
  Json out = Json::array();
  for (const auto part : parts) {
    const auto v = parse_number<double>(trim(part));
    if (!v) break;
    out.push_back(*v);
  }
  if (out.size() == parts.size() && parts.size() == 1) return out[0];
  if (out.size() == parts.size() && parts.size() == 3) return out;
  return invalid("invalid_image_input", "image input {}={}: expected one number or three as r:g:b", name, text);
}

// "3" → 3; "5@mon-fri@08:00-18:00" and further ones → the list of windows. The server checks days and times.
Result<Json> provision_windows(const std::vector<std::string>& flags) {
  Json out = Json::array();
  for (const std::string& flag : flags) {
    const auto parts = split(flag, '@');
    const auto count = parse_number<std::uint32_t>(parts.front());
    const auto times = parts.size() > 2 ? split(parts[2], '-') : std::vector<std::string_view>();
    if (!count || parts.size() > 3 || (parts.size() > 2 && times.size() != 2)) {
      return invalid("invalid_setting",
                     "--provisioned {}: expected a number, or COUNT@DAYS@FROM-TO in UTC such as 5@mon-fri@08:00-18:00",
                     flag);
    }
    if (parts.size() == 1 && flags.size() == 1) return Json(*count);
    Json window = {{"count", *count}};
    if (parts.size() > 1) window["days"] = parts[1];
    if (!times.empty()) {
      window["from"] = times[0];
      window["to"] = times[1];
    }
    out.push_back(std::move(window));
  }
  return out;
}

Result<Json> resize_value(std::string_view text) {
  const auto parts = split(text, 'x');
  const auto w = parse_number<std::uint32_t>(parts.front());
  const auto h = parse_number<std::uint32_t>(parts.back());
  if (parts.size() > 2 || !w || !h) {
    return invalid("invalid_image_input", "image input resize={}: expected a side (224) or WIDTHxHEIGHT (320x240)",
                   text);
  }
  return Json::array({*w, *h});
}

}  // namespace

std::string suggestion(std::string_view wrong, std::initializer_list<std::string_view> names) {
  std::string_view best;
  std::size_t least = 3;  // two edits away is a typing error, more is another word
  for (const auto name : names) {
    if (const auto d = edit_distance(wrong, name); d < least) {
      least = d;
      best = name;
    }
  }
  if (!best.empty()) return fmt::format("; did you mean \"{}\"?", best);
  return fmt::format("; known are {}", fmt::join(names, ", "));
}

Result<std::string> read_file(const std::string& path) {
  const bool standard_input = path == "-";
  const auto close = [](std::FILE* f) {
    if (f != stdin) std::fclose(f);
  };
  std::unique_ptr<std::FILE, decltype(close)> f(standard_input ? stdin : std::fopen(path.c_str(), "rb"), close);
  if (!f) return invalid("file_unreadable", "cannot read {}: {}", path, std::strerror(errno));
  std::string out;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), f.get());
    if (n == 0) break;
    out.append(buffer.data(), n);
    if (out.size() > kMaxFileBytes) return invalid("file_unreadable", "{} is larger than 1 GiB", path);
  }
  if (std::ferror(f.get())) return invalid("file_unreadable", "cannot read {}: {}", path, std::strerror(errno));
  return out;
}

Result<Json> parse_labels(std::string_view text, std::string_view file_name) {
  Json out = Json::array();
  const std::string_view body = trim(text);
  if (body.empty()) return invalid("invalid_labels", "{}: no label in it", file_name);
  if (body.front() == '{' || body.front() == '[') {
    auto r = labels_from_json(body, file_name);
    if (!r) return std::move(r.error());
    out = std::move(*r);
  } else {
    for (const auto line : split(body, '\n')) out.push_back(std::string(trim(line)));
  }
  if (out.empty() || out.size() > kMaxLabels) {
    return invalid("invalid_labels", "{}: {} labels; from 1 to {} are possible", file_name, out.size(), kMaxLabels);
  }
  return out;
}

Result<Json> parse_image_input(std::string_view text) {
  text = trim(text);
  if (text.starts_with('{')) {
    Json j = Json::parse(text, nullptr, false);
    if (!j.is_object()) return invalid("invalid_image_input", "image input {}: not a JSON object", text);
    return j;
  }
  Json out = Json::object();
  for (const auto pair : split(text, ',')) {
    const auto eq = pair.find('=');
    if (eq == std::string_view::npos) {
      return invalid("invalid_image_input", "image input \"{}\": expected NAME=VALUE, as in resize=224,crop=center",
                     pair);
    }
    const std::string name(trim(pair.substr(0, eq)));
    const std::string_view value = trim(pair.substr(eq + 1));
    Result<Json> v = Json(std::string(value));
    if (name == "resize") {
      v = resize_value(value);
    } else if (name == "mean" || name == "scale") {
      v = channel_values(name, value);
    } else if (name != "crop" && name != "layout") {
      return invalid("unknown_setting", "image input: unknown setting \"{}\"{}", name,
                     suggestion(name, {"resize", "crop", "mean", "scale", "layout"}));
    }
    if (!v) return std::move(v.error());
    out[name] = std::move(*v);
  }
  return out;
}

Result<Json> spec_from_flags(const DeployFlags& f) {
  Json spec = Json::object();
  const auto set = [&spec](const char* name, const auto& value) {
    if (value) spec[name] = *value;
  };
  set("memory", f.memory);
  set("idle", f.idle);
  set("timeout", f.timeout);
  set("max_request", f.max_request);
  set("max_response", f.max_response);
  set("min", f.min);
  set("max", f.max);
  set("concurrency", f.concurrency);
  set("queue", f.queue);
  set("threads", f.threads);
  set("tier_up", f.tier_up);
  set("wake_on", f.wake_on);
  set("parked", f.parked);
  set("cold_start_budget_ms", f.cold_start_budget_ms);
  if (!f.provisioned.empty()) {
    auto windows = provision_windows(f.provisioned);
    if (!windows) return std::move(windows.error());
    spec["provisioned"] = std::move(*windows);
  }
  if (f.batch_max) spec["batch"]["max"] = *f.batch_max;
  if (f.batch_delay) spec["batch"]["delay"] = *f.batch_delay;
  if (f.cpu) {
    const auto whole = parse_number<std::uint64_t>(*f.cpu);
    const auto cores = parse_number<double>(*f.cpu);
    spec["cpu"] = whole ? Json(*whole) : cores ? Json(*cores) : Json(*f.cpu);
  }
  if (f.image_input) {
    auto image = parse_image_input(*f.image_input);
    if (!image) return std::move(image.error());
    spec["input"]["image"] = std::move(*image);
  }
  if (f.labels_file) {
    auto text = read_file(*f.labels_file);
    if (!text) return std::move(text.error());
    auto labels = parse_labels(*text, *f.labels_file);
    if (!labels) return std::move(labels.error());
    spec["output"]["classes"]["labels"] = std::move(*labels);
  }
  if (f.sample_file) {
    auto text = read_file(*f.sample_file);
    if (!text) return std::move(text.error());
    spec["sample"] = Json::parse(*text, nullptr, false);
    if (!spec["sample"].is_object()) {
      return invalid("invalid_sample", "{}: not a JSON object; expected a request such as {{\"inputs\": […]}}",
                     *f.sample_file);
    }
  }
  if (f.top) spec["output"]["classes"]["top"] = *f.top;
  if (f.output_name) spec["output"]["classes"]["output"] = *f.output_name;
  return spec;
}

}  // namespace mayfly::cli
