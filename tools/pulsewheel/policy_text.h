// A policy for a cohort of users as an operator writes it:
//
//     ring=canary,10%: profile=mobile message-rate=20/s
//
// What is in front of the colon says for which users it is, and what is behind it how they are
// treated; without that they are only counted.
#pragma once

#include <string_view>

#include "core/result.h"
#include "core/sessions/cohorts.h"

namespace pulse::serve {

// The error quotes what is wrong and says what to write.
Result<CohortPolicy> parse_policy(std::string_view text);

}  // namespace pulse::serve
