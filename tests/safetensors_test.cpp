#include "safetensors.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>

#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

using test::content_of;
using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

std::string number_bytes(std::uint64_t number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

/// A file with this header, whatever it says, and this many bytes of data.
std::string with_header(const std::string& header, std::size_t data_bytes) {
  return number_bytes(header.size()) + header + std::string(data_bytes, '\1');
}

std::string refusal(const std::string& content) {
  const TemporaryFolder folder;
  const std::string file = folder.write("bad.safetensors", content);
  const std::string message = error_of<std::runtime_error>([&] { SafetensorsFile{file}; });
  EXPECT_THAT(message, testing::StartsWith(file + ": "));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  EXPECT_LT(message.size(), 600u);
  return message;
}

std::string refusal_of_header(const std::string& header, std::size_t data_bytes = 4) {
  return refusal(with_header(header, data_bytes));
}

std::span<const std::byte> bytes_of(const auto& values) { return std::as_bytes(std::span(values)); }

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const TemporaryFolder folder;
  const std::vector<float> matrix = {1.5f, -2, 3, 4, 5, 1e-30f};
  const std::vector<double> scalar = {0.1};
  const std::vector<std::uint16_t> half = {1, 2, 3};
  const std::vector<TensorEntry> tensors = {
      {"w", "F32", {2, 3}, bytes_of(matrix)},
      {"a.half", "BF16", {3}, bytes_of(half)},
      {"scalar", "F64", {}, bytes_of(scalar)},
      {"empty", "I64", {0, 7}, {}},
  };
  write_safetensors(folder / "file", tensors, {{"note", "\"quoted\" \xC3\xA9"}});
  const SafetensorsFile file(folder / "file");
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors().front().name, "a.half");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("note"), "\"quoted\" \xC3\xA9");
  for (const TensorEntry& expected : tensors) {
    const TensorEntry* found = file.find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(found->dtype, expected.dtype);
    EXPECT_EQ(found->shape, expected.shape);
    ASSERT_EQ(found->bytes.size(), expected.bytes.size());
    if (!expected.bytes.empty()) {
      EXPECT_EQ(std::memcmp(found->bytes.data(), expected.bytes.data(), expected.bytes.size()), 0);
    }
  }
  EXPECT_EQ(file.find("b"), nullptr);
}

TEST(Safetensors, EveryTensorBeginsAtAMultipleOfItsElement) {
  const TemporaryFolder folder;
  const std::vector<std::uint16_t> half = {1, 2, 3};
  const std::vector<float> single = {1};
  const std::vector<double> wide = {1};
  const std::vector<TensorEntry> tensors = {{"a", "F16", {3}, bytes_of(half)},
                                            {"b", "F32", {1}, bytes_of(single)},
                                            {"c", "F64", {1}, bytes_of(wide)}};
  write_safetensors(folder / "file", tensors);
  const SafetensorsFile file(folder / "file");
  for (const TensorEntry& tensor : file.tensors()) {
    const auto address = std::bit_cast<std::uintptr_t>(tensor.bytes.data());
    EXPECT_EQ(address % static_cast<std::uintptr_t>(dtype_bytes(tensor.dtype)), 0u) << tensor.name;
  }
}

TEST(Safetensors, BytesAreThoseOfTheFormat) {
  const TemporaryFolder folder;
  const std::vector<float> one = {1};
  const std::vector<TensorEntry> tensors = {{"x", "F32", {1}, bytes_of(one)}};
  write_safetensors(folder / "file", tensors);
  std::string header =
      R"({"__metadata__":{"format":"pt"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(content_of(folder / "file"),
            number_bytes(header.size()) + header + std::string("\0\0\x80\x3F", 4));
}

TEST(Safetensors, AFileOfAnotherWriterIsReadInAnyOrder) {
  const TemporaryFolder folder;
  const std::string file =
      folder.write("file", with_header(R"({ "b":{"data_offsets":[4,6],"shape":[2],"dtype":"U8"},)"
                                       R"("z":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},)"
                                       R"("a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}} )",
                                       6));
  const SafetensorsFile read(file);
  EXPECT_TRUE(read.metadata().empty());
  EXPECT_THAT(read.find("b")->shape, ElementsAre(2));
  EXPECT_EQ(read.find("b")->bytes.data(), read.find("a")->bytes.data() + 4);
}

TEST(Safetensors, ATruncatedFileIsRefusedWithItsSizes) {
  EXPECT_THAT(refusal(""), HasSubstr("0 bytes"));
  EXPECT_THAT(refusal("1234567"), HasSubstr("7 bytes"));
  EXPECT_THAT(refusal(number_bytes(100) + "{}"), HasSubstr("a header of 100 bytes in a file of 10"));
  EXPECT_THAT(refusal(number_bytes(0)), HasSubstr("does not begin with {"));
  const std::string whole = with_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  EXPECT_THAT(refusal(whole.substr(0, whole.size() - 1)), HasSubstr("0 to 8 of the data, which has 7"));
}

TEST(Safetensors, EveryPrefixOfAFileIsRefused) {
  const std::string whole = with_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  for (std::size_t size = 0; size < whole.size(); ++size) refusal(whole.substr(0, size));
}

TEST(Safetensors, AHeaderBeyondItsLimitIsRefused) {
  EXPECT_THAT(refusal(number_bytes(100'000'001) + "{}"), HasSubstr("header of 100000001 bytes"));
  EXPECT_THAT(refusal(number_bytes(~std::uint64_t{0}) + "{}"), HasSubstr("18446744073709551615"));
}

TEST(Safetensors, AHeaderThatIsNoObjectIsRefused) {
  EXPECT_THAT(refusal_of_header("[1]"), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal_of_header(R"({"x":1})"), HasSubstr(R"("x" is not an object)"));
  EXPECT_THAT(refusal_of_header(R"({"x":[]})"), HasSubstr(R"("x" is not an object)"));
  EXPECT_THAT(refusal_of_header(R"({"x":)"), HasSubstr("no JSON"));
  EXPECT_THAT(refusal_of_header("{\"\xFF\":{}}"), HasSubstr("no JSON"));
  EXPECT_THAT(refusal_of_header(R"({} {})"), HasSubstr("no JSON"));
}

TEST(Safetensors, DeepJsonIsRefused) {
  EXPECT_THAT(refusal_of_header("{\"x\":{\"shape\":" + std::string(1'000'000, '[')), HasSubstr("too deep"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"x\":";
  EXPECT_THAT(refusal_of_header(objects), HasSubstr("too deep"));
}

TEST(Safetensors, AListWithoutEndIsRefused) {
  std::string ones = "1";
  for (int i = 0; i < 1000; ++i) ones += ",1";
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","shape":[)" + ones + R"(],"data_offsets":[0,4]}})"),
              HasSubstr("too long"));
}

TEST(Safetensors, DuplicateKeysAreRefused) {
  const std::string x = R"("x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(refusal_of_header("{" + x + "," + x + "}"), HasSubstr(R"("x" occurs twice)"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr(R"("dtype" occurs twice)"));
}

TEST(Safetensors, OverlapsAndHolesAreRefused) {
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                R"("y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                                6),
              HasSubstr(R"("y" overlaps)"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                R"("y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr("overlaps"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})", 5),
              HasSubstr("leaves a hole"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5),
              HasSubstr("holds 5 bytes of data, the header describes 4"));
}

TEST(Safetensors, OverflowInShapesIsRefused) {
  const auto shaped = [](const std::string& shape) {
    return refusal_of_header(R"({"x":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,4]}})");
  };
  EXPECT_THAT(shaped("[4294967296,4294967296]"), HasSubstr("too large"));
  // 2^62 + 1 elements of four bytes are four bytes modulo 2^64.
  EXPECT_THAT(shaped("[4611686018427387905]"), HasSubstr("too large"));
  EXPECT_THAT(shaped("[18446744073709551615]"), HasSubstr("no size"));
  EXPECT_THAT(shaped("[99999999999999999999999]"), HasSubstr("no size"));
  EXPECT_THAT(shaped("[-1]"), HasSubstr("no size"));
  EXPECT_THAT(shaped("[1.0]"), HasSubstr("no size"));
  EXPECT_THAT(shaped("[\"1\"]"), HasSubstr("no size"));
  EXPECT_THAT(shaped("1"), HasSubstr("no shape list"));
}

TEST(Safetensors, ARangeThatDoesNotFitIsRefused) {
  const auto placed = [](const std::string& offsets) {
    return refusal_of_header(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":)" + offsets + "}}");
  };
  EXPECT_THAT(placed("[4,0]"), HasSubstr("4 to 0"));
  EXPECT_THAT(placed("[0,9223372036854775807]"), HasSubstr("which has 4"));
  EXPECT_THAT(placed("[18446744073709551612,0]"), HasSubstr("no size"));
  EXPECT_THAT(placed("[0,3]"), HasSubstr("needs 4 bytes as F32 [1], its range has 3"));
  EXPECT_THAT(placed("[0]"), HasSubstr("1 data_offsets, not 2"));
  EXPECT_THAT(placed("[0,4,4]"), HasSubstr("3 data_offsets, not 2"));
}

TEST(Safetensors, AWrongDTypeIsRefused) {
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr(R"(unknown dtype "F33")"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr("no dtype text"));
  EXPECT_THAT(refusal_of_header(R"({"x":{"shape":[1],"data_offsets":[0,4]}})"), HasSubstr("no dtype text"));
}

TEST(Safetensors, MetadataThatIsNotTextIsRefused) {
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":1}})", 0), HasSubstr(R"(metadata "a" is not text)"));
}

TEST(Safetensors, WhatIsNoFileIsRefusedByName) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<std::runtime_error>([&] { SafetensorsFile{folder / "none"}; }),
              HasSubstr("none: cannot be opened: No such file"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { SafetensorsFile{folder.path()}; }),
              HasSubstr("Is a directory"));
}

TEST(Safetensors, EveryHalfPrecisionNumberIsReadExactly) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  std::vector<double> f16(bits.size()), bf16(bits.size());
  values_as_double({"x", "F16", {65536}, bytes_of(bits)}, 0, f16);
  values_as_double({"x", "BF16", {65536}, bytes_of(bits)}, 0, bf16);
  // The value of s eeee ffff: (-1)^s 1.f 2^(e - bias), without the 1 where e is 0.
  const auto value = [](unsigned word, int fraction_bits, int bias) {
    const auto fraction = static_cast<double>(word & ((1U << fraction_bits) - 1U));
    const int exponent_bits = 15 - fraction_bits;
    const int exponent = static_cast<int>((word >> fraction_bits) & ((1U << exponent_bits) - 1U));
    const double sign = (word & 0x8000U) != 0 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
      return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
    const double significand = std::ldexp(fraction, -fraction_bits) + (exponent == 0 ? 0 : 1);
    return sign * std::ldexp(significand, std::max(exponent, 1) - bias);
  };
  for (unsigned i = 0; i < bits.size(); ++i) {
    for (const auto& [actual, expected] :
         {std::pair(f16[i], value(i, 10, 15)), {bf16[i], value(i, 7, 127)}}) {
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(actual)) << i;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(actual), std::bit_cast<std::uint64_t>(expected)) << i;
      }
    }
  }
}

TEST(Safetensors, PartsOfATensorAreReadAsDouble) {
  std::string bytes = "x";  // what follows is not aligned
  for (const float number : {1.5F, -2.F, 0.1F})
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  const TensorEntry entry = {"x", "F32", {3}, std::as_bytes(std::span(bytes)).subspan(1)};
  std::vector<double> two(2);
  values_as_double(entry, 1, two);
  EXPECT_THAT(two, ElementsAre(-2.0, double{0.1F}));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { values_as_double(entry, 2, two); }),
              HasSubstr("x has 3 elements; there are no 2 from 2"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { values_as_double(entry, -1, two); }),
              HasSubstr("from -1"));
  const std::vector<std::int32_t> integers = {1, 2};
  EXPECT_THAT(error_of<std::invalid_argument>([&] {
                values_as_double({"n", "I32", {2}, bytes_of(integers)}, 0, two);
              }),
              HasSubstr("n has dtype I32"));
}

TEST(Safetensors, ReleasedTensorsReadTheSameAgain) {
  const TemporaryFolder folder;
  std::vector<double> numbers(5000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
  write_safetensors(folder / "file", std::vector<TensorEntry>{{"a", "F64", {5000}, bytes_of(numbers)},
                                                              {"b", "F64", {5000}, bytes_of(numbers)}});
  const SafetensorsFile file(folder / "file");
  std::vector<double> read(numbers.size());
  for (const char* name : {"a", "b", "a"}) {
    values_as_double(*file.find(name), 0, read);
    file.release(*file.find(name));
    EXPECT_EQ(read, numbers);
  }
}

TEST(Safetensors, TheWriterRefusesWhatTheReaderWould) {
  const TemporaryFolder folder;
  const std::vector<float> one = {1};
  const auto refused = [&](std::vector<TensorEntry> tensors) {
    return error_of<std::runtime_error>([&] { write_safetensors(folder / "file", tensors); });
  };
  EXPECT_THAT(refused({{"x", "F32", {2}, bytes_of(one)}}), HasSubstr("x has 4 bytes, which is not F32 [2]"));
  EXPECT_THAT(refused({{"x", "F31", {1}, bytes_of(one)}}), HasSubstr("unknown dtype"));
  EXPECT_THAT(refused({{"x", "F32", {1}, bytes_of(one)}, {"x", "F32", {1}, bytes_of(one)}}),
              HasSubstr("two tensors are named x"));
  EXPECT_FALSE(std::filesystem::exists(folder / "file"));
}

TEST(Safetensors, AFullDiskIsAnError) {
  const TemporaryFolder folder;
  const std::vector<float> values(10'000, 1.0F);
  const std::vector<TensorEntry> tensors = {{"x", "F32", {10'000}, bytes_of(values)}};
  std::signal(SIGXFSZ, SIG_IGN);
  ::rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const ::rlimit small{.rlim_cur = 20'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message =
      error_of<std::runtime_error>([&] { write_safetensors(folder / "file", tensors); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(message, HasSubstr("file: cannot be written: File too large"));
}

TEST(Safetensors, EntriesOfMetadataAreLimited) {
  std::string metadata;
  for (int i = 0; i <= 100'000; ++i) metadata += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
  EXPECT_THAT(refusal_of_header("{\"__metadata__\":{" + metadata + "}}"),
              HasSubstr("\"__metadata__\" has more than 100000 entries"));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("occurs twice"));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":"","a":""}})"), HasSubstr("\"a\" occurs twice"));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":["x"]}})"), HasSubstr("\"a\" is not text"));
}

TEST(Safetensors, AFileThatBecomesShorterWhileItIsReadIsAnErrorAndNoSignal) {
  const TemporaryFolder folder;
  const std::vector<float> values(100'000, 1.0F);
  const std::vector<TensorEntry> tensors = {{"x", "F32", {100'000}, bytes_of(values)}};
  write_safetensors(folder / "file", tensors);
  const SafetensorsFile file(folder / "file");
  file.require_whole();
  std::filesystem::resize_file(folder / "file", 1000);
  std::vector<double> read(values.size());
  values_as_double(file.tensors().front(), 0, read);
  EXPECT_EQ(read.back(), 0);
  EXPECT_THAT(error_of<std::runtime_error>([&] { file.require_whole(); }),
              HasSubstr((folder / "file").string() + ": became shorter"));
}

}  // namespace
}  // namespace aurora::trainer
