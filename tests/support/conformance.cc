// The totals, and the GoogleTest environment that prints them.
#include "tests/support/conformance.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>

namespace pulse::test {
namespace {

struct Total {
    uint64_t cases = 0;
    uint64_t deliveries = 0;
};

std::map<std::string, Total>& totals() {
    static std::map<std::string, Total> instance;
    return instance;
}

class Report : public ::testing::Environment {
    void TearDown() override {
        for (const auto& [section, total] : totals())
            std::printf("REPORT %-44s %6llu cases %8llu deliveries\n", section.c_str(),
                        static_cast<unsigned long long>(total.cases),
                        static_cast<unsigned long long>(total.deliveries));
    }
};

[[maybe_unused]] const ::testing::Environment* const kReport =
    ::testing::AddGlobalTestEnvironment(new Report);

}  // namespace

void count_case(const std::string& section, uint64_t deliveries) {
    Total& total = totals()[section];
    ++total.cases;
    total.deliveries += deliveries;
}

}  // namespace pulse::test
