// The parts of the OCI distribution and image specifications (1.1) that reading one layer needs: manifest by tag or
// digest, an index with one fitting manifest, the token of an anonymous reader. See fetcher.h.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "crypto/hash.h"
#include "fetch/fetcher.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxManifest = 4ULL << 20;  // what the specification asks registries to take at least
constexpr std::size_t kMaxTokenAnswer = 64 * 1024;
constexpr std::size_t kMaxLayers = 1000;
constexpr char kAccept[] =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
constexpr const char* kTitles[] = {"org.opencontainers.image.title", "org.cncf.model.filepath",
                                   "org.cnai.model.filepath"};
constexpr const char* kSuffixes[] = {".onnx", ".gguf", ".ort"};

std::string text_of(const Json& j, const char* key) {
  return j.is_object() && j.contains(key) && j[key].is_string() ? j[key].get<std::string>() : std::string();
}

bool is_digest(std::string_view d) {
  return d.size() == 71 && d.starts_with("sha256:") &&
         std::all_of(d.begin() + 7, d.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_archive(std::string_view media_type) {
  return media_type.ends_with("tar") || media_type.find("+gzip") != std::string_view::npos ||
         media_type.find("+zstd") != std::string_view::npos || media_type.ends_with(".tar.gzip") ||
         media_type.ends_with("tar.gz");
}

OciLayer layer_of(const Json& j) {
  OciLayer out{text_of(j, "mediaType"), text_of(j, "digest"), "", 0};
  if (j.is_object() && j.contains("size") && j["size"].is_number_unsigned()) out.bytes = j["size"];
  if (!j.is_object() || !j.contains("annotations")) return out;
  for (const char* key : kTitles) {
    if (out.title.empty()) out.title = text_of(j["annotations"], key);
  }
  return out;
}

std::string names_of(const std::vector<OciLayer>& layers) {
  std::string out;
  for (const OciLayer& l : layers)
    out += fmt::format("{}{}", out.empty() ? "" : ", ", l.title.empty() ? l.digest : l.title);
  return out.substr(0, 500);
}

Result<OciLayer> checked(OciLayer layer, const Source& s) {
  if (!is_digest(layer.digest))
    return invalid("source_unsupported", "{}: the layer's digest \"{}\" is no sha256", s.shown,
                   layer.digest.substr(0, 80));
  if (is_archive(layer.media_type))
    return invalid(
        "source_unsupported",
        "{}: the layer {} is an archive ({}); push the model's file as it is, as `oras push` or ModelPack's raw "
        "layers do",
        s.shown, layer.title, layer.media_type.substr(0, 100));
  return layer;
}

// The manifest in an index that fits: its only one, or the one for this platform.
Result<std::string> manifest_of_index(const Json& index, const Source& s) {
  std::vector<std::string> all, fitting;
  for (const Json& m : index["manifests"]) {
    if (all.size() >= kMaxLayers) break;
    const std::string digest = text_of(m, "digest");
    all.push_back(digest);
    const Json platform = m.is_object() && m.contains("platform") ? m["platform"] : Json();
    if (text_of(platform, "os") == "linux" && text_of(platform, "architecture") == "amd64") fitting.push_back(digest);
  }
  const auto& from = all.size() == 1 ? all : fitting;
  if (from.size() == 1 && is_digest(from[0])) return from[0];
  return invalid("source_ambiguous",
                 "{} is an index of {} manifests, of which {} are for linux/amd64; name one by …@sha256:HEX", s.shown,
                 all.size(), fitting.size());
}

}  // namespace

Result<OciLayer> choose_layer(std::string_view manifest_json, const Source& s) {
  auto doc = parse_json_bounded(manifest_json);
  if (!doc.ok() || !doc->is_object() || !doc->contains("layers") || !(*doc)["layers"].is_array())
    return invalid("source_unsupported", "{}: its manifest has no layers", s.shown);
  std::vector<OciLayer> layers, models, raw;
  for (const Json& j : (*doc)["layers"]) {
    if (layers.size() >= kMaxLayers) break;
    layers.push_back(layer_of(j));
    const OciLayer& l = layers.back();
    if (!s.file.empty() && l.title == s.file) return checked(l, s);
    const bool named = std::any_of(std::begin(kSuffixes), std::end(kSuffixes),
                                   [&l](const char* suffix) { return l.title.ends_with(suffix); });
    if (named) models.push_back(l);
    if (!is_archive(l.media_type)) raw.push_back(l);
  }
  if (!s.file.empty())
    return make_error(Code::kNotFound, "source_not_found", "{} has no layer \"{}\"; it has {}", s.shown, s.file,
                      names_of(layers));
  if (layers.size() == 1) return checked(layers[0], s);
  if (models.size() == 1) return checked(models[0], s);
  if (models.empty() && raw.size() == 1) return checked(raw[0], s);
  return invalid("source_ambiguous", "{} has several layers: {}; name the model's as #FILE", s.shown, names_of(layers));
}

Result<std::string> token_url(std::string_view challenge, std::string_view repository) {
  const auto value = [challenge](std::string_view key) {
    const std::string mark = fmt::format("{}=\"", key);
    const auto at = challenge.find(mark);
    if (at == std::string_view::npos) return std::string();
    const std::string_view rest = challenge.substr(at + mark.size());
    return std::string(rest.substr(0, rest.find('"')));
  };
  const std::string realm = value("realm"), service = value("service");
  if (!challenge.starts_with("Bearer ") || realm.empty())
    return invalid("source_refused",
                   "the registry asks for credentials; only registries that let anybody read are read");
  std::string url = fmt::format("{}{}scope=repository%3A{}%3Apull", realm,
                                realm.find('?') == std::string::npos ? '?' : '&', encode_path(repository));
  if (!service.empty()) url += "&service=" + encode_path(service);
  return url;
}

// The header with a token for an anonymous reader, from the service that the registry's 401 names.
Result<std::string> Fetcher::oci_token(const Source& s, std::string_view challenge) const {
  auto where = token_url(challenge, s.repository);
  if (!where.ok()) return invalid(where.error().reason, "{}: {}", s.shown, where.error().message);
  auto url = parse_http_url(*where);
  if (!url.ok()) return std::move(url.error());
  HttpRequest rq;
  rq.url = std::move(*url);
  auto answer = transport_.exchange(rq, kMaxTokenAnswer);
  if (!answer.ok()) return std::move(answer.error());
  if (answer->status != 200) return status_error(answer->status, s.shown + ": a token", answer->body);
  auto doc = parse_json_bounded(answer->body);
  std::string token = doc.ok() ? text_of(*doc, "token") : "";
  if (token.empty() && doc.ok()) token = text_of(*doc, "access_token");
  if (token.empty() || token.find_first_of("\r\n") != std::string::npos)
    return invalid("source_refused", "{}: the registry's token service gave no token", s.shown);
  return "Authorization: Bearer " + token;
}

// The manifest of s.reference, or of the one in its index that fits; `authorization` is what reading took.
Result<std::string> Fetcher::oci_manifest(const Source& s, const std::string& root, std::string& authorization) const {
  std::string reference = s.reference;
  for (int hop = 0; hop < 4; ++hop) {  // a token, an index, its manifest
    auto url = parse_http_url(fmt::format("{}/manifests/{}", root, reference));
    if (!url.ok()) return std::move(url.error());
    HttpRequest rq;
    rq.url = std::move(*url);
    rq.headers = {kAccept};
    if (!authorization.empty()) rq.headers.push_back(authorization);
    auto answer = transport_.exchange(rq, kMaxManifest);
    if (!answer.ok()) return std::move(answer.error());
    if (answer->status == 401 && authorization.empty()) {
      auto token = oci_token(s, header(answer->headers, "www-authenticate"));
      if (!token.ok()) return token;
      authorization = std::move(*token);
      continue;
    }
    if (answer->status != 200) return status_error(answer->status, s.shown, answer->body);
    if (const std::string found = sha256_hex(answer->body);
        reference.starts_with("sha256:") && found != reference.substr(7))
      return invalid("digest_mismatch", "{}: the manifest has the sha256 {}, but {} was asked for", s.shown, found,
                     reference.substr(7));
    auto doc = parse_json_bounded(answer->body);
    if (!doc.ok() || !doc->is_object() || !doc->contains("manifests") || !(*doc)["manifests"].is_array())
      return std::move(answer->body);
    auto inner = manifest_of_index(*doc, s);
    if (!inner.ok()) return inner;
    reference = std::move(*inner);
  }
  return invalid("source_unsupported", "{}: its manifest leads to further ones", s.shown);
}

Result<DownloadRequest> Fetcher::oci_request(const Source& s) const {
  auto base = parse_http_url("https://" + s.registry + "/");
  if (!base.ok()) return std::move(base.error());
  // As everywhere with registries: plain HTTP on this machine only.
  const bool here = base->host == "localhost" || base->host == "::1" || base->host.starts_with("127.");
  const std::string root = fmt::format("{}://{}/v2/{}", here ? "http" : "https", s.registry, s.repository);
  std::string authorization;
  auto manifest = oci_manifest(s, root, authorization);
  if (!manifest.ok()) return std::move(manifest.error());
  auto layer = choose_layer(*manifest, s);
  if (!layer.ok()) return std::move(layer.error());
  auto blob = parse_http_url(fmt::format("{}/blobs/{}", root, layer->digest));
  if (!blob.ok()) return std::move(blob.error());
  DownloadRequest out;
  out.url = std::move(*blob);
  if (!authorization.empty()) out.headers.push_back(authorization);
  out.sha256 = layer->digest.substr(7);
  out.bytes = layer->bytes;
  return out;
}

}  // namespace mayfly
