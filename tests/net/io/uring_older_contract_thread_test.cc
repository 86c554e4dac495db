// The backend contract over io_uring with its newer features off.
#include "tests/net/io/io_contract.h"
#include "tests/net/io/uring_world.h"

namespace pulse::test {

INSTANTIATE_TYPED_TEST_SUITE_P(UringPlain, IoContract, UringWorld<Plain>);

}  // namespace pulse::test
