// The typed suite that the files of this folder add tests to; tests/net/io/io_contract.h has all.
#pragma once

#include "tests/net/io/io_stage.h"
#include "tests/support/scale.h"

namespace pulse::test {

// More than the kernels of both ends can hold of one stream while it is not read.
inline constexpr size_t kMoreThanFitsBytes = size_t{12} << 20;
// A poll that has nothing to do sleeps; a few early returns are allowed in a stretch of silence.
inline constexpr uint64_t kQuietPollsMax = 15;

template <class World>
class IoContract : public ::testing::Test {};
TYPED_TEST_SUITE_P(IoContract);

}  // namespace pulse::test
