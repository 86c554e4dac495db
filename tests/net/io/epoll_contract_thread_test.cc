// The backend contract over epoll.
#include "tests/net/io/epoll_world.h"
#include "tests/net/io/io_contract.h"

namespace pulse::test {

INSTANTIATE_TYPED_TEST_SUITE_P(Epoll, IoContract, EpollWorld);

}  // namespace pulse::test
