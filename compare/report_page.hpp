#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comparison.hpp"
#include "svg.hpp"

namespace aurora::compare {

// Pieces of the page. All take plain text, except `content` and `body`, which are HTML.

/// The whole document, with its style sheet and script.
std::string page(const std::string& title, const std::string& body);

/// Nothing where `content` is empty.
std::string section(std::string_view id, std::string_view heading, std::string_view introduction,
                    const std::string& content);

/// The charts that are there, then the content `beside` them, side by side where the page is wide.
std::string figures(const std::vector<std::optional<Chart>>& charts, const std::string& beside = {});

/// Switches for the series of all figures, which series_slots() numbers.
std::string legend(const std::vector<std::string>& names);

/// A piece of line in the colour and dash of a series.
std::string swatch(std::size_t index);

/// First cell of an optimizer's row: swatch, name and, smaller, what `below` says.
std::string optimizer_cell(std::size_t index, const std::string& name, const std::string& below = {});

/// A table that scrolls inside its own box.
std::string table(const std::string& content, std::string_view caption);

/// An entry of a description list; nothing where `value` is empty.
std::string entry(const std::string& name, const std::string& value);

/// A difference with its interval, Holm's where that is another, and the verdict as colour; "baseline" where
/// there is none.
std::string difference_cell(const Difference* difference, bool is_baseline);

}  // namespace aurora::compare
