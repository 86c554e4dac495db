// A table of the report page.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "tools/pulseload/report/markup.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {

// Rows of cells under a heading; the first column names the row.
class HtmlTable {
  public:
    HtmlTable(std::string_view title, std::initializer_list<std::string_view> heads)
        : title_(title) {
        for (const std::string_view head : heads)
            rows_ += fmt::format("<th scope=\"col\">{}</th>", escaped(head));
        rows_ = "<thead><tr>" + rows_ + "</tr></thead>\n<tbody>";
    }
    HtmlTable& row() {
        rows_ += any_ ? "</tr>\n<tr>" : "<tr>";
        any_ = true;
        return *this;
    }
    HtmlTable& cell(std::string_view text, std::string_view name = "") {
        rows_ += name.empty() ? std::string("<td>") : fmt::format("<td class=\"{}\">", name);
        rows_ += escaped(text) + "</td>";
        return *this;
    }
    HtmlTable& count(uint64_t count) { return cell(human_count(count)); }
    bool any() const { return any_; }
    // Nothing where there is no row.
    std::string html(int level = 2) const {
        if (!any_) return "";
        return fmt::format(
            "<h{0}>{1}</h{0}>\n<div class=\"table\" role=\"region\" tabindex=\"0\" "
            "aria-label=\"{1}\"><table>{2}</tr></tbody></table></div>\n",
            level, escaped(title_), rows_);
    }

  private:
    std::string title_;
    std::string rows_;
    bool any_ = false;
};

}  // namespace pulse::load
