#include "aurora/routing.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ParameterInfo linear(std::string name, std::vector<Index> shape) {
  return {.name = std::move(name), .shape = std::move(shape), .linear = true};
}

/// A small Llama, in module order.
std::vector<ParameterInfo> llama() {
  return {{.name = "model.embed_tokens.weight", .shape = {256, 64}, .embedding = true},
          linear("model.layers.0.self_attn.q_proj.weight", {64, 64}),
          linear("model.layers.0.self_attn.k_proj.weight", {16, 64}),
          linear("model.layers.0.mlp.gate_proj.weight", {256, 64}),
          linear("model.layers.0.mlp.up_proj.weight", {256, 64}),
          linear("model.layers.0.mlp.down_proj.weight", {64, 256}),
          {.name = "model.layers.0.input_layernorm.weight", .shape = {64}},
          {.name = "model.norm.weight", .shape = {64}},
          linear("lm_head.weight", {256, 64})};
}

std::map<std::string, RoutedParameter> routed(const std::vector<ParameterInfo>& parameters,
                                              const std::vector<RoutePattern>& patterns = {}) {
  std::map<std::string, RoutedParameter> by_name;
  for (const RoutedParameter& parameter : route(parameters, patterns)) by_name[parameter.name] = parameter;
  EXPECT_EQ(by_name.size(), parameters.size());
  return by_name;
}

Route route_of(const ParameterInfo& parameter) {
  // A named head beside it, so that being the last linear layer decides nothing.
  return route(std::vector<ParameterInfo>{parameter, linear("lm_head.weight", {10, 4})}).front().route;
}

TEST(Routing, OfALlamaSendsItsHiddenMatricesToTheMatrixOptimizer) {
  const auto by_name = routed(llama());
  for (const auto& [name, parameter] : by_name) {
    const bool hidden = name.find("_proj") != std::string::npos;
    EXPECT_EQ(parameter.route, hidden ? Route::matrix : Route::adamw) << name << ": " << parameter.reason;
    EXPECT_FALSE(parameter.reason.empty());
  }
  EXPECT_EQ(by_name.at("model.layers.0.mlp.up_proj.weight").reason, "hidden matrix");
  EXPECT_EQ(by_name.at("lm_head.weight").reason, "output head by name");
  EXPECT_THAT(by_name.at("model.embed_tokens.weight").reason, HasSubstr("embedding"));
  EXPECT_THAT(by_name.at("model.norm.weight").reason, HasSubstr("fewer than two dimensions"));
}

TEST(Routing, KeepsTheOrderAndShapesOfTheParameters) {
  const auto parameters = llama();
  const auto list = route(parameters);
  ASSERT_EQ(list.size(), parameters.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].name, parameters[i].name);
    EXPECT_EQ(list[i].shape, parameters[i].shape);
  }
}

TEST(Routing, SendsVectorsAndSidesOfLengthOneToAdamW) {
  for (const std::vector<Index>& shape :
       {std::vector<Index>{}, {1}, {64}, {1, 64}, {64, 1}, {1, 1}, {64, 1, 1}, {1, 3, 3}}) {
    EXPECT_EQ(route_of({.name = "block.weight", .shape = shape}), Route::adamw)
        << shape.size() << " dimensions";
  }
  EXPECT_EQ(route_of({.name = "conv.weight", .shape = {8, 3, 3, 3}}), Route::matrix);
  EXPECT_EQ(route_of({.name = "conv.weight", .shape = {8, 3, 1, 1}}), Route::matrix);
}

TEST(Routing, KnowsEmbeddingsByModuleAndByName) {
  EXPECT_EQ(route_of({.name = "anything.weight", .shape = {50, 8}, .embedding = true}), Route::adamw);
  for (const std::string name :
       {"wte.weight", "transformer.wpe.weight", "tok_embeddings.weight", "embed_tokens.weight"}) {
    EXPECT_EQ(route_of({.name = name, .shape = {50, 8}}), Route::adamw) << name;
  }
}

TEST(Routing, KnowsRoutersButNotGateProjections) {
  EXPECT_EQ(route_of(linear("layers.0.moe.router.weight", {8, 64})), Route::adamw);
  EXPECT_EQ(route_of(linear("layers.0.mlp.gate_proj.weight", {256, 64})), Route::matrix);
  EXPECT_EQ(route_of(linear("layers.0.mlp.gate.weight", {256, 64})), Route::matrix);
}

TEST(Routing, KnowsTheOutputHeadByName) {
  for (const std::string name : {"lm_head.weight", "head.weight", "model.classifier.weight"}) {
    const auto by_name =
        routed({linear("a.weight", {8, 8}), linear(name, {8, 8}), linear("z.weight", {8, 8})});
    EXPECT_EQ(by_name.at(name).route, Route::adamw);
    EXPECT_EQ(by_name.at("z.weight").route, Route::matrix)
        << "the named head is the head, not the last layer";
    EXPECT_THAT(by_name.at(name).reason, HasSubstr("name"));
  }
}

TEST(Routing, TakesTheLastLinearLayerForTheHeadWhereNoNameTells) {
  const auto by_name = routed({linear("0.weight", {8, 4}),
                               {.name = "0.bias", .shape = {8}},
                               linear("2.weight", {8, 8}),
                               linear("4.weight", {3, 8}),
                               {.name = "4.bias", .shape = {3}}});
  EXPECT_EQ(by_name.at("0.weight").route, Route::matrix);
  EXPECT_EQ(by_name.at("2.weight").route, Route::matrix);
  EXPECT_EQ(by_name.at("4.weight").route, Route::adamw);
  EXPECT_THAT(by_name.at("4.weight").reason, HasSubstr("last linear"));
}

TEST(Routing, SendsTiedWeightsToAdamWAndSaysToWhat) {
  const auto by_name =
      routed({{.name = "emb.weight", .shape = {9, 4}, .embedding = true},
              linear("hidden.weight", {4, 4}),
              {.name = "out.weight", .shape = {9, 4}, .linear = true, .tied_to = "emb.weight"}});
  EXPECT_EQ(by_name.at("out.weight").route, Route::adamw);
  EXPECT_THAT(by_name.at("out.weight").reason, HasSubstr("emb.weight"));
  EXPECT_EQ(by_name.at("hidden.weight").route, Route::matrix)
      << "the tied head is the head, not the last other layer";
}

TEST(Routing, ObeysPatternsAndNamesThem) {
  const auto by_name =
      routed(llama(), {{"lm_head.*", Route::matrix}, {"*.mlp.?p_proj.weight", Route::adamw}});
  EXPECT_EQ(by_name.at("lm_head.weight").route, Route::matrix);
  EXPECT_EQ(by_name.at("lm_head.weight").reason, "pattern 'lm_head.*'");
  EXPECT_EQ(by_name.at("model.layers.0.mlp.up_proj.weight").route, Route::adamw);
  EXPECT_EQ(by_name.at("model.layers.0.mlp.gate_proj.weight").route, Route::matrix);
}

TEST(Routing, MatchesWildcardsOverTheWholeName) {
  const std::vector<ParameterInfo> one = {linear("layers.10.up.weight", {8, 8})};
  for (const std::string pattern : {"*", "layers.*", "*.weight", "layers.1?.up.weight", "l*s.*.*.w*t",
                                    "layers.10.up.weight", "**weight", "layers.10.up.weight*"}) {
    EXPECT_EQ(route(one, std::vector<RoutePattern>{{pattern, Route::adamw}}).front().route, Route::adamw)
        << pattern;
  }
  for (const std::string pattern :
       {"", "layers", "up", "layers.1?.weight", "?ayers.10.up.weigh", "layers.10.up.weight?"}) {
    EXPECT_THROW(route(one, std::vector<RoutePattern>{{pattern, Route::adamw}}), std::invalid_argument)
        << pattern;
  }
}

TEST(Routing, OfAHostilePatternEndsAtOnce) {
  const std::vector<ParameterInfo> one = {linear(std::string(40, 'a'), {8, 8})};
  std::string pattern;
  for (int k = 0; k < 9; ++k) pattern += "*a";
  pattern += "*b";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(route(one, std::vector<RoutePattern>{{pattern, Route::adamw}}), std::invalid_argument);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(Routing, RefusesContradictionsAndNamesBothPatterns) {
  const std::vector<RoutePattern> patterns = {{"*.mlp.*", Route::adamw}, {"*up_proj*", Route::matrix}};
  EXPECT_THAT(
      message_of([&] { route(llama(), patterns); }),
      AllOf(HasSubstr("*.mlp.*"), HasSubstr("*up_proj*"), HasSubstr("model.layers.0.mlp.up_proj.weight")));
  const std::vector<RoutePattern> agreeing = {{"*.mlp.*", Route::adamw}, {"*up_proj*", Route::adamw}};
  EXPECT_NO_THROW(route(llama(), agreeing));
}

TEST(Routing, RefusesAPatternThatMatchesNothing) {
  EXPECT_THAT(message_of([] {
                route(llama(), std::vector<RoutePattern>{{"*.up.*", Route::adamw}});
              }),
              HasSubstr("'*.up.*'"));
}

TEST(Routing, RefusesToSendAVectorToTheMatrixOptimizer) {
  EXPECT_THAT(message_of([] {
                route(llama(), std::vector<RoutePattern>{{"*norm*", Route::matrix}});
              }),
              AllOf(HasSubstr("*norm*"), HasSubstr("layernorm.weight"), HasSubstr("64"), HasSubstr("AdamW")));
}

TEST(Routing, OfNoParametersIsEmpty) { EXPECT_TRUE(route(std::vector<ParameterInfo>{}).empty()); }

TEST(RoutingTable, HasALineForEachParameterWithNameShapeOptimizerAndReason) {
  const std::string table = routing_table(route(llama()), "aurora");
  for (const RoutedParameter& parameter : route(llama())) {
    const auto at = table.find(parameter.name + " ");
    ASSERT_NE(at, std::string::npos) << parameter.name;
    const std::string line = table.substr(at, table.find('\n', at) - at);
    std::string shape;
    for (const Index size : parameter.shape)
      shape.append(shape.empty() ? "" : "x").append(std::to_string(size));
    EXPECT_THAT(line, HasSubstr(" " + shape + " "));
    EXPECT_THAT(line, HasSubstr(parameter.route == Route::matrix ? " aurora " : " adamw "));
    EXPECT_THAT(line, HasSubstr(parameter.reason));
  }
}

}  // namespace
}  // namespace aurora::test
