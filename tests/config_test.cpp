#include "config.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <limits>
#include <set>

#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(std::string_view key, std::string_view value, TrainConfig config = {}) {
  const TrainConfig before = config;
  const std::string message = error_of<std::invalid_argument>([&] { set(config, key, value); });
  EXPECT_TRUE(config == before) << key << " = " << value;
  return message;
}

std::string invalid(const TrainConfig& config) {
  return error_of<std::invalid_argument>([&] { validate(config); });
}

std::string value_of(const TrainConfig& config, std::string_view key) {
  for (const Setting& setting : settings(config)) {
    if (setting.key == key) return setting.value;
  }
  return "no " + std::string(key);
}

TEST(Config, NeuronRecordsComeTenTimesInARunUnlessAnIntervalIsSet) {
  TrainConfig config;
  for (const auto& [steps, interval] : {std::pair{500, 50}, {20000, 2000}, {25, 3}, {3, 1}}) {
    config.steps = steps;
    EXPECT_EQ(diagnose_interval(config), interval) << steps;
  }
  config.diagnose_every = 7;
  EXPECT_EQ(diagnose_interval(config), 7);
}

TEST(Config, DefaultsAreThoseOfTheContract) {
  const std::map<std::string, std::string> expected = {
      {"model.width", "128"},         {"model.layers", "4"},
      {"model.heads", "4"},           {"model.kv_heads", "4"},
      {"model.context", "128"},       {"model.expansion", "4"},
      {"train.batch", "16"},          {"train.warmup", "0.04"},
      {"train.cooldown", "0.4"},      {"train.clip", "1"},
      {"train.eval_every", "50"},     {"train.diagnose_every", "0"},
      {"train.eval_tokens", "32768"}, {"train.save_every", "500"},
      {"train.dtype", "f32"},         {"train.device", "cpu"},
      {"optim.optimizer", "aurora"},  {"optim.lr", "0.02"},
      {"optim.momentum", "0.95"},     {"adamw.lr", "0.003"},
      {"adamw.beta1", "0.9"},         {"adamw.beta2", "0.95"},
      {"adamw.eps", "1e-08"},         {"adamw.weight_decay", "0"},
      {"data.validation", "[]"}};
  for (const auto& [key, value] : expected) EXPECT_EQ(value_of({}, key), value) << key;
  EXPECT_NO_THROW(validate({}));
}

TEST(Config, EverySettingReadsBackWhatItSays) {
  TrainConfig config;
  config.data = {"/a b", "-", "/quote\"back\\slash\ttab"};
  std::set<std::string> keys;
  for (const char* optimizer : {"adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"}) {
    set(config, "optim.optimizer", optimizer);
    for (const Setting& setting : settings(config)) {
      TrainConfig other = config;
      ASSERT_NO_THROW(set(other, setting.key, setting.value)) << setting.key << " = " << setting.value;
      EXPECT_TRUE(other == config) << setting.key << " = " << setting.value;
      EXPECT_FALSE(setting.rule.empty() || setting.meaning.empty()) << setting.key;
      keys.insert(setting.key);
    }
  }
  EXPECT_TRUE(keys.contains("optim.beta2") && keys.contains("optim.pp_beta"));
}

TEST(Config, EverySettingChangesTheConfigurationAndOnlyItself) {
  const std::map<std::string, std::string> changed = {{"model.width", "256"},
                                                      {"model.layers", "3"},
                                                      {"model.heads", "8"},
                                                      {"model.kv_heads", "2"},
                                                      {"model.context", "64"},
                                                      {"model.expansion", "2.5"},
                                                      {"model.rope_theta", "50000"},
                                                      {"model.norm_eps", "1e-06"},
                                                      {"data.paths", "[\"/x\"]"},
                                                      {"data.validation", "[\"/y\"]"},
                                                      {"train.steps", "7"},
                                                      {"train.batch", "3"},
                                                      {"train.accumulate", "2"},
                                                      {"train.warmup", "0.1"},
                                                      {"train.cooldown", "0"},
                                                      {"train.clip", "0"},
                                                      {"train.seed", "9223372036854775807"},
                                                      {"train.threads", "2"},
                                                      {"train.eval_every", "5"},
                                                      {"train.diagnose_every", "6"},
                                                      {"train.eval_tokens", "4096"},
                                                      {"train.save_every", "8"},
                                                      {"train.keep", "2"},
                                                      {"train.save_momentum", "4"},
                                                      {"train.dtype", "bf16"},
                                                      {"train.device", "cuda:1"},
                                                      {"train.reduction", "ordered"},
                                                      {"optim.lr", "0.1"},
                                                      {"optim.momentum", "0.5"},
                                                      {"optim.nesterov", "false"},
                                                      {"optim.weight_decay", "0"},
                                                      {"optim.scale", "none"},
                                                      {"optim.polar", "cans-12"},
                                                      {"optim.precision", "float32"},
                                                      {"optim.sides", "longer"},
                                                      {"optim.pp_iterations", "3"},
                                                      {"optim.pp_beta", "0.25"},
                                                      {"optim.balance", "release"},
                                                      {"adamw.lr", "0.1"},
                                                      {"adamw.beta1", "0.5"},
                                                      {"adamw.beta2", "0.5"},
                                                      {"adamw.eps", "1e-06"},
                                                      {"adamw.weight_decay", "0.5"}};
  const std::set<std::string> with_one_value = {"optim.balance", "optim.optimizer"};
  const auto defaults = settings({});
  for (const Setting& setting : defaults) {
    if (with_one_value.contains(setting.key)) continue;
    ASSERT_TRUE(changed.contains(setting.key)) << setting.key;
    TrainConfig config;
    set(config, setting.key, changed.at(setting.key));
    const auto now = settings(config);
    ASSERT_EQ(now.size(), defaults.size());
    for (std::size_t i = 0; i < now.size(); ++i) {
      const std::string& key = defaults[i].key;
      EXPECT_EQ(now[i].value, key == setting.key ? changed.at(key) : defaults[i].value)
          << setting.key << " at " << key;
    }
  }
}

TEST(Config, ValuesOutsideTheirRuleAreRefusedWithIt) {
  EXPECT_EQ(refusal("train.steps", "-5"), "train.steps must be an integer from 1 to 1000000000, not '-5'");
  EXPECT_EQ(refusal("train.dtype", "f16"), "train.dtype must be one of f32, bf16, not 'f16'");
  EXPECT_EQ(refusal("model.expansion", "0"),
            "model.expansion must be a finite number > 0 and <= 64, not '0'");
  EXPECT_THAT(refusal("optim.momentum", "1.5"),
              HasSubstr("optim.momentum: aurora: momentum must be a finite number"));
  for (const char* key : {"model.width", "model.layers", "model.heads", "model.kv_heads", "model.context",
                          "train.steps", "train.batch", "train.accumulate", "train.save_every"}) {
    for (const char* value :
         {"0", "-1", "99999999999", "99999999999999999999", "1.5", "1e3", "", "x", "8x", " 8"}) {
      EXPECT_THAT(refusal(key, value), HasSubstr(std::string("not '") + value + "'"));
    }
  }
  for (const char* key :
       {"optim.lr", "adamw.lr", "optim.weight_decay", "train.clip", "train.warmup", "model.norm_eps"}) {
    for (const char* value : {"nan", "inf", "-0.5", "", "1,5", "0x1p-2"}) refusal(key, value);
  }
  for (const char* device : {"", "cuda:", "cuda:x", ":1", "cuda:0:1", "a b", "CUDA"})
    EXPECT_EQ(refusal("train.device", device),
              "train.device must be cpu, or a device of libtorch's as in cuda or cuda:1, not '" +
                  std::string(device) + "'");
  refusal("train.warmup", "1.01");
  refusal("train.seed", "-1");
  refusal("train.threads", "4294967296");
  refusal("adamw.beta1", "1");
  refusal("data.paths", "");
  refusal("data.paths", "[\"a\"");
  refusal("data.paths", "[1]");
  refusal("data.paths", "[\"a\"]\nother = 1");
  refusal("data.paths", "\xFF");
}

TEST(Config, UnknownKeysNameTheNearest) {
  EXPECT_EQ(refusal("model.widht", "1"), "there is no setting 'model.widht'; did you mean 'model.width'?");
  EXPECT_THAT(refusal("train.stepss", "1"), HasSubstr("'train.steps'"));
  EXPECT_THAT(refusal("", "1"), HasSubstr("no setting ''"));
  EXPECT_THAT(refusal("optim.momentun", "1"), HasSubstr("did you mean 'momentum'"));
  EXPECT_THAT(refusal("adamw.momentum", "1"), HasSubstr("adamw has no hyperparameter 'momentum'"));
  EXPECT_THAT(refusal("optim.optimizer", "auroa"), HasSubstr("did you mean 'aurora'"));
  EXPECT_THAT(refusal("optim.optimizer", "aurora:pp_iteration=3"), HasSubstr("did you mean 'pp_iterations'"));
  EXPECT_THAT(refusal("optim.optimizer", "aurora:"), HasSubstr("KEY=VALUE"));
}

TEST(Config, AnotherOptimizerBeginsWithItsDefaults) {
  TrainConfig config;
  set(config, "optim.lr", "0.5");
  set(config, "optim.optimizer", "aurora");
  EXPECT_EQ(value_of(config, "optim.lr"), "0.5");
  set(config, "optim.optimizer", "muon");
  EXPECT_TRUE(config.optim == Rule(MuonOptions{}));
  EXPECT_THAT(refusal("optim.pp_beta", "0.5", config), HasSubstr("muon has no hyperparameter 'pp_beta'"));
  set(config, "optim.optimizer", "aurora:pp_iterations=3+pp_beta=0.25+balance=release");
  EXPECT_TRUE(config.optim ==
              Rule(AuroraOptions{.pp_iterations = 3, .pp_beta = 0.25, .balance = Balance::release}));
}

TEST(Config, WithAdamWThereIsOneSetOfItsOptions) {
  TrainConfig config;
  set(config, "adamw.lr", "0.01");
  set(config, "optim.optimizer", "adamw");
  EXPECT_FALSE(config.optim);
  EXPECT_EQ(std::get<AdamWOptions>(config.rule()).lr, 0.01);
  set(config, "adamw.lr", "0.02");
  EXPECT_EQ(std::get<AdamWOptions>(config.rule()).lr, 0.02);
  EXPECT_EQ(config.adamw.lr, 0.02);
  EXPECT_EQ(refusal("optim.lr", "0.1", config),
            "with the optimizer adamw there is no setting 'optim.lr'; set adamw.lr");
  EXPECT_EQ(value_of(config, "optim.lr"), "no optim.lr");
  set(config, "optim.optimizer", "adamw:beta1=0.8+eps=1e-6");
  EXPECT_TRUE(config.adamw == (AdamWOptions{.lr = 0.02, .beta1 = 0.8, .eps = 1e-6}));
  EXPECT_TRUE(config.rule() == Rule(config.adamw));
  EXPECT_NO_THROW(validate(config));
}

TEST(Config, BothBetasCanBeSetAtOnce) {
  for (const char* text : {"0.8,0.7", "(0.8, 0.7)", "[ 0.8, 0.7 ]"}) {
    TrainConfig config;
    set(config, "adamw.betas", text);
    EXPECT_TRUE(config.adamw == (AdamWOptions{.beta1 = 0.8, .beta2 = 0.7})) << text;
  }
  EXPECT_THAT(refusal("adamw.betas", "0.8"), HasSubstr("adamw.betas: must be two numbers"));
  refusal("adamw.betas", "0.8,0.7,0.6");
  refusal("adamw.betas", "0.8,1");
}

TEST(Config, RulesThatJoinSettingsAreChecked) {
  const auto changed = [](auto change) {
    TrainConfig config;
    change(config);
    return invalid(config);
  };
  EXPECT_EQ(changed([](TrainConfig& c) { c.model.heads = 3; }),
            "model.width must be divisible by model.heads: 128 by 3");
  EXPECT_THAT(changed([](TrainConfig& c) { c.model.heads = c.model.kv_heads = 128; }),
              HasSubstr("128 / 128 = 1"));
  EXPECT_EQ(changed([](TrainConfig& c) { c.model.kv_heads = 3; }),
            "model.heads must be divisible by model.kv_heads: 4 by 3");
  EXPECT_THAT(changed([](TrainConfig& c) { c.model.expansion = 2.667; }),
              HasSubstr("341 neurons are an expansion of 2.6640625"));
  EXPECT_THAT(changed([](TrainConfig& c) { c.model.vocabulary = 300; }), HasSubstr("not 300"));
  EXPECT_THAT(changed([](TrainConfig& c) { c.warmup = 0.7; }), HasSubstr("0.7 + 0.4"));
  EXPECT_THAT(changed([](TrainConfig& c) {
                c.steps = 1'000'000'000, c.batch = c.accumulate = 65536, c.model.context = 1 << 20;
              }),
              HasSubstr("2^62"));
  EXPECT_THAT(changed([](TrainConfig& c) { std::get<AuroraOptions>(*c.optim).lr = 0; }),
              HasSubstr("optim.lr must be > 0"));
  EXPECT_THAT(changed([](TrainConfig& c) { c.adamw.lr = 0; }), HasSubstr("adamw.lr must be > 0"));
  EXPECT_THAT(changed([](TrainConfig& c) { c.adamw.lr = std::numeric_limits<double>::quiet_NaN(); }),
              HasSubstr("lr"));
  EXPECT_THAT(changed([](TrainConfig& c) { std::get<AuroraOptions>(*c.optim).momentum = 1.5; }),
              HasSubstr("momentum"));
  EXPECT_EQ(changed([](TrainConfig& c) { c.steps = 0; }),
            "train.steps must be an integer from 1 to 1000000000, not 0");
  EXPECT_THAT(changed([](TrainConfig& c) { c.dtype = "f16"; }), HasSubstr("f16"));
}

TEST(Config, PresetsAreThoseOfTheContract) {
  EXPECT_THAT(preset_names(), ElementsAre("tiny", "small", "base"));
  TrainConfig config;
  apply_preset(config, "small");
  EXPECT_TRUE(config.model ==
              (ModelConfig{.width = 512, .layers = 8, .heads = 8, .kv_heads = 8, .context = 512}));
  apply_preset(config, "base");
  EXPECT_TRUE(config.model ==
              (ModelConfig{.width = 768, .layers = 12, .heads = 12, .kv_heads = 12, .context = 1024}));
  EXPECT_NO_THROW(validate(config));
  apply_preset(config, "tiny");
  EXPECT_TRUE(config == TrainConfig{});
  EXPECT_THAT(error_of<std::invalid_argument>([&] { apply_preset(config, "smal"); }),
              HasSubstr("did you mean 'small'"));
}

TEST(Config, TomlReadsBackExactly) {
  const TemporaryFolder folder;
  for (const char* optimizer :
       {"adamw", "muon:polar=polar-express-7", "normuon", "u-normuon", "aurora", "riemannian-aurora"}) {
    TrainConfig config;
    apply_preset(config, "small");
    set(config, "optim.optimizer", optimizer);
    config.adamw.lr = 0.1 + 0.2;
    config.adamw.eps = 1e-300;
    config.warmup = 1.0 / 3;
    config.clip = 1e22;
    config.model.norm_eps = 5e-324;
    config.seed = 9223372036854775807u;
    config.data = {"/a \"b\"\\c", "/\xC3\xA9\n\x01\x7F", "-"};
    config.validation = {"/[x]"};
    const std::string text = to_toml(config);
    EXPECT_TRUE(from_toml(folder.write("config.toml", text)) == config) << text;
    EXPECT_EQ(to_toml(from_toml(folder / "config.toml")), text);
  }
}

TEST(Config, APartOfAFileGoesOverTheDefaults) {
  const TemporaryFolder folder;
  // The optimizer decides which other settings there are, wherever it stands.
  const TrainConfig config =
      from_toml(folder.write("config.toml",
                             "train.steps = 7\n[adamw]\nbetas = [0.8, 0.7]\n[optim]\nbeta2 = 0.5\n"
                             "optimizer = 'normuon'\nnesterov = false\n[data]\npaths = 'x'\n"));
  EXPECT_EQ(config.steps, 7);
  EXPECT_TRUE(config.adamw == (AdamWOptions{.beta1 = 0.8, .beta2 = 0.7}));
  EXPECT_TRUE(config.optim == Rule(NorMuonOptions{.nesterov = false, .beta2 = 0.5}));
  EXPECT_THAT(config.data, ElementsAre((fs::current_path() / "x").string()));
  EXPECT_EQ(config.batch, 16);
}

TEST(Config, RelativePathsBecomeAbsolute) {
  TrainConfig config;
  set(config, "data.paths", "[\"a/../b\", '-', \"/c\"]");
  EXPECT_THAT(config.data, ElementsAre((fs::current_path() / "b").string(), "-", "/c"));
  set(config, "data.validation", "one path");
  EXPECT_THAT(config.validation, ElementsAre((fs::current_path() / "one path").string()));
}

TEST(Config, ErrorsInAFileNameFileAndLine) {
  const TemporaryFolder folder;
  const auto bad = [&](const std::string& text) {
    const std::string file = folder.write("bad.toml", text);
    const std::string message = error_of<std::exception>([&] { from_toml(file); });
    EXPECT_THAT(message, testing::StartsWith(file + ":"));
    EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
    return message.substr(file.size());
  };
  EXPECT_THAT(bad("[train]\n\nsteps = -5\n"), testing::StartsWith(":3: train.steps must be"));
  EXPECT_THAT(bad("[train]\nsteps = 1\nsteps = 2\n"), testing::StartsWith(":3: not TOML"));
  EXPECT_THAT(bad("[train\n"), testing::StartsWith(":1: not TOML"));
  EXPECT_THAT(bad("[train]\nsteps = 1.5\n"), HasSubstr("'1.5'"));
  EXPECT_THAT(bad("[train]\nsteps = nan\n"), HasSubstr("'nan'"));
  EXPECT_THAT(bad("[train]\nsteps = [1]\n"), HasSubstr("'[ 1 ]'"));
  EXPECT_THAT(bad("[train.steps]\nx = 1\n"), HasSubstr("train.steps"));
  EXPECT_THAT(bad("\n[optim]\noptimizer = 'auroa'\n"), testing::StartsWith(":3: optim.optimizer: "));
  EXPECT_THAT(bad("trian.steps = 1\n"), HasSubstr("did you mean 'train.steps'"));
  EXPECT_THAT(bad("steps = 1\n"), HasSubstr("no setting 'steps'"));
  EXPECT_THAT(bad("[data]\npaths = [1]\n"), HasSubstr("data.paths must be"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { from_toml(folder / "none"); }),
              HasSubstr("none: cannot be opened"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { from_toml(folder.path()); }), HasSubstr("Is a directory"));
}

TEST(Config, AFileThatAsksForTooMuchIsRefusedAtOnce) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& text) {
    return error_of<std::runtime_error>([&] { from_toml(folder.write("run.toml", text)); });
  };
  std::string parts = "x";
  for (int i = 0; i < 100'000; ++i) parts += ".a";
  EXPECT_THAT(refused("# first\n" + parts + " = 1\n"), HasSubstr("run.toml: line 2 has a key of more than"));
  EXPECT_THAT(refused("[" + parts + "]\n"), HasSubstr("line 1 has a key of more than"));
  EXPECT_THAT(refused("a = [1, {" + parts + " = 1}]\n"), HasSubstr("line 1 has a key of more than"));
  EXPECT_THAT(refused(std::string(500'000, 'k') + " = 1\n"), HasSubstr("line 1 has a key of more than"));
  EXPECT_THAT(refused("\"" + std::string(500'000, 'k') + "\" = 1\n"), HasSubstr("has a key of more than"));
  EXPECT_THAT(refused("a = \"\"\"\nx\n\"\"\"\nb" + parts + " = 1\n"), HasSubstr("line 4 has a key"));
  EXPECT_THAT(refused(std::string((1 << 20) + 1, '\n')), HasSubstr("is longer than"));
  EXPECT_THAT(refused("a = " + std::string(100'000, '[')), HasSubstr("not TOML"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of<std::runtime_error>([&] { from_toml(folder / "pipe"); }),
              HasSubstr("is not a regular file"));
}

TEST(Config, DotsAndQuotesInValuesAreNoPartsOfKeys) {
  TrainConfig config;
  const std::string dots = "/a.b.c.d.e.f.g.h.i.j.k.l/" + std::string(3000, 'x');
  config.data = {dots, "/with \" and ' and # and = and [" + dots};
  config.validation = {"/\\\"" + dots};
  const TemporaryFolder folder;
  EXPECT_EQ(from_toml(folder.write("run.toml", to_toml(config))), config);
}

TEST(Config, TooManyPathsToBeReadAgainAreRefused) {
  TrainConfig config;
  for (int i = 0; i < 30'000; ++i)
    config.data.push_back("/a/folder/with/a/long/name/and/more/of/it/" + std::to_string(i));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { validate(config); }), HasSubstr("name folders"));
}

}  // namespace
}  // namespace aurora::trainer
