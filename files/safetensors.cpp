#include "safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "atomic_file.hpp"
#include "json_text.hpp"
#include "mapped_file.hpp"

namespace aurora::trainer {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little,
              "safetensors data are used as they lie in the file");

constexpr std::uint64_t kLargestHeader = 100'000'000;
constexpr std::size_t kMostAxes = 64, kMostFields = 64, kMostMetadata = 100'000;
constexpr std::string_view kMetadata = "__metadata__";

constexpr std::pair<std::string_view, Index> kDTypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
    {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},     {"I32", 4},
    {"F32", 4},  {"U64", 8}, {"I64", 8}, {"F64", 8},     {"C64", 8}};

std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (const Index side : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(side);
  return text + "]";
}

/// Bytes of a packed tensor, or -1 where that is no Index.
Index packed_bytes(std::span<const Index> shape, Index element) {
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  Index bytes = element;
  for (const Index side : shape) {
    if (side < 0 || side > std::numeric_limits<Index>::max() / bytes) return -1;
    bytes *= side;
  }
  return bytes;
}

/// Reads the header while it is parsed, object by object, so that a hostile one never becomes a tree in
/// memory.
class HeaderReader {
 public:
  HeaderReader(std::string place, std::span<const std::byte> data) : place_(std::move(place)), data_(data) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth == 0 && (event == Event::array_start || event == Event::value))
      fail("the header is not an object");
    if (depth == 1 && (event == Event::array_start || event == Event::value))
      fail(quoted(name_) + " is not an object");
    if ((depth > 1 && event == Event::object_start) || (depth > 2 && event == Event::array_start)) {
      fail("the header is too deep");
    }
    if (event == Event::array_start) elements_ = 0;
    if (event == Event::value && depth == 3 && ++elements_ > kMostAxes)
      fail(quoted(name_) + " has a list too long");
    if (event == Event::object_start && depth == 1) fields_.clear();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (depth == 1) {
        name_ = key;
        if (name_ == kMetadata && std::exchange(metadata_read_, true)) fail("key __metadata__ occurs twice");
      } else if (!fields_.insert(key).second) {
        fail("key " + quoted(key) + " occurs twice");
      }
      if (depth == 2) field_ = key;
      const std::size_t most = name_ == kMetadata ? kMostMetadata : kMostFields;
      if (depth == 2 && fields_.size() > most)
        fail(quoted(name_) + " has more than " + std::to_string(most) + " entries");
    }
    if (name_ == kMetadata && depth == 2) {
      if (event == Event::array_start) fail("metadata " + quoted(field_) + " is not text");
      if (event != Event::value) return true;
      if (!parsed.is_string()) fail("metadata " + quoted(field_) + " is not text");
      metadata_[field_] = parsed.get<std::string>();
      return false;  // kept once
    }
    if (event != Event::object_end || depth != 1) return true;
    if (name_ != kMetadata) read_tensor(parsed);
    return false;
  }

  std::vector<TensorEntry> take_tensors() {
    std::ranges::sort(tensors_, {}, &TensorEntry::name);
    const auto twin = std::ranges::adjacent_find(tensors_, {}, &TensorEntry::name);
    if (twin != tensors_.end()) fail("key " + quoted(twin->name) + " occurs twice");
    std::ranges::sort(tensors_, {}, [](const TensorEntry& t) {
      return std::pair(t.bytes.data(), t.bytes.data() + t.bytes.size());
    });
    const std::byte* end = data_.data();
    for (const TensorEntry& tensor : tensors_) {
      if (tensor.bytes.data() != end) {
        fail(quoted(tensor.name) +
             (tensor.bytes.data() < end ? " overlaps the tensor" : " leaves a hole to the tensor") +
             " before it, at byte " + std::to_string(tensor.bytes.data() - data_.data()) + " of the data");
      }
      end += tensor.bytes.size();
    }
    const auto used = static_cast<std::size_t>(end - data_.data());
    if (used != data_.size()) {
      fail("holds " + std::to_string(data_.size()) + " bytes of data, the header describes " +
           std::to_string(used));
    }
    std::ranges::sort(tensors_, {}, &TensorEntry::name);
    return std::move(tensors_);
  }
  std::map<std::string, std::string> take_metadata() { return std::move(metadata_); }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(place_ + ": " + what); }
  static std::string quoted(const std::string& text) {
    return Json(text.substr(0, 200)).dump(-1, ' ', true, Json::error_handler_t::replace);
  }

  Index size_of(const Json& value, const char* field) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<Index>::max()) {
      fail(quoted(name_) + " has " + field + " " + value.dump().substr(0, 80) + ", which is no size");
    }
    return value.get<Index>();
  }

  const Json& field(const Json& object, const char* key, Json::value_t type) const {
    const auto found = object.find(key);
    if (found == object.end() || found->type() != type) {
      fail(quoted(name_) + " has no " + key + (type == Json::value_t::array ? " list" : " text"));
    }
    return *found;
  }

  void read_tensor(const Json& object) {
    TensorEntry tensor;
    tensor.name = name_;
    tensor.dtype = field(object, "dtype", Json::value_t::string).get<std::string>();
    const Index element = dtype_bytes(tensor.dtype);
    if (element == 0) fail(quoted(name_) + " has the unknown dtype " + quoted(tensor.dtype));
    for (const Json& side : field(object, "shape", Json::value_t::array)) {
      tensor.shape.push_back(size_of(side, "a side of"));
    }
    const Json& offsets = field(object, "data_offsets", Json::value_t::array);
    if (offsets.size() != 2)
      fail(quoted(name_) + " has " + std::to_string(offsets.size()) + " data_offsets, not 2");
    const Index begin = size_of(offsets[0], "a data offset of");
    const Index end = size_of(offsets[1], "a data offset of");
    if (begin > end || end > std::ssize(data_)) {
      fail(quoted(name_) + " lies at bytes " + std::to_string(begin) + " to " + std::to_string(end) +
           " of the data, which has " + std::to_string(data_.size()));
    }
    const Index needed = packed_bytes(tensor.shape, element);
    if (needed < 0) fail(quoted(name_) + " has a shape too large: " + shape_text(tensor.shape));
    if (needed != end - begin) {
      fail(quoted(name_) + " needs " + std::to_string(needed) + " bytes as " + tensor.dtype + " " +
           shape_text(tensor.shape) + ", its range has " + std::to_string(end - begin));
    }
    tensor.bytes = data_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    tensors_.push_back(std::move(tensor));
  }

  std::string place_;
  std::span<const std::byte> data_;
  std::string name_, field_;  // of the header, and in the object there
  std::set<std::string> fields_;
  bool metadata_read_ = false;
  std::size_t elements_ = 0;
  std::vector<TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace

Index dtype_bytes(std::string_view dtype) {
  for (const auto& [name, bytes] : kDTypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

namespace {

double as_double(std::uint16_t bits, bool brain) {
  if (brain) return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  // A half's exponent and fraction in a float's place are 2^112 too small, subnormal ones included.
  constexpr float kTwoTo112 = 5192296858534827628530496329220096.0F;
  const auto magnitude = static_cast<std::uint32_t>(bits & 0x7FFFU) << 13;
  const bool finite = (bits & 0x7C00U) != 0x7C00U;
  const float value =
      finite ? std::bit_cast<float>(magnitude) * kTwoTo112 : std::bit_cast<float>(magnitude | 0x7F800000U);
  return static_cast<double>((bits & 0x8000U) != 0 ? -value : value);
}

/// The bytes need not be aligned.
template <class T, class Convert>
void convert(const std::byte* bytes, std::span<double> values, Convert&& to_double) {
  for (double& value : values) {
    T stored;
    std::memcpy(&stored, bytes, sizeof stored);
    value = to_double(stored);
    bytes += sizeof stored;
  }
}

}  // namespace

bool is_floating(std::string_view dtype) {
  return dtype == "F64" || dtype == "F32" || dtype == "F16" || dtype == "BF16";
}

void values_as_double(const TensorEntry& tensor, Index first, std::span<double> values) {
  const Index element = dtype_bytes(tensor.dtype);
  if (!is_floating(tensor.dtype)) {
    throw std::invalid_argument("tensor " + tensor.name + " has dtype " + tensor.dtype +
                                ", not F64, F32, F16 or BF16");
  }
  const Index count = std::ssize(tensor.bytes) / element;
  if (first < 0 || first > count || std::ssize(values) > count - first) {
    throw std::invalid_argument("tensor " + tensor.name + " has " + std::to_string(count) +
                                " elements; there are no " + std::to_string(values.size()) + " from " +
                                std::to_string(first));
  }
  const std::byte* bytes = tensor.bytes.data() + first * element;
  if (tensor.dtype == "F64") {
    if (!values.empty()) std::memcpy(values.data(), bytes, values.size_bytes());
  } else if (tensor.dtype == "F32") {
    convert<float>(bytes, values, [](float x) { return static_cast<double>(x); });
  } else {
    const bool brain = tensor.dtype == "BF16";
    convert<std::uint16_t>(bytes, values, [brain](std::uint16_t x) { return as_double(x, brain); });
  }
}

struct SafetensorsFile::Impl {
  fs::path path;
  MappedFile file;
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

SafetensorsFile::SafetensorsFile(const fs::path& file) : impl_(new Impl{file, MappedFile(file), {}, {}}) {
  const std::span bytes = impl_->file.bytes();
  const auto fail = [&](const std::string& what) { throw std::runtime_error(file.string() + ": " + what); };
  std::uint64_t length = 0;
  if (bytes.size() < sizeof length) {
    fail("is no safetensors file: it has " + std::to_string(bytes.size()) + " bytes");
  }
  std::memcpy(&length, bytes.data(), sizeof length);
  const std::span rest = bytes.subspan(sizeof length);
  if (length > kLargestHeader) {
    fail("is no safetensors file: a header of " + std::to_string(length) + " bytes; at most " +
         std::to_string(kLargestHeader) + " are allowed");
  }
  if (length > rest.size()) {
    fail("is cut off or no safetensors file: a header of " + std::to_string(length) + " bytes in a file of " +
         std::to_string(bytes.size()));
  }
  const auto* text = reinterpret_cast<const char*>(rest.data());
  if (length == 0 || *text != '{') fail("is no safetensors file: the header does not begin with {");
  HeaderReader reader(file.string(), rest.subspan(length));
  try {
    const Json rootless =
        Json::parse(text, text + length, [&](int depth, Json::parse_event_t event, const Json& parsed) {
          return reader(depth, event, parsed);
        });
  } catch (const Json::exception& error) {
    impl_->file.require_whole();
    fail("has a header that is no JSON: " + json_fault(error));
  }
  impl_->tensors = reader.take_tensors();
  impl_->metadata = reader.take_metadata();
  impl_->file.require_whole();
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

const fs::path& SafetensorsFile::path() const { return impl_->path; }

const std::vector<TensorEntry>& SafetensorsFile::tensors() const { return impl_->tensors; }

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      impl_->tensors, name, {}, [](const TensorEntry& t) -> std::string_view { return t.name; });
  return found != impl_->tensors.end() && found->name == name ? &*found : nullptr;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->metadata; }

const MappedFile& SafetensorsFile::mapped() const { return impl_->file; }

void SafetensorsFile::require_whole() const { impl_->file.require_whole(); }

void SafetensorsFile::release(const TensorEntry& tensor) const { impl_->file.release(tensor.bytes); }

void write_safetensors(const fs::path& file, std::span<const TensorEntry> tensors,
                       const std::map<std::string, std::string>& metadata, const FetchBytes& fetch) {
  const auto fail = [&](const std::string& what) { throw std::runtime_error(file.string() + ": " + what); };
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& tensor : tensors) order.push_back(&tensor);
  // Wide types first, so that every tensor begins at a multiple of its element's size.
  std::ranges::sort(order, {},
                    [](const TensorEntry* t) { return std::pair(-dtype_bytes(t->dtype), t->name); });

  std::map<std::string, std::string> described = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) described[key] = value;
  // By hand: an ordered object looks through all its keys for each new one.
  std::string text = "{\"" + std::string(kMetadata) + "\":" + Json(described).dump();
  std::set<std::string_view> names;
  Index offset = 0;
  for (const TensorEntry* tensor : order) {
    const Index element = dtype_bytes(tensor->dtype);
    if (element == 0) fail("tensor " + tensor->name + " has the unknown dtype " + tensor->dtype);
    if (packed_bytes(tensor->shape, element) != std::ssize(tensor->bytes)) {
      fail("tensor " + tensor->name + " has " + std::to_string(tensor->bytes.size()) +
           " bytes, which is not " + tensor->dtype + " " + shape_text(tensor->shape));
    }
    if (tensor->name == kMetadata || !names.insert(tensor->name).second)
      fail("two tensors are named " + tensor->name);
    const Index end = offset + std::ssize(tensor->bytes);
    const nlohmann::ordered_json entry = {
        {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {offset, end}}};
    text += "," + Json(tensor->name).dump() + ":" + entry.dump();
    offset = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  if (length > kLargestHeader) fail("would have a header of " + std::to_string(length) + " bytes");

  FileWriter writer(file);
  writer.write(std::as_bytes(std::span(&length, 1)));
  writer.write(text);
  for (const TensorEntry* tensor : order) writer.write(fetch(*tensor));
  writer.finish();
}

}  // namespace aurora::trainer
