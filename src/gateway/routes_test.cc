#include "gateway/routes.h"

#include <gtest/gtest.h>

#include <set>

namespace mayfly {
namespace {

TEST(Routes, EveryRowIsFoundByItsOwnPattern) {
  for (const RouteSpec& r : routes()) {
    std::string path(r.path);
    for (std::size_t at; (at = path.find('{')) != std::string::npos;) path.replace(at, path.find('}') - at + 1, "x1");
    const std::string_view method = r.methods.substr(0, r.methods.find(','));
    const RouteMatch m = match_route(method, path);
    ASSERT_NE(m.spec, nullptr) << path;
    EXPECT_TRUE(m.method_fits) << method << " " << path;
    EXPECT_EQ(m.spec, &r) << method << " " << path << " is taken by " << m.spec->path;
    EXPECT_EQ(match_route(method, path + "/").spec, &r) << "with a slash at its end";
    EXPECT_EQ(r.path.find("{name}") != std::string_view::npos, m.name == "x1") << path;
    EXPECT_EQ(r.path.find("{version}") != std::string_view::npos, m.version == "x1") << path;
  }
}

TEST(Routes, RowsOfOnePathStandTogetherAndShareNoMethod) {
  std::set<std::string_view> closed;
  std::string_view open;
  std::set<std::string> methods;
  for (const RouteSpec& r : routes()) {
    if (r.path != open) {
      EXPECT_TRUE(closed.insert(open).second || open.empty()) << open;
      EXPECT_FALSE(closed.contains(r.path)) << r.path;
      open = r.path;
      methods.clear();
    }
    std::string_view rest = r.methods;
    while (!rest.empty()) {
      const auto comma = rest.find(", ");
      EXPECT_TRUE(methods.insert(std::string(rest.substr(0, comma))).second) << r.path;
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 2);
    }
  }
}

TEST(Routes, VariablesAreTakenAsSent) {
  const RouteMatch m = match_route("POST", "/v2/models/a%2Fb/versions/07/infer");
  ASSERT_NE(m.spec, nullptr);
  EXPECT_EQ(m.spec->route, Route::kInfer);
  EXPECT_EQ(m.name, "a%2Fb");
  EXPECT_EQ(m.version, "07");
}

TEST(Routes, WhatIsNotServedIsNotFound) {
  for (std::string_view path : {"", "v2", "//v2", "/v2//", "/v2/models/x/infer/now", "/V2", "/v2/../v2",
                                "/v2/models/x/infer//", "/1/2/3/4/5/6/7/8/9/10/11"}) {
    EXPECT_EQ(match_route("GET", path).spec, nullptr) << path;
  }
}

TEST(Routes, AWrongMethodNamesTheRightOnes) {
  RouteMatch m = match_route("GET", "/v2/models/x/infer");
  ASSERT_NE(m.spec, nullptr);
  EXPECT_FALSE(m.method_fits);
  EXPECT_EQ(allowed_methods(*m.spec), "POST");
  m = match_route("PATCH", "/admin/v1/endpoints/x");
  ASSERT_NE(m.spec, nullptr);
  EXPECT_EQ(allowed_methods(*m.spec), "GET, DELETE");
  EXPECT_FALSE(match_route("", "/v2").method_fits);
  EXPECT_FALSE(match_route("GET, HEAD", "/v2").method_fits);
}

TEST(Routes, ErrorsFollowThePath) {
  EXPECT_EQ(dialect_of("/v2/models/x"), Dialect::kOip);
  EXPECT_EQ(dialect_of("/predictions/x/y/z"), Dialect::kTorchServe);
  EXPECT_EQ(dialect_of("/predictions"), Dialect::kTorchServe);
  EXPECT_EQ(dialect_of("/predictionsx"), Dialect::kOip);
  EXPECT_EQ(dialect_of("/models/x"), Dialect::kTorchServe);
  EXPECT_EQ(dialect_of("/invocations"), Dialect::kSageMaker);
  EXPECT_EQ(dialect_of("/endpoints/x/invocations"), Dialect::kSageMaker);
  EXPECT_EQ(dialect_of(""), Dialect::kOip);
}

}  // namespace
}  // namespace mayfly
