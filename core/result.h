// A value or an error that a person can act on. What the world did wrong is returned, never thrown.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "core/check.h"

namespace pulse {

// What went wrong, and what to do about it: "--listen 'tcp://x': no port; write tcp://HOST:PORT".
struct Error {
    std::string message;
};

inline std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

// Of a text that an operator gave: "'TEXT': WHAT; REMEDY".
inline Error wrong_text(std::string_view text, std::string_view what, std::string_view remedy) {
    return Error{quoted(text).append(": ").append(what).append("; ").append(remedy)};
}

template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : content_(std::move(value)) {}
    Result(Error error) : content_(std::move(error)) {}

    explicit operator bool() const { return content_.index() == 0; }
    T& operator*() {
        PULSE_ASSERT(content_.index() == 0);
        return *std::get_if<0>(&content_);
    }
    const T& operator*() const { return *const_cast<Result&>(*this); }
    T* operator->() { return &**this; }
    const T* operator->() const { return &**this; }
    const std::string& error() const {
        PULSE_ASSERT(content_.index() == 1);
        return std::get_if<1>(&content_)->message;
    }

  private:
    std::variant<T, Error> content_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error.message)) {}

    explicit operator bool() const { return !error_.has_value(); }
    const std::string& error() const {
        PULSE_ASSERT(error_.has_value());
        return *error_;
    }

  private:
    std::optional<std::string> error_;
};

}  // namespace pulse
