// Counts the cases of a conformance suite by the section of the standard they test; the totals are
// printed when the program ends, one REPORT line a section.
#pragma once

#include <cstdint>
#include <string>

namespace pulse::test {

// One case of `section` ("RFC 6455 5.2 base framing"), tried in `deliveries` ways.
void count_case(const std::string& section, uint64_t deliveries);

}  // namespace pulse::test
