// What HTTP field values are made of (RFC 9110 section 5.6): tokens, lists, quoted strings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulse {

bool is_token_char(char byte);
bool is_token(std::string_view text);                                     // not empty
bool equal_ignoring_case(std::string_view left, std::string_view right);  // of ASCII letters
std::string_view trim_blanks(std::string_view text);  // spaces and tabs at both ends

// Walks a field value from left to right. Each take_... consumes what it names if it is there.
class FieldScanner {
  public:
    explicit FieldScanner(std::string_view text) : rest_(text) {}

    bool at_end() const { return rest_.empty(); }
    void skip_blanks();
    bool take(char byte);
    std::string_view take_token();  // empty: there is none
    // A token or a quoted string that holds a token without escapes, as a parameter's value must be
    // in RFC 6455 section 9.1. Empty: there is none.
    std::string_view take_value();

  private:
    std::string_view rest_;
};

// Calls visit(element) for each element of a comma-separated list, blanks trimmed, empty ones left
// out (RFC 9110 section 5.6.1.2), until one call returns false. Not for values with quoted strings.
template <class F>
bool each_element(std::string_view list, F visit) {
    while (!list.empty()) {
        const size_t comma = list.find(',');
        const std::string_view element = trim_blanks(list.substr(0, comma));
        if (!element.empty() && !visit(element)) return false;
        list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    }
    return true;
}

}  // namespace pulse
