// What OpenSSL holds of the heap, counted by the thread that takes it and gives it back.
//
// Nothing is shared between threads, so that counting costs a malloc_usable_size() and an addition.
// A connection's SSL object is made and freed by its reactor's thread; a block that another thread
// frees, such as a certificate after a reload, is counted off there: only the sum of all threads is
// exact. Source: CRYPTO_set_mem_functions(3).
#pragma once

#include <cstdint>

namespace pulse {

// From now on, in all threads. False: OpenSSL has memory already, and nothing is counted.
bool count_openssl_memory();
// It was called, and OpenSSL has heeded it.
bool openssl_memory_is_counted();

// While there is one, what OpenSSL frees on this thread is wiped, where memory is counted:
// SSL_free() leaves traffic secrets in what it gives back.
class WipedFrees {
  public:
    WipedFrees();
    ~WipedFrees();
    WipedFrees(const WipedFrees&) = delete;
    WipedFrees& operator=(const WipedFrees&) = delete;
};

// Of the calling thread, with what malloc() adds to each block; 0 where it is not counted.
int64_t openssl_memory_bytes();

}  // namespace pulse
