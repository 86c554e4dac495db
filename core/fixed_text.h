// A few words put together on the stack.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "core/check.h"

namespace pulse {

// Requires: what is put in fits; each piece has a bound.
template <size_t kBytes>
class FixedText {
  public:
    FixedText& operator<<(std::string_view text) {
        PULSE_ASSERT(text.size() <= sizeof text_ - size_);
        std::memcpy(text_ + size_, text.data(), text.size());
        size_ += text.size();
        return *this;
    }
    FixedText& operator<<(uint64_t number) {
        char digits[20];
        const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        return *this << std::string_view(digits, static_cast<size_t>(end - digits));
    }
    // Room for that many more, which the caller writes.
    uint8_t* claim(size_t bytes) {
        PULSE_ASSERT(bytes <= sizeof text_ - size_);
        size_ += bytes;
        return reinterpret_cast<uint8_t*>(text_) + size_ - bytes;
    }
    std::string_view view() const { return {text_, size_}; }
    std::span<const uint8_t> bytes() const {
        return {reinterpret_cast<const uint8_t*>(text_), size_};
    }

  private:
    char text_[kBytes];
    size_t size_ = 0;
};

}  // namespace pulse
