#include "neuron_fates.hpp"

#include <limits>
#include <map>
#include <tuple>

namespace aurora::compare {
namespace {

constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
using Place = std::tuple<Index, std::string, Index>;  // layer, what, neuron

}  // namespace

std::vector<NeuronFate> neuron_fates(const RunData& run) {
  std::map<Place, NeuronFate> fates;
  std::map<Place, std::size_t> last_record;
  for (std::size_t record = 0; record < run.neurons.size(); ++record) {
    const NeuronSnapshot& snapshot = run.neurons[record];
    const auto note = [&](std::size_t layer, const char* what, const std::vector<Index>& neurons) {
      for (const Index neuron : neurons) {
        const Place place(static_cast<Index>(layer), what, neuron);
        const auto [entry, is_new] = fates.try_emplace(place, NeuronFate{.seed = run.config.seed,
                                                                         .layer = static_cast<Index>(layer),
                                                                         .what = what,
                                                                         .neuron = neuron,
                                                                         .first = snapshot.step,
                                                                         .since = snapshot.step,
                                                                         .records = 0,
                                                                         .revived = 0});
        NeuronFate& fate = entry->second;
        if (!is_new && last_record[place] + 1 != record) {
          ++fate.revived;
          fate.since = snapshot.step;
        }
        ++fate.records;
        last_record[place] = record;
      }
    };
    for (std::size_t layer = 0; layer < snapshot.layers.size(); ++layer) {
      note(layer, "gate", snapshot.layers[layer].starved_gate);
      note(layer, "up", snapshot.layers[layer].starved_up);
      note(layer, "dead", snapshot.layers[layer].dead_neurons);
    }
  }
  std::vector<NeuronFate> list;
  for (auto& [place, fate] : fates) {
    if (last_record[place] + 1 != run.neurons.size()) {
      ++fate.revived;
      fate.since = -1;
    }
    list.push_back(std::move(fate));
  }
  return list;
}

Persistence persistence(const RunData& run, std::span<const NeuronFate> fates) {
  double rows = 0;
  if (!run.neurons.empty()) {
    for (const LayerRecord& layer : run.neurons.back().layers)
      rows += layer.neurons < 0 ? kNotDefined : 2 * static_cast<double>(layer.neurons);
  }
  if (!(rows > 0)) return {kNotDefined, kNotDefined, kNotDefined, kNotDefined};
  Persistence shares{};
  for (const NeuronFate& fate : fates) {
    if (fate.what == "dead") continue;
    shares.ever += 1 / rows;
    if (fate.since < 0) {
      shares.revived += 1 / rows;
    } else {
      shares.at_end += 1 / rows;
      if (2 * fate.since <= run.config.steps) shares.lasting += 1 / rows;
    }
  }
  return shares;
}

}  // namespace aurora::compare
