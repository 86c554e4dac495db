// The backend contract over io_uring: as it is, and starved of receive buffers.
#include "tests/net/io/io_contract.h"
#include "tests/net/io/uring_world.h"

namespace pulse::test {

INSTANTIATE_TYPED_TEST_SUITE_P(Uring, IoContract, UringWorld<Full>);
INSTANTIATE_TYPED_TEST_SUITE_P(UringStarved, IoContract, UringWorld<Starved>);

}  // namespace pulse::test
