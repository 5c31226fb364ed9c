#include "archive.hpp"

#include <ATen/ATen.h>

#include <span>

namespace aurora::optim {

using at::Tensor;

void GroupOptions::serialize(torch::serialize::OutputArchive& archive) const {
  archive.write("rule", c10::IValue(std::string(name(rule))));
  c10::List<std::string> values;
  for (const auto& hyperparameter : hyperparameters(rule)) {
    values.push_back(hyperparameter.name + "=" + hyperparameter.value);
  }
  archive.write("hyperparameters", c10::IValue(values));
  // Per parameter: the four lengths, then the four lists; and how often the blocks repeat.
  c10::List<std::int64_t> numbers, all_repeats;
  for (const auto& [batch, rows, cols, row_blocks, repeats] : dimensions) {
    all_repeats.push_back(repeats);
    for (const auto length : {batch.size(), rows.size(), cols.size(), row_blocks.size()}) {
      numbers.push_back(static_cast<std::int64_t>(length));
    }
    for (const auto* axes : {&batch, &rows, &cols}) {
      for (const int axis : *axes) numbers.push_back(axis);
    }
    for (const Index block : row_blocks) numbers.push_back(block);
  }
  archive.write("dimensions", c10::IValue(numbers));
  archive.write("repeats", c10::IValue(all_repeats));
}

void GroupOptions::serialize(torch::serialize::InputArchive& archive) {
  c10::IValue rule_name, values, numbers;
  archive.read("rule", rule_name);
  archive.read("hyperparameters", values);
  archive.read("dimensions", numbers);

  Rule read_rule = rule_of(rule_name.toStringRef());
  for (const auto& value : values.toListRef()) {
    const std::string& text = value.toStringRef();
    const auto equals = text.find('=');
    if (equals == std::string::npos) fail("optim", "A saved hyperparameter is not name=value: ", text);
    set_hyperparameter(read_rule, text.substr(0, equals), text.substr(equals + 1));
  }

  std::vector<Dimensions> read_dimensions;
  const std::vector<std::int64_t> all = numbers.toIntVector();
  for (std::size_t at = 0; at < all.size();) {
    const auto take = [&](std::size_t count) {
      if (count > all.size() - at) fail("optim", "Saved dimensions end early: ", all.size(), " numbers");
      at += count;
      return std::span(all).subspan(at - count, count);
    };
    const auto lengths = take(4);
    const auto axes = [&](std::size_t which) {
      std::vector<int> list;
      for (const auto axis : take(static_cast<std::size_t>(lengths[which])))
        list.push_back(static_cast<int>(axis));
      return list;
    };
    Dimensions& read = read_dimensions.emplace_back();
    read.batch = axes(0);
    read.rows = axes(1);
    read.cols = axes(2);
    const auto blocks = take(static_cast<std::size_t>(lengths[3]));
    read.row_blocks.assign(blocks.begin(), blocks.end());
  }
  c10::IValue repeats;
  if (archive.try_read("repeats", repeats)) {  // older archives have none
    const std::vector<std::int64_t> counts = repeats.toIntVector();
    if (counts.size() != read_dimensions.size()) {
      fail("optim", "Saved dimensions need one number of repeats each: ", counts.size(), " for ",
           read_dimensions.size());
    }
    for (std::size_t i = 0; i < counts.size(); ++i) read_dimensions[i].repeats = counts[i];
  }
  rule = std::move(read_rule);
  dimensions = std::move(read_dimensions);
}

double GroupOptions::get_lr() const { return lr_of(rule); }

void GroupOptions::set_lr(double lr) { set_hyperparameter_value(rule, "lr", lr); }

void ParameterState::serialize(torch::serialize::OutputArchive& archive) const {
  ParameterState settled = *this;
  settled.settle();
  archive.write("step", c10::IValue(settled.step));
  for_each_tensor(*this, [&](const char* key, const Tensor& tensor) {
    // From the host: who loads may have another device.
    if (tensor.defined()) archive.write(key, tensor.cpu(), /*is_buffer=*/true);
  });
}

void ParameterState::settle() {
  if (!device_step.defined()) return;
  step = static_cast<std::int64_t>(device_step.item<double>());
  device_step.reset();
}

void ParameterState::serialize(torch::serialize::InputArchive& archive) {
  step = read_count(archive, "step");
  device_step.reset();
  for_each_tensor(*this, [&](const char* key, Tensor& tensor) {
    if (!archive.try_read(key, tensor, /*is_buffer=*/true)) tensor.reset();
  });
}

}  // namespace aurora::optim
