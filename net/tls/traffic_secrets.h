// What a handshake of TLS 1.3 agreed on, taken out of OpenSSL: the traffic secrets of both
// directions, and how many records were read and written with what follows from them.
//
//     allow_freezing(context)      once, before its first handshake
//     watch_secrets(ssl)           before a handshake, of a client or a server
//     frozen_beginning(ssl)        behind it; begin() of proto/tls/records.h goes on from there
//
// The secrets come by the keylog callback, which is called inside this process only: nothing else
// sees them, they are wiped with their SSL object, and where nothing is to be frozen there is no
// such callback. Sources: SSL_CTX_set_keylog_callback(3), SSL_CTX_set_msg_callback(3).
#pragma once

#include <openssl/types.h>

#include <optional>

#include "proto/tls/records.h"

namespace pulse {

// False: there is no memory.
bool allow_freezing(SSL_CTX* context);
// False: there is no memory. Requires: allow_freezing() of its context and, where it may change to
// another by the name of a server, of that one.
bool watch_secrets(SSL* ssl);
// The secrets are `ssl`'s, for as long as it is there, and are good for one connection: `ssl` must
// not read or write any more. None where it has to go on itself: it speaks TLS 1.2 or a suite that
// is not known here, its peer wants records shorter than 16 KiB, or it has read what was not asked
// for yet.
// Requires: watch_secrets(), and its handshake is over, with nothing read or written since.
std::optional<tls::Beginning> frozen_beginning(const SSL* ssl);

}  // namespace pulse
