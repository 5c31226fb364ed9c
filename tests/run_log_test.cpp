#include "run_log.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include "atomic_file.hpp"
#include "lock_file.hpp"
#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

using Json = nlohmann::ordered_json;
using test::content_of;
using test::error_of;
using test::TemporaryFolder;
using testing::HasSubstr;
using testing::Not;

const Json kHeader = {{"kind", "header"}, {"started", "2026-01-01T00:00:00Z"}, {"seed", 3}};

Json train_record(int step) {
  return {
      {"kind", "train"}, {"step", step}, {"loss", 5.0 / step}, {"seconds", 0.5 * step}, {"skipped", false}};
}

Json neuron_record(int step, int layer) {
  return {{"kind", "neurons"},
          {"step", step},
          {"layer", layer},
          {"dead", {{"0.1", 0.25}}},
          {"gate", {{"starved", {{"0.1", 0}}}, {"leverage", {0.5, 1.5}}, {"orthogonality_error", nullptr}}},
          {"up", {{"starved", {{"0.1", 0}}}}}};
}

void write_run(const std::filesystem::path& folder, int steps) {
  RunLog log(folder);
  log.write(kHeader);
  for (int step = 1; step <= steps; ++step) {
    log.write(train_record(step));
    if (step % 2 == 0) log.write(neuron_record(step, 1));
  }
}

/// All events after the first, which has the time of day; checksums make this the sequence of scalars.
std::string events_of(const std::filesystem::path& folder) {
  std::string all;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      all = content_of(entry.path());
      ++files;
    }
  }
  EXPECT_EQ(files, 1);
  constexpr std::size_t kFirstEvent = 16 + 24;
  return all.substr(kFirstEvent);
}

TEST(RunLog, ARecordIsALineAtOnce) {
  const TemporaryFolder folder;
  RunLog log(folder.path());
  log.write({{"kind", "train"}, {"step", 1}, {"loss", 0.1}});
  EXPECT_EQ(content_of(folder / "log.jsonl"), "{\"kind\":\"train\",\"step\":1,\"loss\":0.1}\n");
}

TEST(RunLog, NumbersThatAreNoneAreNull) {
  const TemporaryFolder folder;
  RunLog log(folder.path());
  log.write({{"kind", "train"}, {"loss", NAN}, {"grad_norm", HUGE_VAL}});
  EXPECT_EQ(content_of(folder / "log.jsonl"), "{\"kind\":\"train\",\"loss\":null,\"grad_norm\":null}\n");
}

TEST(RunLog, ARecordWithoutAKindIsRefused) {
  const TemporaryFolder folder;
  RunLog log(folder.path());
  EXPECT_THAT(error_of<std::invalid_argument>([&] { log.write({{"step", 1}}); }), HasSubstr("kind"));
  EXPECT_EQ(content_of(folder / "log.jsonl"), "");
}

TEST(RunLog, AResumedLogGoesOnAsIfItHadNeverStopped) {
  const TemporaryFolder whole, stopped;
  write_run(whole.path(), 6);
  write_run(stopped.path(), 5);
  stopped.write("events.out.tfevents.1.host.2.0", "of an earlier process");
  {
    RunLog log(stopped.path(), 4);
    EXPECT_EQ(log.seconds_before(), 2.0);
    log.write(train_record(5));
    log.write(train_record(6));
    log.write(neuron_record(6, 1));
    log.sync();
  }
  EXPECT_EQ(content_of(stopped / "log.jsonl"), content_of(whole / "log.jsonl"));
  EXPECT_EQ(events_of(stopped.path()), events_of(whole.path()));
  for (const auto& entry : std::filesystem::directory_iterator(stopped.path()))
    EXPECT_NE(entry.path().extension(), ".tmp");
}

TEST(RunLog, ASummaryIsCutBack) {
  const TemporaryFolder folder;
  write_run(folder.path(), 2);
  const std::string before = content_of(folder / "log.jsonl");
  RunLog(folder.path(), 2).write({{"kind", "summary"}, {"steps", 2}, {"val_loss", 1.5}});
  EXPECT_NE(content_of(folder / "log.jsonl"), before);
  const RunLog log(folder.path(), 2);
  EXPECT_EQ(content_of(folder / "log.jsonl"), before);
}

TEST(RunLog, ALastLineWithoutAnEndIsDropped) {
  const TemporaryFolder folder;
  write_run(folder.path(), 3);
  const std::string whole = content_of(folder / "log.jsonl");
  folder.write("log.jsonl", whole + "{\"kind\":\"train\",\"step\":3");
  const LogContents contents = read_log(folder / "log.jsonl");
  EXPECT_TRUE(contents.incomplete);
  EXPECT_EQ(contents.records.size(), 5u);
  { const RunLog log(folder.path(), 3); }
  EXPECT_EQ(content_of(folder / "log.jsonl"), whole);
  EXPECT_FALSE(read_log(folder / "log.jsonl").incomplete);
}

TEST(RunLog, ABrokenLineInTheMiddleIsNamed) {
  const TemporaryFolder folder;
  const std::string file =
      folder.write("log.jsonl", kHeader.dump() + "\n{\"kind\":\"tr\n" + train_record(2).dump() + "\n");
  EXPECT_THAT(error_of<std::runtime_error>([&] { read_log(file); }), HasSubstr(file + ": line 2 is no JSON"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { RunLog(folder.path(), 2); }), HasSubstr("line 2"));
}

TEST(RunLog, AMalformedRecordIsNamedByItsLine) {
  const TemporaryFolder folder;
  const auto fault = [&](const std::string& line) {
    const std::string file = folder.write("log.jsonl", kHeader.dump() + "\n" + line + "\n");
    EXPECT_EQ(read_damaged_log(file).bad_lines, std::vector<std::int64_t>{2}) << line;
    const std::string message = error_of<std::runtime_error>([&] { read_log(file); });
    EXPECT_THAT(message, HasSubstr(file + ": line 2 "));
    EXPECT_THAT(message, Not(HasSubstr("json.exception")));
    return message;
  };
  EXPECT_THAT(fault("[1]"), HasSubstr("is no record"));
  EXPECT_THAT(fault(R"({"kind":1})"), HasSubstr("is no record"));
  EXPECT_THAT(fault(R"({"kind":"train","step":"3"})"), HasSubstr("is no train record: \"step\""));
  EXPECT_THAT(fault(R"({"kind":"train","step":1.5})"), HasSubstr("\"step\""));
  EXPECT_THAT(fault(R"({"kind":"eval","step":18446744073709551615})"), HasSubstr("\"step\""));
  EXPECT_THAT(fault(R"({"kind":"neurons","step":1,"layer":{}})"), HasSubstr("\"layer\""));
  EXPECT_THAT(fault(R"({"kind":"neurons","step":1,"layer":0,"dead":1})"), HasSubstr("\"dead\""));
  EXPECT_THAT(fault(R"({"kind":"neurons","step":1,"layer":0,"dead":{},"gate":{"starved":{}},"up":[]})"),
              HasSubstr("\"up\""));
  EXPECT_THAT(fault(R"({"kind":"x","kind":"y"})"), HasSubstr("\"kind\" twice"));
  EXPECT_THAT(fault(R"({"kind":"x","a":)" + std::string(100000, '[') + std::string(100000, ']') + "}"),
              HasSubstr("nested deeper than 16"));
  EXPECT_THAT(fault(R"({"kind":"x","a":")" + std::string(17 << 20, 'a') + "\"}"),
              HasSubstr("is longer than"));
}

TEST(RunLog, APipeInItsPlaceIsNotWaitedFor) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "log.jsonl").c_str(), 0600), 0);
  EXPECT_THAT(error_of<std::runtime_error>([&] { read_log(folder / "log.jsonl"); }),
              HasSubstr("is not a regular file"));
}

TEST(RunLog, ALinkIsNotWrittenThrough) {
  const TemporaryFolder folder;
  folder.write("precious", "mine");
  std::filesystem::create_symlink("precious", folder / "log.jsonl");
  EXPECT_THAT(error_of<std::runtime_error>([&] { RunLog{folder.path()}; }), HasSubstr("is a link"));
  EXPECT_EQ(content_of(folder / "precious"), "mine");
}

TEST(RunLog, RecordsThatAreDueAgainAreCutBack) {
  const TemporaryFolder folder;
  write_run(folder.path(), 2);
  const std::string without =
      kHeader.dump() + "\n" + train_record(1).dump() + "\n" + train_record(2).dump() + "\n";
  ASSERT_NE(content_of(folder / "log.jsonl"), without);
  const RunLog log(folder.path(), 2, {"neurons"});
  EXPECT_EQ(content_of(folder / "log.jsonl"), without);
}

TEST(RunLog, AMissingLogCannotBeResumed) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<std::runtime_error>([&] { RunLog(folder.path(), 2); }),
              HasSubstr("log.jsonl: cannot be opened"));
}

TEST(RunLog, EventsAreTheNumbersOfTheRecords) {
  const TemporaryFolder folder;
  {
    RunLog log(folder.path());
    log.write(kHeader);
    log.write(train_record(1));
    log.write(neuron_record(2, 1));
    log.write({{"kind", "summary"}, {"steps", 2}, {"val_loss", 1.5}});
  }
  const std::string events = events_of(folder.path());
  for (const char* tag :
       {"train/loss", "train/seconds", "neurons/layer1/dead/0.1", "neurons/layer1/gate/leverage/0",
        "neurons/layer1/gate/leverage/1", "summary/val_loss"}) {
    EXPECT_THAT(events, HasSubstr(tag));
  }
  for (const char* absent : {"seed", "/step", "/layer\n", "orthogonality_error", "skipped"}) {
    EXPECT_THAT(events, testing::Not(HasSubstr(absent)));
  }
  // 2026-01-01 and half a second after 1970, as protobuf field 1.
  const double wall_time = 1767225600.5;
  EXPECT_THAT(events,
              HasSubstr("\x09" + std::string(reinterpret_cast<const char*>(&wall_time), sizeof wall_time)));
}

TEST(AtomicFile, TextReplacesTextAndLeavesNothingElse) {
  const TemporaryFolder folder;
  atomic_write_text(folder / "last", "checkpoint-000001\n");
  atomic_write_text(folder / "last", "checkpoint-000002\n");
  EXPECT_EQ(content_of(folder / "last"), "checkpoint-000002\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, ALinkIsReplacedAndNotFollowed) {
  const TemporaryFolder folder;
  folder.write("precious", "mine");
  std::filesystem::create_symlink("precious", folder / "last");
  atomic_write_text(folder / "last", "new");
  EXPECT_EQ(content_of(folder / "precious"), "mine");
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "last"));
  EXPECT_EQ(content_of(folder / "last"), "new");
}

TEST(AtomicFile, WhatIsThereIsNeverWrittenInto) {
  const TemporaryFolder folder;
  folder.write("precious", "mine");
  std::filesystem::create_symlink("precious", folder / "link");
  std::filesystem::create_symlink("nothing", folder / "dangling");
  for (const char* name : {"precious", "link", "dangling"}) {
    EXPECT_THAT(error_of<std::runtime_error>([&] { FileWriter{folder / name}; }),
                HasSubstr("cannot be created: File exists"));
  }
  EXPECT_EQ(content_of(folder / "precious"), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder / "nothing"));
}

TEST(AtomicFile, ATemporaryNameIsNewAndKnownByItsForm) {
  const auto first = temporary_name("folder/last"), second = temporary_name("folder/last");
  EXPECT_NE(first, second);
  EXPECT_EQ(name_of_temporary(first.filename().string()), "last");
  for (const char* other : {"last.tmp", "last", ".0123456789abcdef.tmp", "last.0123456789abcdeg.tmp",
                            "last.0123456789abcdef.tmpx", "last0123456789abcdef.tmp", "0123456789abcdef.tmp"})
    EXPECT_EQ(name_of_temporary(other), "") << other;
}

TEST(AtomicFile, AFailureLeavesNoTemporaryFile) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "last/x");
  EXPECT_THAT(error_of<std::runtime_error>([&] { atomic_write_text(folder / "last", "new"); }),
              HasSubstr("last: cannot be put in place"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, AMissingFolderIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<std::runtime_error>([&] { atomic_write_text(folder / "no/last", "x"); }),
              testing::AllOf(HasSubstr("no/last."), HasSubstr("cannot be created: No such file")));
}

TEST(LockFile, ASecondWriterIsKeptOutAndToldByWhom) {
  const TemporaryFolder folder;
  {
    const LockFile lock(folder.path());
    const std::string message = error_of<std::runtime_error>([&] { LockFile{folder.path()}; });
    EXPECT_THAT(message, HasSubstr(folder.path().string()));
    EXPECT_THAT(message, HasSubstr("process " + std::to_string(::getpid())));
  }
  EXPECT_NO_THROW(LockFile{folder.path()});
}

TEST(LockFile, AFileThatIsNotOursIsLeftAlone) {
  const TemporaryFolder folder;
  folder.write("precious.txt", "12 roses");
  const auto refused = [&] {
    const std::string message = error_of<std::runtime_error>([&] { LockFile{folder.path()}; });
    std::filesystem::remove(folder / "lock");
    return message;
  };
  std::filesystem::create_symlink("precious.txt", folder / "lock");
  EXPECT_THAT(refused(), HasSubstr("lock: is a link"));
  std::filesystem::create_hard_link(folder / "precious.txt", folder / "lock");
  EXPECT_THAT(refused(), HasSubstr("lock: is not the lock of a run"));
  std::filesystem::create_symlink("nothing", folder / "lock");
  EXPECT_THAT(refused(), HasSubstr("lock: is a link"));
  EXPECT_EQ(content_of(folder / "precious.txt"), "12 roses");
  EXPECT_FALSE(std::filesystem::exists(folder / "nothing"));
}

TEST(LockFile, AKilledProcessFreesIt) {
  const TemporaryFolder folder;
  const ::pid_t child = ::fork();
  if (child == 0) {
    const LockFile lock(folder.path());
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(content_of(folder / "lock"), std::to_string(child));
  EXPECT_NO_THROW(LockFile{folder.path()});
}

}  // namespace
}  // namespace aurora::trainer
