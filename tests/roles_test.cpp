#include "aurora/roles.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

ParameterInfo linear(std::string name, std::vector<Index> shape) {
  return {.name = std::move(name), .shape = std::move(shape), .owner = {"Linear"}};
}

ParameterInfo embedding(std::string name, std::vector<Index> shape) {
  return {.name = std::move(name), .shape = std::move(shape), .owner = {"Embedding"}, .embedding = true};
}

/// Of a module of a class that the table may know.
ParameterInfo owned(std::string name, std::vector<Index> shape, std::vector<std::string> owner,
                    std::vector<std::string> around = {}, std::map<std::string, Index> numbers = {}) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .owner = std::move(owner),
          .around = std::move(around),
          .number = [numbers](const std::string& number) -> std::optional<Index> {
            const auto found = numbers.find(number);
            return found == numbers.end() ? std::nullopt : std::optional(found->second);
          }};
}

/// How it is cut; nothing for AdamW.
std::string matrices_of(const ParameterInfo& parameter) {
  const auto routed = route(std::vector<ParameterInfo>{parameter}, {}, UnnamedHead::none).front();
  return routed.route == Route::matrix ? matrices_text(routed.shape, *routed.dimensions) : "";
}

/// A small Llama, in module order.
std::vector<ParameterInfo> llama() {
  return {embedding("model.embed_tokens.weight", {256, 64}),
          linear("model.layers.0.self_attn.q_proj.weight", {64, 64}),
          linear("model.layers.0.self_attn.k_proj.weight", {16, 64}),
          linear("model.layers.0.mlp.gate_proj.weight", {256, 64}),
          linear("model.layers.0.mlp.up_proj.weight", {256, 64}),
          linear("model.layers.0.mlp.down_proj.weight", {64, 256}),
          owned("model.layers.0.input_layernorm.weight", {64}, {"LlamaRMSNorm"}),
          owned("model.norm.weight", {64}, {"LlamaRMSNorm"}),
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
  EXPECT_EQ(by_name.at("model.layers.0.mlp.up_proj.weight").reason, "hidden matrix: up");
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
    EXPECT_EQ(route_of(owned("block.weight", shape, {"Conv2d"})), Route::adamw)
        << shape.size() << " dimensions";
  }
  EXPECT_EQ(route_of(owned("conv.weight", {8, 3, 3, 3}, {"Conv2d"})), Route::matrix);
  EXPECT_EQ(route_of(owned("conv.weight", {8, 3, 1, 1}, {"Conv2d"})), Route::matrix);
  EXPECT_EQ(route_of(owned("empty.weight", {0, 8}, {"Linear"})), Route::adamw);
}

TEST(Routing, KnowsEmbeddingsByModuleAndByName) {
  EXPECT_EQ(route_of(embedding("anything.weight", {50, 8})), Route::adamw);
  for (const std::string name :
       {"wte.weight", "transformer.wpe.weight", "tok_embeddings.weight", "embed_tokens.weight"}) {
    EXPECT_EQ(route_of({.name = name, .shape = {50, 8}}), Route::adamw) << name;
  }
  EXPECT_EQ(route_of(linear("time.embedding.weight", {50, 8})), Route::matrix)
      << "the class of the owner counts more than the name";
}

TEST(Routing, KnowsRoutersButNotGateProjections) {
  EXPECT_EQ(route_of(linear("layers.0.moe.router.weight", {8, 64})), Route::adamw);
  EXPECT_EQ(route_of(linear("layers.0.mlp.gate_proj.weight", {256, 64})), Route::matrix);
  EXPECT_EQ(route_of(linear("layers.0.mlp.gate.weight", {256, 64})), Route::matrix);
  EXPECT_EQ(route_of(owned("a.weight", {8, 64}, {"MixtralTopKRouter"})), Route::adamw);
  const auto by_name = routed({linear("layers.0.mlp.gate.weight", {8, 64}),
                               linear("layers.0.mlp.experts.0.up.weight", {64, 64}),
                               linear("layers.1.mlp.gate.weight", {64, 64})});
  EXPECT_EQ(by_name.at("layers.0.mlp.gate.weight").reason, "router") << "a gate beside experts";
  EXPECT_EQ(by_name.at("layers.1.mlp.gate.weight").route, Route::matrix);
}

TEST(Routing, KnowsTablesAndBiasesOfAnyNumberOfAxes) {
  for (const std::string name : {"attention.relative_position_bias_table", "experts.gate_up_proj_bias",
                                 "r_w_bias", "encoder.pos", "cls_token", "mixer.A_log", "model.latents"}) {
    EXPECT_EQ(route_of(owned(name, {16, 8}, {"SomeLayer"})), Route::adamw) << name;
    EXPECT_EQ(route_of(owned(name, {2, 16, 8}, {"SomeLayer"})), Route::adamw) << name;
  }
}

TEST(Routing, CutsWhatTheClassOfTheOwnerTells) {
  EXPECT_EQ(matrices_of(owned("h.0.attn.c_attn.weight", {16, 48}, {"Conv1D"}, {"GPT2Attention"})),
            "3 of 16x16");
  EXPECT_EQ(matrices_of(owned("a.weight", {16, 64}, {"Conv1D"})), "64x16") << "stored [in, out]";
  EXPECT_EQ(matrices_of(owned("a.weight", {8, 3, 2, 2}, {"Conv2d"})), "8x12");
  EXPECT_EQ(matrices_of(owned("a.weight", {8, 3, 2, 2}, {"Conv2d"}, {}, {{"groups", 2}})), "2 of 4x12");
  EXPECT_EQ(matrices_of(owned("a.weight", {8, 1, 2, 2}, {"Conv2d"}, {}, {{"groups", 8}})), "") << "depthwise";
  EXPECT_EQ(matrices_of(owned("a.weight", {8, 1, 2, 2}, {"Conv2d"})), "8x4") << "one channel in";
  EXPECT_EQ(matrices_of(owned("a.weight", {3, 8, 2, 2}, {"ConvTranspose2d"})), "8x12");
  EXPECT_EQ(matrices_of(owned("a.weight_ih_l0", {32, 6}, {"LSTM", "RNNBase"})), "4 of 8x6");
  EXPECT_EQ(matrices_of(owned("a.weight_hr_l0", {4, 8}, {"LSTM", "RNNBase"})), "4x8");
  EXPECT_EQ(matrices_of(owned("a.weight_hh", {24, 8}, {"GRUCell"})), "3 of 8x8");
  EXPECT_EQ(matrices_of(owned("a.in_proj_weight", {24, 8}, {"MultiheadAttention"})), "3 of 8x8");
}

TEST(Routing, CutsFusedWeightsAsTheirFamilyDoes) {
  const std::map<std::string, Index> heads = {{"num_attention_heads", 4}, {"num_kv_heads", 2}};
  const auto by_head = route(std::vector<ParameterInfo>{
      owned("a.query_key_value.weight", {48, 16}, {"Linear"}, {"GPTNeoXAttention"}, heads)});
  EXPECT_EQ(*by_head.front().dimensions,
            (Dimensions{.batch = {}, .rows = {0}, .cols = {1}, .row_blocks = {4, 4, 4}, .repeats = 4}));
  auto grouped = heads;
  grouped["new_decoder_architecture"] = 1;
  const auto falcon = route(std::vector<ParameterInfo>{
      owned("a.query_key_value.weight", {32, 16}, {"FalconLinear", "Linear"}, {"FalconAttention"}, grouped)});
  EXPECT_EQ(falcon.front().dimensions->row_blocks, (std::vector<Index>{8, 4, 4}));
  EXPECT_EQ(falcon.front().dimensions->repeats, 2);
  EXPECT_EQ(matrices_of(owned("a.qkv_proj.weight", {32, 16}, {"Linear"}, {"Phi3Attention"}, heads)),
            "16x16, 2 of 8x16");
  EXPECT_FALSE(falcon.front().guessed);
  const auto unknown_kin = route(std::vector<ParameterInfo>{linear("a.qkv.weight", {48, 16})}).front();
  EXPECT_TRUE(unknown_kin.guessed);
  EXPECT_EQ(matrices_text(unknown_kin.shape, *unknown_kin.dimensions), "3 of 16x16");
}

TEST(Routing, CutsStackedExpertsInTheOrientationThatTheDownProjectionShows) {
  const auto cut = [](std::vector<Index> gate_up, std::vector<Index> down, const std::string& family) {
    const auto routed =
        route(std::vector<ParameterInfo>{owned("mlp.experts.gate_up_proj", std::move(gate_up), {family}),
                                         owned("mlp.experts.down_proj", std::move(down), {family})});
    return matrices_text(routed[0].shape, *routed[0].dimensions) + "; " +
           matrices_text(routed[1].shape, *routed[1].dimensions);
  };
  EXPECT_EQ(cut({4, 24, 16}, {4, 16, 12}, "MixtralExperts"), "8 of 12x16; 4 of 16x12");
  EXPECT_EQ(cut({4, 16, 24}, {4, 12, 16}, "AriaExperts"), "8 of 12x16; 4 of 16x12");
  EXPECT_EQ(cut({4, 16, 24}, {4, 12, 16}, "GptOssExperts"), "8 of 12x16; 4 of 16x12");
}

TEST(Routing, OfUnknownAxesSaysWhatToWrite) {
  const ParameterInfo strange = owned("block.kernel", {4, 8, 8}, {"SomeLayer"});
  EXPECT_THAT(message_of([&] { route(std::vector<ParameterInfo>{strange}); }),
              AllOf(HasSubstr("dimensions={\"block.kernel\""), HasSubstr("patterns={\"block.kernel\""),
                    HasSubstr("4x8x8")));
  ParameterInfo frozen = strange;
  frozen.trainable = false;
  const auto routed = route(std::vector<ParameterInfo>{frozen}).front();
  EXPECT_EQ(routed.route, Route::adamw);
  EXPECT_TRUE(routed.guessed);
  ParameterInfo described = strange;
  described.described = true;
  EXPECT_EQ(route(std::vector<ParameterInfo>{described}).front().route, Route::matrix);
  const ParameterInfo fused =
      owned("a.kv_b_proj.weight", {40, 8}, {"Linear"}, {}, {{"num_attention_heads", 3}});
  EXPECT_THAT(message_of([&] { route(std::vector<ParameterInfo>{fused}); }), HasSubstr("40 rows"));
}

TEST(Routing, MarksWhatOnlyANameTells) {
  const auto named = route(std::vector<ParameterInfo>{{.name = "layers.0.up.weight", .shape = {8, 4}},
                                                      {.name = "lm_head.weight", .shape = {9, 4}}});
  EXPECT_TRUE(named[0].guessed);
  EXPECT_TRUE(named[1].guessed);
  EXPECT_THAT(routing_table(named, "muon"), HasSubstr("guess: hidden matrix"));
  EXPECT_FALSE(route(llama())[1].guessed);
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
  const auto by_name =
      routed({linear("0.weight", {8, 4}), owned("0.bias", {8}, {"Linear"}), linear("2.weight", {8, 8}),
              linear("4.weight", {3, 8}), owned("4.bias", {3}, {"Linear"})});
  EXPECT_EQ(by_name.at("0.weight").route, Route::matrix);
  EXPECT_EQ(by_name.at("2.weight").route, Route::matrix);
  EXPECT_EQ(by_name.at("4.weight").route, Route::adamw);
  EXPECT_THAT(by_name.at("4.weight").reason, HasSubstr("last linear"));
  EXPECT_TRUE(by_name.at("4.weight").guessed);
}

TEST(Routing, CallsNoLayerOfABlockTheHead) {
  for (const std::string last : {"layers.1.down_proj.weight", "pooler.dense.weight"}) {
    EXPECT_EQ(routed({linear("layers.0.down_proj.weight", {8, 8}), linear(last, {8, 8})}).at(last).route,
              Route::matrix)
        << last << " is the last linear layer of a backbone";
  }
  const auto lora = routed({linear("layers.0.q_proj.base_layer.weight", {8, 8}),
                            linear("layers.0.q_proj.lora_A.default.weight", {4, 8}),
                            linear("layers.0.q_proj.lora_B.default.weight", {8, 4})});
  EXPECT_EQ(lora.at("layers.0.q_proj.lora_B.default.weight").reason, "low-rank factor");
}

TEST(Routing, OfAFrozenHeadStillKnowsThatItIsTheHead) {
  ParameterInfo head = linear("lm_head.weight", {16, 8});
  head.trainable = false;
  EXPECT_EQ(
      routed({linear("up.weight", {8, 8}), linear("last.weight", {8, 8}), head}).at("last.weight").route,
      Route::matrix);
}

TEST(Routing, OfAHeadOfSeveralLayersTakesTheLast) {
  const auto by_name =
      routed({linear("lm_head.dense.weight", {8, 8}), linear("lm_head.decoder.weight", {16, 8}),
              linear("classifier.dense.weight", {8, 8}), linear("classifier.out_proj.weight", {3, 8}),
              linear("cls.seq_relationship.weight", {2, 8})});
  for (const auto& [name, parameter] : by_name) {
    EXPECT_EQ(parameter.route, name.find("dense") != std::string::npos ? Route::matrix : Route::adamw)
        << name;
  }
}

TEST(Routing, SendsTiedEmbeddingsToAdamWAndSaysToWhat) {
  const auto by_name = routed({{.name = "emb.weight",
                                .shape = {9, 4},
                                .owner = {"Embedding"},
                                .other_names = {"out.weight"},
                                .embedding = true},
                               linear("hidden.weight", {4, 4})});
  EXPECT_EQ(by_name.at("emb.weight").reason, "embedding, tied to out.weight");
  EXPECT_EQ(by_name.at("hidden.weight").route, Route::matrix)
      << "the tied head is the head, not the last other layer";
}

TEST(Routing, TakesASharedHiddenMatrixForWhatItIs) {
  ParameterInfo shared = linear("a.weight", {8, 8});
  shared.other_names = {"b.weight"};
  const auto by_name = routed({shared, linear("last.weight", {4, 8})});
  EXPECT_EQ(by_name.at("a.weight").reason, "hidden matrix, shared with b.weight");
  EXPECT_EQ(by_name.at("last.weight").route, Route::adamw) << "a tie without an embedding makes no head";
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
  for (const std::string pattern :
       {"*", "layers.*", "*.weight", "layers.1?.up.weight", "l*s.*.*.w*t", "layers.10.up.weight", "**weight",
        "layers.10.up.weight*", "layers.[0-9]*.up.*", "layers.1[!1-9].up.weight"}) {
    EXPECT_EQ(route(one, std::vector<RoutePattern>{{pattern, Route::adamw}}).front().route, Route::adamw)
        << pattern;
  }
  for (const std::string pattern :
       {"", "layers", "up", "layers.1?.weight", "?ayers.10.up.weigh", "layers.10.up.weight?",
        "layers.[a-z]*.up.weight", "layers.1\\0.up.weight"}) {
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

TEST(RoutingTable, EndsWithHowManyMatricesAreComputedHow) {
  std::vector<RoutedParameter> routed = route(llama());
  const auto matrices =
      std::ranges::count_if(routed, [](const auto& entry) { return entry.route == Route::matrix; });
  EXPECT_THAT(routing_table(routed, "muon"), Not(HasSubstr("parameters: ")));
  for (RoutedParameter& entry : routed) entry.method = "exact polar factors";
  EXPECT_THAT(routing_table(routed, "muon"),
              EndsWith("\nmuon of " + std::to_string(matrices) + " parameters: exact polar factors\n"));
  const auto one = std::ranges::find(routed, Route::matrix, &RoutedParameter::route);
  one->method = "polar-express-7 in float16";
  EXPECT_THAT(
      routing_table(routed, "muon"),
      EndsWith("\nmuon of " + std::to_string(matrices - 1) +
               " parameters: exact polar factors\nmuon of 1 parameter: polar-express-7 in float16\n"));
}

}  // namespace
}  // namespace aurora::test
