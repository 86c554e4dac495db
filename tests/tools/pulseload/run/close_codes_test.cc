// The names of close codes.
#include "tools/pulseload/run/close_codes.h"

#include <gtest/gtest.h>

namespace pulse::load {
namespace {

TEST(CloseCodes, HaveTheNamesOfTheRegistryAndOurs) {
    EXPECT_EQ(name_of_close_code(0), "none given");
    EXPECT_EQ(name_of_close_code(1001), "1001 going away");
    EXPECT_EQ(name_of_close_code(4003), "4003 idle_timeout");
    EXPECT_EQ(name_of_close_code(4999), "4999");
}

}  // namespace
}  // namespace pulse::load
