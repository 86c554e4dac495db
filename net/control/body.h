// Reading the body of a request: an object whose keys are known, each of its kind. An error is
// "KEY: reason; remedy", and bad() the answer that it comes to.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "core/result.h"
#include "net/control/filter.h"
#include "net/control/reply.h"

namespace pulse {

// A key that no such request reads is a slip that could mean every connection.
Result<void> only_keys(const Json& body, std::initializer_list<std::string_view> known);

// What acts on connections names them, or says that it means all.
Result<ConnectionFilter> whom(const Json& body, const FilterNames& names);

// Empty where it is not there.
Result<std::string> text_of(const Json& body, std::string_view key, size_t bytes_max);

// "rate", a second; 0 where it is not there.
Result<uint64_t> rate_of(const Json& body);

Reply bad(std::string_view error);

}  // namespace pulse
