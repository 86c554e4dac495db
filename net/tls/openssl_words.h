// What OpenSSL has to say of a failure, for people.
#pragma once

#include <string>

namespace pulse {

// Of the newest error of this thread, which is forgotten with all before it: "no shared cipher",
// "the peer's alert: unknown CA"; "no reason is known" where there is none.
std::string take_openssl_error();

}  // namespace pulse
